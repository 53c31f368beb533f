"""By how much SAM's test loss is below SGD's on the student-teacher regression, and whether that grows with the width.

With L the loss on clean test samples, for seed s of one network and setting,

    ρ_s = argmin_ρ Σ_{t≠s} L_t^{SAM}(ρ),    advantage_s = L_s^{SGD} − L_s^{SAM}(ρ_s),

so that no seed takes part in choosing the radius that it is judged by. Seeds differ in initial weights and in the order
of the samples; teacher, samples and wrong labels are the same for all, and intervals hold for these alone.
"""

import math

import numpy as np
import pandas

from lib.paper.analysis import effects
from lib.paper.claims import Effect, Finding
from lib.runs import Run, parameter_count

SETTING = ["label_noise", "weight_decay"]


def advantages(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row a setting, network and seed of a table of `sweep`: label_noise, weight_decay, parameters, seed, rho, sgd,
    sam (test losses), advantage, keys (of the seed's runs, in one string).

    Of the seeds that have a record of SGD and of SAM at every ρ of their network, where there are at least two. A ρ at
    which SAM diverges has an infinite loss and is not chosen; a seed of which SGD diverges is left out.
    """
    columns = [*SETTING, "parameters", "seed", "rho", "sgd", "sam", "advantage", "keys"]
    rows = []
    for (noise, decay, _), runs in table.groupby([*SETTING, "width"]):
        parameters = parameter_count.parameters(Run.of_row(runs.iloc[0]))
        values = runs["test_loss"].where(runs["status"] != "diverged", np.inf)
        losses = runs.assign(test_loss=values).pivot_table("test_loss", "seed", "rho", dropna=False).dropna()
        losses = losses[np.isfinite(losses[0.0])]
        if len(losses) < 2:
            continue
        sam = losses.drop(columns=0.0)
        for seed in losses.index:
            rho = sam.drop(index=seed).mean().idxmin()
            sgd, best = losses.loc[seed, 0.0], sam.loc[seed, rho]
            keys = " ".join(runs["key"][runs["seed"] == seed])
            rows.append((noise, decay, parameters, seed, rho, sgd, best, sgd - best, keys))
    return pandas.DataFrame(rows, columns=columns)


def advantage_slope(frame: pandas.DataFrame, noise: float, decay: float = 0.0) -> Finding:
    """How SAM's advantage in test loss grows with a tenfold number of parameters, at a label noise and weight decay."""
    part = frame[(frame["label_noise"] == noise) & (frame["weight_decay"] == decay)]
    effect = _slope(part)
    if math.isnan(effect.value):
        return Finding("fewer than two networks have seeds")
    ends = part.groupby("parameters")["advantage"].mean().iloc[[0, -1]]
    between = " and ".join(f"{mean:+.4f} at {count:,} parameters" for count, mean in ends.items())
    return Finding(
        f"slope {effect.value:+.4f} a decade (95% {effect.low:+.4f} to {effect.high:+.4f}); advantage {between}",
        effect=effect,
    )


def growth(frame: pandas.DataFrame) -> pandas.DataFrame:
    """One row a setting of `advantages`: the mean advantage of the smallest and of the largest network; the slope of
    the advantage over log₁₀ of the parameters with its 95% interval (low, high), from one slope a seed; seeds.

    >>> seeds = pandas.DataFrame({"seed": [0, 1, 0, 1], "parameters": [10, 10, 100, 100], "advantage": [1, 2, 3, 6]})
    >>> round(growth(seeds.assign(label_noise=0.0, weight_decay=0.0))["slope"].item(), 6)
    3.0
    """
    rows = []
    for setting, part in frame.groupby(SETTING):
        effect, means = _slope(part), part.groupby("parameters")["advantage"].mean()
        row = dict(zip(SETTING, setting, strict=True)) | {"smallest": means.iloc[0], "largest": means.iloc[-1]}
        rows.append(row | {"slope": effect.value, "low": effect.low, "high": effect.high, "seeds": effect.seeds})
    return pandas.DataFrame(rows, columns=[*SETTING, "smallest", "largest", "slope", "low", "high", "seeds"])


def _slope(part: pandas.DataFrame) -> Effect:
    return effects.slope(part, value="advantage", unit="loss a decade", pooled=False)  # seeds choose ρ for each other
