"""The gap at radii that are not chosen, for many seeds (Section 5): no search, so no selection bias.

For width w and seed s, in percentage points of test accuracy, with the mean over the radii of the table:

    gap_{w,s} = 100 (mean_ρ SAM_{w,s}(ρ) − SGD_{w,s}),    difference = mean_s gap_{w₁,s} − mean_s gap_{w₀,s}

between the widest network w₁ and the narrowest w₀. Its interval is Welch's, as the seeds of two widths are no pairs.
"""

import math
from typing import NamedTuple

import pandas
from scipy import stats

from lib.paper.claims import Verdict
from lib.runs import Run, parameter_count

PUBLISHED = 0.107  # points, between 61 and 267 thousand parameters, read off the published Figure 3a (± 0.01 each)
LEAST_SEEDS = 4  # fewer leave an interval that decides nothing


class Difference(NamedTuple):
    """Of the mean gaps of the widest and the narrowest network, in points, with its 95% interval; seeds of each."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, int]


def fixed_gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row a width and seed of a table of `sweep`, of the seeds that have SGD and SAM at every ρ of their width.

    Columns: width, parameters, seed, gap (points), keys (of the runs, in one string).
    """
    rows = []
    for width, runs in table.groupby("width"):
        radii = set(runs["rho"])
        parameters = parameter_count.parameters(Run.of_row(runs.iloc[0]))
        for seed, same in runs[runs["status"] == "done"].groupby("seed"):
            if set(same["rho"]) == radii:
                accuracy = same.groupby("optimizer")["test_accuracy"].mean()
                keys = " ".join(same["key"])
                rows.append((width, parameters, seed, 100 * (accuracy["sam"] - accuracy["sgd"]), keys))
    return pandas.DataFrame(rows, columns=["width", "parameters", "seed", "gap", "keys"])


def difference(frame: pandas.DataFrame) -> Difference:
    """By how much the gap of the widest network exceeds that of the narrowest; NaN without two seeds of each."""
    ends = [frame["gap"][frame["parameters"] == end] for end in (frame["parameters"].max(), frame["parameters"].min())]
    seeds = (len(ends[0]), len(ends[1]))
    if min(seeds) < 2 or frame["parameters"].nunique() < 2:
        return Difference(math.nan, math.nan, math.nan, seeds)
    test = stats.ttest_ind(*ends, equal_var=False)
    interval = test.confidence_interval()
    return Difference(ends[0].mean() - ends[1].mean(), float(interval.low), float(interval.high), seeds)


def larger(frame: pandas.DataFrame) -> Verdict:
    """Whether the gap is larger in the widest network. It is if the interval of the difference is above zero, and is
    not if that lies below PUBLISHED; between the two, and with fewer than LEAST_SEEDS, the runs cannot tell."""
    result = difference(frame)
    if min(result.seeds) < LEAST_SEEDS or math.isnan(result.mean):
        return f"{min(result.seeds)} seeds, at least {LEAST_SEEDS} are needed", None
    each = "; ".join(
        f"{mean:+.3f} points at {parameters:,} parameters"
        for parameters, mean in frame.groupby("parameters")["gap"].mean().items()
    )
    text = f"difference {result.mean:+.3f} points (95% {result.low:+.3f} to {result.high:+.3f}, "
    text += f"n = {result.seeds[0]} and {result.seeds[1]}); published {PUBLISHED:+.3f}; {each}"
    return text, True if result.low > 0 else False if result.high < PUBLISHED else None
