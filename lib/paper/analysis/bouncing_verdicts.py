"""Conditions of the claims of notebook 06: from its tables to (what was measured, whether the claim holds)."""

import numpy as np
import pandas

from lib.theory.fit import power_law

Verdict = tuple[str, bool | None]
ACCURACY = 1e-12  # of the limit, relative


def statement(checks: pandas.DataFrame, name: str) -> Verdict:
    """A statement of `recurrence_checks` holds if no case violates it."""
    cases, violations = checks.set_index("statement").loc[name, ["cases", "violations"]]
    return f"{violations:,} violations in {cases:,} cases", bool(violations == 0)


def stationary(points: pandas.DataFrame) -> Verdict:
    """The rows of `stationary_checks`: zero gradients, the printed Hessian and value, and the printed signs."""
    p = points
    exact = (p["gradient"] < ACCURACY) & (p["formula"] < 1e-9)
    exact &= (p["value"] / p["expected value"] - 1).abs() < 1e-9
    signs = (p["negative"] == p["above"]) & (p["zero"] == p["same"] - 1) & (p["positive"] == p["below"] + 1)
    right, repeated = int((exact & signs).sum()), int((p["same"] > 1).sum())
    return f"{right} of {len(p)} points as stated, {repeated} of them with a repeated β", right == len(p)


def limit(table: pandas.DataFrame) -> Verdict:
    """Every run of `limits` that does not underflow gets to the limit, stays there and turns at every step."""
    kept = table[~table["lost"]]
    there = kept["steps"].notna() & (kept["later"] < 2 * ACCURACY) & kept["turns"]
    lost = f"; in {int(table['lost'].sum())} more, w₁ underflows to 0 on the way"
    return f"{int(there.sum())} of {len(kept)} runs to {ACCURACY:g} of the limit{lost}", bool(there.all())


def steps(table: pandas.DataFrame) -> Verdict:
    """The steps to the limit are at most twice ln(10¹²)(1/(ηλ_d) + 1/(λ_1²/λ_2² − 1))."""
    done = table.dropna(subset="steps")
    ratio = done["steps"] / (-np.log(ACCURACY) * (done["horizon"] + done["gap"]))
    return f"{ratio.min():.2f} to {ratio.max():.2f} times ln(10¹²)(1/ηλ_d + 1/(λ₁²/λ₂² − 1))", bool(ratio.max() <= 2)


def visits(table: pandas.DataFrame, epsilons=(0.1, 0.01)) -> Verdict:
    """Over whole runs, the steps with ‖v‖ ≥ (1 + ε)β_1 are no more than the bound."""
    done = table.dropna(subset="steps")
    shares = [done[f"visits_{epsilon}"] / done[f"bound_{epsilon}"] for epsilon in epsilons]
    most = [int(done[f"visits_{epsilon}"].max()) for epsilon in epsilons]
    text = ", ".join(f"{share.max():.1g} at ε = {epsilon:g}" for share, epsilon in zip(shares, epsilons, strict=True))
    words = f"at most this share of the bound: {text}; at most {' and '.join(map(str, most))} steps"
    return words, bool(all((share <= 1).all() for share in shares))


def minimax(table: pandas.DataFrame) -> Verdict:
    """SAM ends at the loss of the formula, above that of the minimax point, 0."""
    off = (table["measured"] / table["formula"] - 1).abs().max()
    ends = f"loss {table['measured'].min():.2g} to {table['measured'].max():.2g} in {len(table)} settings, minimax 0"
    return f"{ends}; within {off:.1g} of the formula", bool(off < 1e-9 and (table["measured"] > 0).all())


def batches(table: pandas.DataFrame, samples: int) -> Verdict:
    """SAM on mini-batches bounces if more than half of its steps change sides, at every batch size below the whole."""
    part = table[table["batch_size"] < samples].groupby("batch_size")["turns"].first()
    shares = ", ".join(f"{100 * turns:.0f}% at {size}" for size, turns in part.items())
    return f"steps that change sides, by batch size: {shares}", bool((part > 0.5).all())


def converges(table: pandas.DataFrame) -> Verdict:
    """Unnormalized SAM ends below 1e-20 of its first loss at every batch size."""
    ends = table.groupby("batch_size")["loss"].agg(lambda losses: losses.iloc[-1] / losses.iloc[0])
    return f"the loss falls to {ends.max():.1g} of its first value or less", bool((ends < 1e-20).all())


def precision(table: pandas.DataFrame) -> Verdict:
    """float32 loses the limit: SAM gets to it in float64, and its first component ends below 1e-3 of it in float32."""
    first = table[table["component"] == 1].groupby("precision")["size"]
    least, last = first.min()["float64"], first.last()
    words = f"|w₁| passes {least:.1g} of its limit; it ends at {last['float64']:.6g} of it in float64"
    return f"{words}, at {last['float32']:.1g} in float32", bool(
        abs(last["float64"] - 1) < 1e-9 and last["float32"] < 1e-3
    )


def error_bound(errors: pandas.DataFrame, bound: str) -> Verdict:
    """The error of one step of `polynomial_errors` is never above the bound "printed" or "corrected"."""
    above = errors["error"] > errors[bound]
    shares = above.groupby(errors["degree"]).mean()
    words = ", ".join(f"{100 * share:.0f}% of the steps on {degree}s" for degree, share in shares.items())
    tight = (errors["error"] / errors[bound])[errors[bound] > 0].max()
    return f"the error is above the bound in {words}; elsewhere at most {tight:.2g} of it", not above.any()


def drift_size(errors: pandas.DataFrame, after: str = "", floors=("curved", "flat")) -> Verdict:
    """The drift describes a step, or two (`after` is "2"), for small ηλ_1: the error over the drift falls with ηλ_1.

    The 95% interval of its exponent is above ½ on each of these floors, at the smallest ρ.
    """
    words, holds = [], True
    for floor in floors:
        small = errors[(errors["rho"] == errors["rho"].min()) & (errors["floor"] == floor)]
        ratio = small[f"error{after}"] / small[f"drift{after}"]
        fit = power_law(small["share"], ratio, groups=small["loss"])
        words.append(f"{floor} floor: error/drift ∝ (ηλ₁)^{fit.exponent:.2f} ({fit.low:.2f} to {fit.high:.2f})")
        words[-1] += f", {ratio.min():.1g} to {ratio.max():.1g}"
        holds &= fit.low > 0.5
    return "; ".join(words), holds


def network_cosine(windows: pandas.DataFrame) -> Verdict:
    """The first 100 displacements over two steps, averaged, have a cosine above 0.9 with −∇λ_max, at every ρ."""
    first, mean = (windows[windows["window"] == window]["cosine"] for window in (1, 100))
    words = f"cosine {first.min():.4f} or more over the first two steps, {mean.min():.3f} on average over 100"
    return words, bool(mean.min() > 0.9)


def network_flatter(path: pandas.DataFrame) -> Verdict:
    """λ_max falls by more than 5% under SAM at every ρ, and moves by less than 1% under GD."""
    ends = path.groupby("rho")["sharpness"].agg(lambda s: s.iloc[-1] / s.iloc[0] - 1)
    words = ", ".join(f"{100 * change:+.1f}% at ρ = {rho:g}" for rho, change in ends[ends.index > 0].items())
    words = f"λ_max changes by {words}, by {100 * ends[0]:+.2f}% under GD"
    return words, bool((ends[ends.index > 0] < -0.05).all() and abs(ends[0]) < 0.01)


def edge(series: pandas.DataFrame | None, gd: bool) -> Verdict:
    """Over the last half of training the mean of λ_max over the edge is within 20% of 1: GD's, or SAM's at every ρ."""
    if series is None:
        return "the network is not trained at this preset", None
    late = series[(series["step"] > series["step"].max() / 2) & ((series["rho"] == 0) == gd)]
    ratio = (late["sharpness"] / late["edge"]).groupby(late["rho"]).mean()
    words = ", ".join(f"{value:.3f}" + f" at ρ = {rho:g}" * (not gd) for rho, value in ratio.items())
    return f"λ_max over the edge: {words}", bool(ratio.between(0.8, 1.2).all())
