"""What may be said of trained weights as minima (Section 4): which networks came near zero loss, which of their numbers
converged, how SAM's compare with SGD's, and how near they are to the conditions (7).

The claims of Section 4 are about minima of zero loss. So a comparison of two networks is judged where both came near
it, and only told where they did not: their sharpness would be compared at unequal loss.

A `table` has the rows of `measure`, of the kind flatness.
"""

import numpy as np
import pandas

from lib import theory
from lib.claims import mean_and_spread

NEAR_ZERO = 0.01  # mean squared residual ‖f − y‖², of which always predicting 0 has 1; the paper names no number
QUANTITIES = ("a", "s2", "s3", "s4")


def near_zero(table: pandas.DataFrame) -> pandas.Series:
    """For each network whether its mean squared residual at the samples is below NEAR_ZERO."""
    return table["sample_loss"] < NEAR_ZERO


def unconverged(table: pandas.DataFrame) -> pandas.Series:
    """For each row the names of the eigenvalues that a record says had not converged; nothing is known of the others.

    Column x_converged, or converged for the rows of a landscape, speaks for x: a flag or, for several, a list of them.
    """
    columns = [name for name in table if name.endswith("converged")]

    def names(row):
        flags = {name.removesuffix("converged").removesuffix("_"): row[name] for name in columns}
        return [name or "eigenvalues" for name, flag in flags.items() if np.any(np.equal(flag, False))]

    return pandas.Series([names(row) for _, row in table[columns].iterrows()], index=table.index, dtype=object)


def settled(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table without the eigenvalues that had not converged (NaN); batch_s2 is s2 by another factor."""
    table = table.copy()
    for index, names in unconverged(table).items():
        names = [*names, "batch_s2"] if "s2" in names else names
        table.loc[index, [name for name in names if name in table]] = np.nan
    return table


def over_sgd(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """Of every network trained by SAM: rho, seed, the `ratio` of its value over that of SGD with the same seed, and
    whether both came near zero loss (`near_zero`)."""
    return _pairs(table, column, lambda rhos: [(0.0, rho) for rho in rhos if rho > 0])


def over_previous(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """The same, of SAM at each ρ over SAM at the next smaller one there is."""
    return _pairs(table, column, lambda rhos: list(zip(rhos[1:], rhos[2:], strict=False)))


def _pairs(table, column, of):
    table, rhos = settled(table).assign(near=near_zero(table)), sorted({0.0, *table["rho"]})
    found = []
    for seed, same in table.groupby("seed"):
        same = same.set_index("rho")
        for first, second in of(rhos):
            if {first, second} <= set(same.index):
                ratio = same.loc[second, column] / same.loc[first, column]
                found.append((second, seed, ratio, bool(same.loc[[first, second], "near"].all())))
    return pandas.DataFrame(found, columns=["rho", "seed", "ratio", "near_zero"]).dropna(subset="ratio")


def smaller(pairs: pandas.DataFrame) -> bool | None:
    """Whether all ratios of networks that came near zero loss are below 1; None where there is no such pair."""
    judged = pairs[pairs["near_zero"].astype(bool)]
    return bool((judged["ratio"] < 1).all()) if len(judged) else None


def told(pairs: pandas.DataFrame) -> str:
    """The ratios, a ρ each: those of networks that came near zero loss first, then those that are not judged."""
    parts = []
    for near, which in ((True, "both near zero loss"), (False, "not both near zero loss, so not judged")):
        some = pairs[pairs["near_zero"].astype(bool) == near].groupby("rho")["ratio"]
        if len(some):
            parts.append(f"{which}: " + ", ".join(f"ρ = {rho:g}: {mean_and_spread(ratio)}" for rho, ratio in some))
    return "; ".join(parts) or "no network of SAM beside one of SGD with the same seed"


def shares(table: pandas.DataFrame, *, batches: bool) -> pandas.DataFrame:
    """a, s₂, s₃ and s₄ of every network over their bounds in (7); 0 where there is no bound.

    As the theory has it, for single samples at the run's ρ; or, with `batches`, as training is done: the moments of
    batches at the radius ρ/‖g_B‖ that normalized SAM amounts to, with ‖g_B‖ the mean norm of a batch's gradient.
    """
    limits, prefix = bounds(table, batches=batches), "batch_" if batches else ""
    values = {name: settled(table)[name if name == "a" else prefix + name] for name in QUANTITIES}
    return pandas.DataFrame(values, index=table.index) / limits


def bounds(table: pandas.DataFrame, *, batches: bool) -> pandas.DataFrame:
    """The bounds of (7) on a, s2, s3 and s4 for every network, in either reading of `shares`; inf: none."""
    rho = table["rho"] / table["batch_gradient"] if batches else table["rho"]
    found = [theory.stability_bounds(eta, radius) for eta, radius in zip(table["lr"], rho, strict=True)]
    return pandas.DataFrame(found, index=table.index, columns=QUANTITIES)
