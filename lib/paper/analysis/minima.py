"""Notebook 09: how sharp the minima of SGD and SAM are, from tables of `measure` with the kind `ascent`, and the
1-sharpness of linear models in closed form (sections 3 and 4.1 of *Towards Understanding SAM*)."""

import itertools

import numpy as np
import pandas
import torch
from torch import nn

from lib import hessian
from lib.core.seeds import generator
from lib.paper.analysis import variants
from lib.paper.claims import Effect, Finding, Verdict
from lib.runs import Run, parameter_count

METHODS = {False: "SGD", True: "SAM"}
MODES = {"the batch": "train_norm", "training": "eval_norm"}  # whose statistics normalize, and the column


def radii(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row a network and radius: parameters, batch_size, method, name, seed, radius, sharpness, released,
    train_error and keys, of the measurement and of its run."""
    return _exploded(table, ["radii", "sharpness", "released"]).rename(columns={"radii": "radius"})


def shortfalls(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row a network and m: as `radii`, with m, one_step, many_steps and their ratio."""
    rows = _exploded(table, ["group_sizes", "one_step", "many_steps"]).rename(columns={"group_sizes": "m"})
    return rows.assign(ratio=rows["many_steps"] / rows["one_step"])


def _exploded(table: pandas.DataFrame, lists: list[str]) -> pandas.DataFrame:
    kept = ["parameters", "batch_size", "method", "name", "seed", "train_error", "keys"]
    done = table[table["status"] == "done"]
    if done.empty:
        return pandas.DataFrame(columns=[*kept, *lists])
    done = described(done)
    return done[[*kept, *lists]].explode(lists, ignore_index=True).astype(dict.fromkeys(lists, float))


def described(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table of `measure` with parameters, method, name ("SGD, batch 32") and keys."""
    method = (table["rho"] > 0).map(METHODS)
    return table.assign(
        parameters=[parameter_count.parameters(Run.of_row(row)) for _, row in table.iterrows()],
        method=method,
        name=method + ", batch " + table["batch_size"].astype(str),
        keys=table["key"] + " " + table["run_key"],
    )


FITTED = 0.01  # the training error up to which a minimum is one
UNFITTED = f"networks with a training error above {FITTED:.0%}"


def _fitted(table: pandas.DataFrame) -> pandas.DataFrame:
    return table[table["train_error"] <= FITTED]


def flatter(table: pandas.DataFrame) -> Finding:
    """log₁₀ of SAM's over SGD's m-sharpness at the same batch size, the mean over radii and batch sizes, of networks
    that fit their samples."""
    fitted = _fitted(table)
    if len(table) and fitted.empty:
        return Finding(UNFITTED, untested=UNFITTED)
    rows = fitted[fitted["sharpness"] > 0].assign(log=lambda part: np.log10(part["sharpness"].astype(float)))
    wide = rows.pivot_table("log", ["parameters", "seed", "batch_size", "radius"], "method")
    if not {"SGD", "SAM"} <= set(wide):
        return Finding("SGD and SAM have no networks in common")
    values = (wide["SAM"] - wide["SGD"]).dropna().groupby(["parameters", "seed"]).mean()
    return variants.mean(values.rename("value").reset_index(), "decades")


def ranking(table: pandas.DataFrame, errors: pandas.DataFrame) -> Verdict:
    """Whether at no radius the mean sharpnesses order all pairs of networks whose test errors differ as these do.
    errors: name, parameters, seed, error (%). A pair differs where the 95% interval of its difference over seeds has
    not 0 in it. None where a network lacks one of the four, has not fitted, or fewer than three pairs differ."""
    outcomes, words = [], []
    errors = errors.rename(columns={"error": "value"})
    for count, part in table.groupby("parameters"):
        part, here = _fitted(part), errors[errors["parameters"] == count]
        sharp = part.pivot_table("sharpness", "radius", "name")
        names = sorted(set(sharp) & set(here["name"]))
        if len(names) < 4:
            return f"{len(names)} of 4 kinds of networks at {count:,} parameters have fitted", None
        gaps = {pair: _difference(here, pair, variants.POINTS) for pair in itertools.combinations(names, 2)}
        differ = {pair: effect.value for pair, effect in gaps.items() if effect.low > 0 or effect.high < 0}
        if len(differ) < 3:
            return f"the test errors of {len(differ)} of 6 pairs differ at {count:,} parameters", None
        right = sum((sharp[a] - sharp[b]) * value > 0 for (a, b), value in differ.items())
        outcomes.append(right.max() < len(differ))
        words.append(
            f"at most {right.max()} of {len(differ)} pairs in order at {count:,} parameters, at ρ = {right.idxmax():g}"
        )
    return "; ".join(words) or "no networks", bool(all(outcomes)) if outcomes else None


def counterexample(table: pandas.DataFrame, errors: pandas.DataFrame, radius: float) -> Finding:
    """SGD with the small batch against SAM with the large: the log₁₀ ratio of sharpness and the difference of the test
    error, both from one value a seed."""
    small, large = table["batch_size"].min(), table["batch_size"].max()
    if len(table) and (table := _fitted(table)).empty:
        return Finding(UNFITTED, untested=UNFITTED)
    names = f"SGD, batch {small}", f"SAM, batch {large}"
    at = table[np.isclose(table["radius"], radius)].assign(value=lambda part: np.log10(part["sharpness"].astype(float)))
    errors = errors.rename(columns={"error": "value"})
    sharper, worse = _difference(at, names, "decades"), _difference(errors, names[::-1], variants.POINTS)
    words = f"log₁₀ of the sharpness of {names[0]} over that of {names[1]} {sharper}; "
    words += f"test error of {names[1]} minus that of {names[0]} {worse}"
    ends = [(effect.low, effect.high) for effect in (sharper, worse)]
    if np.isnan(ends).any():
        return Finding("fewer than two seeds")
    if all(low > 0 for low, _ in ends):
        return Finding(words, holds=True)
    return Finding(words, holds=False) if any(high < 0 for _, high in ends) else Finding(words, undecided=words)


def _difference(rows: pandas.DataFrame, names: tuple[str, str], unit: str) -> Effect:
    wide = rows.pivot_table("value", ["parameters", "seed"], "name")
    if not set(names) <= set(wide):
        return variants.mean_effect([], unit)
    return variants.mean_effect((wide[names[0]] - wide[names[1]]).dropna().groupby("seed").mean(), unit)


def shortfall_slopes(table: pandas.DataFrame) -> pandas.DataFrame:
    """Seed by seed, the slope of log₁₀(many/one) over log₁₀ m, the mean over SGD and SAM, of networks that fit their
    samples: parameters, seed, value."""
    rows = _fitted(table)
    rows = rows[(rows["one_step"] > 0) & (rows["many_steps"] > 0)]
    rows = rows.assign(log=np.log10(rows["ratio"]), variant=rows["m"])
    return variants.slopes(rows.groupby(["parameters", "seed", "variant"], as_index=False)["log"].mean(), "log")


def modes(table: pandas.DataFrame) -> Finding:
    """The mean |log₁₀| of the ratio of both modes of batch norm minus log₁₀ 2, of SAM's networks of all lengths."""
    done = table[(table["status"] == "done") & (table["rho"] > 0)]
    if done.empty:
        return Finding("no networks")
    ratio = np.log10(done["train_norm"].astype(float) / done["eval_norm"].astype(float)).abs() - np.log10(2)
    values = described(done).assign(value=ratio).groupby(["parameters", "seed"])["value"].mean().reset_index()
    finding = variants.mean(values, "decades")
    signs = done["eval_norm"].astype(float) > done["train_norm"].astype(float)
    return finding._replace(measured=f"{finding.measured}; evaluation's is larger in {signs.sum()} of {len(signs)}")


def by_mode(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row a network and mode of batch norm: method, seed, epochs, mode, sharpness, keys; none without networks."""
    columns, done = ["method", "seed", "epochs", "mode", "sharpness", "keys"], table[table["status"] == "done"]
    if done.empty:
        return pandas.DataFrame(columns=columns)
    done = described(done)
    parts = [done.assign(mode=f"statistics of {name}", sharpness=done[column]) for name, column in MODES.items()]
    return pandas.concat(parts, ignore_index=True)[columns].astype({"sharpness": float})


def released(table: pandas.DataFrame) -> Verdict:
    """Whether the released evaluation is negative at the smallest radius wherever a network fits all its samples."""
    first = table[(table["radius"] == table["radius"].min()) & (table["train_error"] == 0)]
    if first.empty:
        return "no network fits all its samples", None
    below = first["released"] < 0
    ours = first["sharpness"].median()
    return f"negative in {below.sum()} of {len(below)} networks; the true rise is {ours:.2g} in the median", below.all()


def linear(problems: int = 10, n: int = 8, d: int = 20, rho: float = 0.1) -> pandas.DataFrame:
    """1-sharpness of linear models on random data, three losses with two weights each: problem, loss, weights,
    measured, closed.

    "logistic" log(1 + exp(−yw·x)), measured by `hessian.m_sharpness` on two outputs ±w·x/2, whose weights a radius ρ
    moves by √2ρ in w; "hinge" max(0, 1 − yw·x), by a step on each margin; "squared" r², by `hessian.m_sharpness` from
    several starts. closed: mean of ℓ(yw·x − ρ‖x‖) − ℓ(yw·x), with √2ρ of two outputs, or of (|r| + ρ‖x‖)² − r².
    weights: "least", the solution of least norm whose margins are 1, and "other": margins from 1 to 3, or the solution
    plus a part that no sample sees.
    """
    rows = []
    for problem in range(problems):
        draw = generator(problem, "linear 1-sharpness")
        x = torch.randn(n, d, generator=draw, dtype=torch.float64)
        y = torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0).double()
        inverse, length = torch.linalg.pinv(x), rho * x.norm(dim=1)
        unseen = torch.randn(d, generator=draw, dtype=torch.float64)
        unseen -= inverse @ (x @ unseen)
        least, wide = inverse @ y, inverse @ (y * torch.linspace(1, 3, n, dtype=torch.float64))
        for name, w in {"least": least, "other": wide}.items():
            margin, labels = y * (x @ w), (y > 0).long()
            rows.append((problem, "logistic", name, _rise("cross_entropy", [-w / 2, w / 2], x, labels, rho)))
            rows[-1] += ((_softplus(2**0.5 * length - margin) - _softplus(-margin)).mean().item(),)
            moved = w - rho * y[:, None] * x / x.norm(dim=1, keepdim=True)
            measured = _hinge(y * (moved * x).sum(1)) - _hinge(margin)
            rows.append((problem, "hinge", name, measured, _hinge(margin - length) - _hinge(margin)))
        for name, w in {"least": least, "other": least + unseen}.items():
            rows.append((problem, "squared", name, _rise("squared", [w], x, y[:, None], rho)))
            rows[-1] += (length.square().mean().item(),)
    return pandas.DataFrame(rows, columns=["problem", "loss", "weights", "measured", "closed"])


def _softplus(values):
    return nn.functional.softplus(values)


def _hinge(margins):
    return (1 - margins).clamp(min=0).mean().item()


def _rise(loss, weights, x, y, rho):
    """Two starts, as the gradient of the squared loss is 0 at its minimizers; with a long step, which is projected."""
    model = nn.Linear(x.shape[1], len(weights), bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack(weights))
    return hessian.m_sharpness(model, loss, x, y, rho=rho, m=1, steps=2, step_size=1e6 * rho, starts=2)


def closed_form(table: pandas.DataFrame) -> Verdict:
    """Whether ascent agrees with the closed form of the logistic loss."""
    return _agrees(table[table["loss"] == "logistic"])


def equally_sharp(table: pandas.DataFrame) -> Verdict:
    """Whether two minimizers of the hinge loss are equally sharp."""
    wide = table[table["loss"] == "hinge"].pivot_table("measured", "problem", "weights")
    ratio = wide["other"] / wide["least"]
    words = (
        f"with margins of 1 to 3 the sharpness is {ratio.min():.2g} to {ratio.max():.2g} times that with margins of 1"
    )
    return words, bool((ratio - 1).abs().max() < 0.01)


def interpolators(table: pandas.DataFrame) -> Verdict:
    """Whether both interpolators have the 1-sharpness ρ²‖x‖², on average."""
    return _agrees(table[table["loss"] == "squared"])


def _agrees(part):
    off = (part["measured"] / part["closed"] - 1).abs().max()
    return f"off by at most {off:.1g} of it in {len(part)} cases", bool(off < 1e-6)
