"""The gap at radii that are not chosen, for many seeds (Section 5): no search, so no selection bias.

For width w and seed s, in percentage points of test accuracy, with the mean over the radii of the table:

    gap_{w,s} = 100 (mean_ρ SAM_{w,s}(ρ) − SGD_{w,s}),    difference = mean_s gap_{w₁,s} − mean_s gap_{w₀,s}

between the widest network w₁ and the narrowest w₀. Its interval is Welch's, as the seeds of two widths are no pairs.
"""

import math

import pandas

from lib.paper.analysis import effects
from lib.paper.claims import Effect, Finding
from lib.runs import Run, parameter_count


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


def difference(frame: pandas.DataFrame) -> Effect:
    """By how much the gap of the widest network exceeds that of the narrowest; unknown for a single network."""
    parts = [part["gap"].to_numpy() for _, part in frame.groupby("parameters")]
    if len(parts) < 2:
        return effects.contrast([], [], "points")
    return effects.welch(parts[-1], parts[0], "points")


def trend(frame: pandas.DataFrame) -> Finding:
    """By how much the gap grows with a tenfold number of parameters."""
    effect = effects.slope(frame)
    if math.isnan(effect.value):
        return Finding("fewer than two networks have seeds")
    return Finding(
        f"slope {effect.value:+.3f} points a decade (95% {effect.low:+.3f} to {effect.high:+.3f}), "
        f"{effect.networks} networks, n ≥ {effect.seeds}",
        effect=effect,
    )


def larger(frame: pandas.DataFrame) -> Finding:
    """By how much the mean gap is larger in the widest network than in the narrowest."""
    effect = difference(frame)
    if math.isnan(effect.value):
        return Finding("fewer than two networks have seeds")
    groups = frame.groupby("parameters")["gap"]
    each = "; ".join(f"{gaps.mean():+.3f} points at {count:,} parameters, n = {len(gaps)}" for count, gaps in groups)
    return Finding(
        f"difference {effect.value:+.3f} points (95% {effect.low:+.3f} to {effect.high:+.3f}); {each}", effect=effect
    )
