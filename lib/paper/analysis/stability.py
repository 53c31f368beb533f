"""Verdicts on trained weights as minima (Section 4): how SAM's compare with SGD's, and with the conditions (7).

The claims of Section 4 are about minima of zero loss. A comparison of two networks is judged only if both came near it;
else their sharpness would be compared at unequal loss. The paper does not define near zero. We use two THRESHOLDS and
give a verdict only if both agree.

A `table` has the rows of `measure`, of the kind flatness.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas
from scipy import stats

from lib.paper.analysis import effects
from lib.paper.analysis import stability_tables as tables
from lib.paper.claims import Effect, Finding, mean_and_spread
from lib.runs import UNRECORDED

THRESHOLDS = (0.01, 0.03)  # on the mean squared residual ‖f − y‖²; always predicting 0 scores 1
PAPER_EPOCHS = 100  # Appendix A


def near_zero(table: pandas.DataFrame, threshold: float) -> pandas.Series:
    """For each network whether its mean squared residual at the samples is below `threshold`."""
    return table["sample_loss"] < threshold


def over_sgd(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """Of every network trained by SAM: rho, seed, the `ratio` of its value over that of SGD with the same seed (NaN
    where one of them had not converged), and the larger `loss` of the two."""
    return _pairs(table, column, lambda rhos: [(0.0, rho) for rho in rhos if rho > 0])


def over_previous(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """The same, of SAM at each ρ over SAM at the next smaller one there is of the seed."""
    return _pairs(table, column, lambda rhos: list(itertools.pairwise(rhos[1:])))


def _pairs(table, column, pairs_of):
    table = tables.settled(tables.measured(table))
    rows = []
    for seed, same in table.groupby("seed"):
        same = same.set_index("rho")
        for first, second in pairs_of(sorted({0.0, *same.index})):
            if {first, second} <= set(same.index):
                ratio = same.loc[second, column] / same.loc[first, column]
                rows.append((second, seed, ratio, same.loc[[first, second], "sample_loss"].max()))
    return pandas.DataFrame(rows, columns=["rho", "seed", "ratio", "loss"])


def smaller(pairs: pandas.DataFrame, threshold: float) -> Effect:
    """log₁₀ of the ratios of networks whose losses are below `threshold`: their mean over ρ, by the variance pooled
    over ρ. Of the ρ those that most seeds have, so that a first seed of another one does not count as much."""
    judged = pairs[(pairs["loss"] < threshold) & pairs["ratio"].notna()]
    groups = [np.log10(part.to_numpy(float)) for _, part in judged.groupby("rho")["ratio"]]
    groups = [group for group in groups if len(group) == max(map(len, groups))]
    return effects.contrast(groups, [1 / max(1, len(groups))] * len(groups), "decades")


def falls(table: pandas.DataFrame, column: str, threshold: float) -> Effect:
    """The slope of log₁₀ of a quantity over log₁₀ ρ, of SAM's networks whose loss is below `threshold`."""
    done = tables.settled(tables.measured(table))
    judged = done[(done["rho"] > 0) & (done["sample_loss"] < threshold)]
    judged = judged.assign(log=np.log10(judged[column].astype(float)))
    return effects.slope(judged, "log", "decades a decade", over="rho")


def comparisons(table: pandas.DataFrame) -> Iterator[tuple[str, Finding]]:
    """For each claim that something is smaller, or falls: its name and what is found. Of the two THRESHOLDS, and of
    several quantities, the effect is the weakest."""
    pairs = {
        "2ab-flatter": {"a over that of SGD": "a"},
        "2c-uniform": {"s₂ over that of SGD": "s2"},
        "2-higher": {"s₃ over that of SGD": "s3", "s₄ over that of SGD": "s4"},
    }
    for name, each in pairs.items():
        over = {what: over_sgd(table, column) for what, column in each.items()}
        if any(map(len, over.values())):
            text = "; ".join(f"{what}, {describe_pairs(some)}" for what, some in over.items())
            some = [smaller(one, threshold) for one in over.values() for threshold in THRESHOLDS]
            yield name, Finding(f"{text}; {describe_networks(table)}", effect=effects.weakest(some, sign=-1))
    for name, column in {"2-a-falls": "a", "2c-falls": "s2", "2-s3-falls": "s3", "2-s4-falls": "s4"}.items():
        some = [falls(table, column, threshold) for threshold in THRESHOLDS]
        if not all(np.isnan(effect.value) for effect in some):
            text = f"over that at the next smaller ρ, {describe_pairs(over_previous(table, column))}"
            yield name, Finding(f"{text}; {describe_networks(table)}", effect=effects.weakest(some, sign=-1))


def describe_pairs(pairs: pandas.DataFrame) -> str:
    """The ratios, a ρ each: of networks below the first of THRESHOLDS, of others, and how many did not converge."""
    parts, lost = [], pairs["ratio"].isna().sum()
    for low, high in itertools.pairwise((0, *THRESHOLDS, np.inf)):
        name = f"larger residual {low:g} to {high:g}" if high < np.inf else f"above {low:g}, not judged"
        some = pairs[(pairs["loss"] >= low) & (pairs["loss"] < high)].dropna(subset="ratio").groupby("rho")["ratio"]
        if len(some):
            parts.append(f"{name}: " + ", ".join(f"ρ = {rho:g}: {mean_and_spread(ratio)}" for rho, ratio in some))
    parts += [f"{lost} not converged"] if lost else []
    return "; ".join(parts) or "no two networks of one seed"


def describe_networks(table: pandas.DataFrame) -> str:
    """Which networks a text is about: how many of all, their ρ and seeds; how many others are missing or diverged."""
    done, status = tables.measured(table), table["status"]
    rhos, seeds = (", ".join(f"{value:g}" for value in sorted(done[name].unique())) for name in ("rho", "seed"))
    lost = [f"{(status == name).sum()} {name}" for name in (*UNRECORDED, "diverged") if (status == name).any()]
    return ", ".join([f"from {len(done)} of {len(table)} networks (ρ = {rhos}; seeds {seeds})", *lost])


def zero_loss(table: pandas.DataFrame) -> Finding:
    """What is measured of "all networks are trained to near zero loss", and whether it holds: not where one diverged or
    did not get there by all THRESHOLDS; undecided while the thresholds disagree, others are missing, or one that is not
    there yet had fewer epochs than the paper's."""
    done, status = tables.measured(table), table["status"]
    loss, short = done["sample_loss"], done["epochs"] < PAPER_EPOCHS

    def outcome(threshold):
        near = near_zero(done, threshold)
        if (status == "diverged").any() or (~near & ~short).any():
            return False
        return None if status.isin(UNRECORDED).any() or not near.all() else True

    counts = " and ".join(f"below {threshold:g} at {near_zero(done, threshold).sum()}" for threshold in THRESHOLDS)
    text = f"mean squared residual {loss.min():.2g} to {loss.max():.2g} (always predicting 0 scores 1): {counts} of "
    text += f"{len(done)} networks"
    text += f"; {short.sum()} of them had fewer epochs than the paper's {PAPER_EPOCHS}" if short.any() else ""
    return _agreed(f"{text}; {describe_networks(table)}", {cut: outcome(cut) for cut in THRESHOLDS})


def _agreed(text: str, outcomes: dict[float, bool | None]) -> Finding:
    """A condition that is met or not by all THRESHOLDS alike; else it is undecided, and why is said."""
    if len(set(outcomes.values())) == 1 and None not in outcomes.values():
        return Finding(text, holds=outcomes[THRESHOLDS[0]])
    names = {True: "met", False: "not met", None: "open"}
    each = ", ".join(f"with {threshold:g} {names[holds]}" for threshold, holds in outcomes.items())
    return Finding(text, undecided=f"by the thresholds on the residual: {each}")


def agreement(table: pandas.DataFrame) -> Finding:
    """What is measured of "SAM's minima agree with (7)", of a alone, whose bound is necessary, as the networks were
    trained, at SAM's near zero loss; undecided where there is none of which a converged."""
    done = tables.measured(table)
    a, sam = tables.shares(done, batches=True)["a"], done["rho"] > 0
    parts, outcomes = [], {}
    for threshold in THRESHOLDS:
        near = a[sam & near_zero(done, threshold)]
        words = f"{(near <= 1).sum()} of {len(near)} within the bound, {_span(near)}" if len(near) else "none"
        parts.append(f"SAM's networks with a residual below {threshold:g}: {words}")
        outcomes[threshold] = bool((near.dropna() <= 1).all()) if near.notna().any() else None
    text = f"a for {tables.READINGS[True]}: {'; '.join(parts)}"
    return _agreed(f"{text}; {describe_networks(table)}", outcomes)


def alignment(table: pandas.DataFrame) -> Finding:
    """How far the largest of s₂, s₃ and s₄ is above its bound in (7), log₁₀, at SAM's minima near zero loss, in the
    paper's reading: single samples at ρ."""
    done = tables.measured(table)
    shares = {name: tables.shares(done, batches=batches) for batches, name in tables.READINGS.items()}
    largest = shares[tables.READINGS[False]][[*tables.QUANTITIES[1:]]].max(axis=1)
    sam, some = done["rho"] > 0, []
    for threshold in THRESHOLDS:
        judged = largest[sam & near_zero(done, threshold)].dropna()
        groups = [np.log10(part.to_numpy(float)) for _, part in judged.groupby(done["rho"])]
        some.append(effects.contrast(groups, [1 / max(1, len(groups))] * len(groups), "decades"))
    effect = effects.weakest(some, sign=-1)
    reached = tables.settled(done)["stability"]
    text = f"the largest of s₂, s₃ and s₄ for {tables.READINGS[False]}, SAM's networks: {_span(largest[sam])}"
    text += f"; for {tables.READINGS[True]}, "
    text += _span(shares[tables.READINGS[True]][[*tables.QUANTITIES[1:]]].max(axis=1)[sam])
    text += f"; a for {tables.READINGS[False]} {_span(shares[tables.READINGS[False]]['a'][sam])}"
    text += f"; Theorem 9's λ_max {reached.min():.3g} to {reached.max():.3g} for single samples"
    return Finding(f"{text}; {describe_networks(table)}", effect=effect)


def accuracy_and_sharpness(table: pandas.DataFrame, trained: pandas.DataFrame) -> Finding:
    """The slope of the test accuracy (points) over log₁₀ a, over all networks with a residual below the larger of
    THRESHOLDS. trained: the rows of `sweep` for the same runs."""
    done = tables.settled(tables.measured(table))
    done = done.merge(trained[["key", "test_accuracy"]], left_on="run_key", right_on="key", suffixes=("", "_run"))
    judged = done[(done["sample_loss"] < THRESHOLDS[-1]) & done["a"].notna()]
    if judged["a"].nunique() < 3:
        return Finding("fewer than three networks near zero loss")
    fit = stats.linregress(np.log10(judged["a"].astype(float)), 100 * judged["test_accuracy"].astype(float))
    seeds = int(judged.groupby("rho")["seed"].nunique().max())
    df = len(judged) - 2
    design = ((1.0, float(fit.stderr) * math.sqrt(df + 1), df + 1),)  # errs like the mean of so many values
    more = dict(unit="points a decade of a", seeds=seeds, networks=int(judged["rho"].nunique()), design=design)
    effect = Effect.of_error(fit.slope, fit.stderr, df, interval="regression", **more)
    return Finding(f"{effect}; {len(judged)} networks; {describe_networks(table)}", effect=effect)


def _span(values: pandas.Series) -> str:
    lost, text = values.isna().sum(), f"{values.min():.2g} to {values.max():.2g} times the bound"
    return text if not lost else f"{text}, not converged at {lost}" if lost < len(values) else "not converged"
