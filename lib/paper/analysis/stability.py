"""Verdicts on trained weights as minima (Section 4): how SAM's compare with SGD's, and with the conditions (7).

The claims of Section 4 are about minima of zero loss. A comparison of two networks is judged only if both came near it;
else their sharpness would be compared at unequal loss. The paper does not define near zero. We use two THRESHOLDS and
give a verdict only if both agree.

A `table` has the rows of `measure`, of the kind flatness.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas

from lib.paper.analysis import stability_tables as tables
from lib.paper.claims import mean_and_spread
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


def _pairs(table, column, of):
    table = tables.settled(tables.measured(table))
    rows = []
    for seed, same in table.groupby("seed"):
        same = same.set_index("rho")
        for first, second in of(sorted({0.0, *same.index})):
            if {first, second} <= set(same.index):
                ratio = same.loc[second, column] / same.loc[first, column]
                rows.append((second, seed, ratio, same.loc[[first, second], "sample_loss"].max()))
    return pandas.DataFrame(rows, columns=["rho", "seed", "ratio", "loss"])


def smaller(pairs: pandas.DataFrame, threshold: float, *, every: bool = False) -> bool | None:
    """Whether all ratios of networks whose losses are below `threshold` are below 1; None where there is none, and with
    `every` also where some pair cannot be judged."""
    judged = pairs[(pairs["loss"] < threshold) & pairs["ratio"].notna()]
    if judged.empty or (every and len(judged) < len(pairs)):
        return None
    return bool((judged["ratio"] < 1).all())


def comparisons(table: pandas.DataFrame) -> Iterator[tuple[str, str, bool | None]]:
    """For each claim that something is smaller: its name, what is measured, and whether it holds of all its pairs."""
    over = {name: over_sgd(table, name) for name in tables.QUANTITIES}
    pairs = {
        "2ab-flatter": {"a over that of SGD": over["a"]},
        "2c-uniform": {"s₂ over that of SGD": over["s2"]},
        "2c-falls": {"s₂ over that at the next smaller ρ": over_previous(table, "s2")},
        "2-higher": {"s₃ over that of SGD": over["s3"], "s₄ over that of SGD": over["s4"]},
    }
    for name, each in pairs.items():
        if any(map(len, each.values())):
            text = "; ".join(f"{what}, {describe_pairs(some)}" for what, some in each.items())
            yield (
                name,
                *_agreed(
                    f"{text}; {describe_networks(table)}",
                    lambda threshold, n=name, e=each: _all(e, threshold, n == "2c-falls"),
                ),
            )


def _all(pairs, threshold, every):
    """Whether all are smaller: False for one that is not, else None for one that is not judged."""
    each = [smaller(some, threshold, every=every) for some in pairs.values()]
    return False if False in each else None if None in each else True


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


def _agreed(text, outcome):
    """The text, and the outcome if it is the same by all THRESHOLDS; else None, and the text says what each gives."""
    by = {threshold: outcome(threshold) for threshold in THRESHOLDS}
    if len(set(by.values())) == 1:
        return text, by[THRESHOLDS[0]]
    names = {True: "supported", False: "not supported", None: "not tested"}
    each = ", ".join(f"with {threshold:g} {names[holds]}" for threshold, holds in by.items())
    return f"{text}; the thresholds disagree: {each}", None


def zero_loss(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "all networks are trained to near zero loss", and whether it holds: not where one diverged or
    did not get there; None while others are missing or, not there yet, had fewer epochs than the paper's."""
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
    return _agreed(f"{text}; {describe_networks(table)}", outcome)


def agreement(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "SAM's minima agree with (7)", and whether it holds: of a alone, whose bound is necessary, as
    the networks were trained, at SAM's near zero loss; None where there is none of which a converged.
    """
    done = tables.measured(table)
    by = {name: tables.shares(done, batches=batches) for batches, name in tables.READINGS.items()}
    a, sam = by[tables.READINGS[True]]["a"], done["rho"] > 0

    def outcome(threshold):
        judged = a[sam & near_zero(done, threshold)].dropna()
        return bool((judged <= 1).all()) if len(judged) else None

    def span(values):
        lost, text = values.isna().sum(), f"{values.min():.2g} to {values.max():.2g} times the bound"
        return text if not lost else f"{text}, not converged at {lost}" if lost < len(values) else "not converged"

    parts = []
    for threshold in THRESHOLDS:
        near = a[sam & near_zero(done, threshold)]
        said = f"{(near <= 1).sum()} of {len(near)} within the bound, {span(near)}" if len(near) else "none"
        parts.append(f"SAM's networks with a residual below {threshold:g}: {said}")
    text = f"a for {tables.READINGS[True]}: {'; '.join(parts)}; not judged, all {len(done)} networks: "
    reached = tables.settled(done)["stability"]
    text += f"Theorem 9's λ_max {reached.min():.3g} to {reached.max():.3g} for single samples, "
    text += f"a for {tables.READINGS[False]} {span(by[tables.READINGS[False]]['a'])}"
    text += "".join(
        f", the largest of s₂, s₃, s₄ for {n} {span(f[[*tables.QUANTITIES[1:]]].max(axis=1))}" for n, f in by.items()
    )
    return _agreed(f"{text}; {describe_networks(table)}", outcome)
