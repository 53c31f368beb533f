"""Effects over several networks and seeds, with intervals that pool the variance of the networks.

Runs of different seeds are independent, so a network c with n_c seeds gives n_c independent values y_cs with mean ȳ_c.
So are SGD and SAM of one seed, nearly (`seed_correlation`), and pairing them gains nothing. An effect is a contrast

    d = Σ_c w_c ȳ_c,    e² = s² Σ_c w_c²/n_c,    s² = Σ_c Σ_s (y_cs − ȳ_c)²/ν,    ν = Σ_c (n_c − 1),

where s² is the variance pooled over the networks. Four networks of three seeds have ν = 8 where one value a seed has 2.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas
from scipy import stats

from lib.paper.claims import deviations
from lib.paper.claims.effect import Effect


def contrast(groups: Sequence[Iterable[float]], weights: Sequence[float], unit: str = "", **more) -> Effect:
    """Σ w_c ȳ_c with its pooled interval; groups: the values of each network, one a seed.

    >>> round(contrast([[0.0, 1.0], [2.0, 3.0]], [-1, 1]).value, 3)
    2.0
    """
    groups = [np.asarray(list(group), dtype=float) for group in groups]
    counts = np.array([len(group) for group in groups])
    more = {"seeds": int(min(counts, default=0)), "networks": len(groups)} | more
    if not len(groups) or not counts.all():
        return Effect(math.nan, math.nan, math.nan, unit, **more)
    weights, df = np.asarray(weights, dtype=float), int((counts - 1).sum())
    value = float(sum(w * group.mean() for w, group in zip(weights, groups, strict=True)))
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    error = math.sqrt(squares / df * (weights**2 / counts).sum()) if df else math.nan
    scatter = [group.std(ddof=1) if len(group) > 1 else math.nan for group in groups]
    design = tuple(zip(weights.tolist(), map(float, scatter), counts.tolist(), strict=True))
    return Effect.of_error(value, error, df, unit=unit, design=design, **more)


def mean(values: Iterable[float], unit: str = "", **more) -> Effect:
    """The mean of independent values, one a seed."""
    return contrast([list(values)], [1.0], unit, **more)


def difference(first: Iterable[float], second: Iterable[float], unit: str = "", **more) -> Effect:
    """The mean of the first values minus that of the second, by the variance that both have in common."""
    return contrast([list(first), list(second)], [1.0, -1.0], unit, **more)


def welch(first: Sequence[float], second: Sequence[float], unit: str = "", **more) -> Effect:
    """The same where the two need not scatter alike."""
    if min(len(first), len(second)) < 2:
        return difference(first, second, unit, **more)
    variances = [np.var(part, ddof=1) / len(part) for part in (first, second)]
    error = math.sqrt(sum(variances))
    df = stats.ttest_ind(first, second, equal_var=False).df if error else len(first) + len(second) - 2
    design = tuple((sign, float(np.std(part, ddof=1)), len(part)) for sign, part in ((1.0, first), (-1.0, second)))
    more = {"seeds": min(len(first), len(second)), "networks": 2, "interval": "Welch", "design": design} | more
    return Effect.of_error(np.mean(first) - np.mean(second), error, df, unit=unit, **more)


def over_cells(
    frame: pandas.DataFrame, value: str = "gap", unit: str = "points", by: str = "parameters", pooled: bool = True
) -> Effect:
    """The mean over networks of a column, one row a network (`by`) and seed. pooled: as for `slope`."""
    groups = [part.to_numpy(float) for _, part in frame.dropna(subset=value).groupby(by)[value]]
    effect = contrast(groups, [1 / max(1, len(groups))] * len(groups), unit)
    return with_seeds(effect, _wide(frame, value, by).mean(axis=1), pooled)


def slope(
    frame: pandas.DataFrame,
    value: str = "gap",
    unit: str = "points a decade",
    over: str = "parameters",
    log: bool = True,
    paper: float = math.nan,
    pooled: bool = True,
) -> Effect:
    """The slope of a column over log₁₀ of the column `over` (or over itself), by least squares on the networks' means.

    One row a network and seed. Unknown (NaN) for fewer than two networks. pooled: by which interval it is judged. Where
    the values of different seeds depend on each other, as gaps whose ρ other seeds chose, pooling errs more often than
    one value a seed (docs/statistics.md), and should be False.

    >>> columns = {"parameters": [10, 100] * 2, "seed": [0, 0, 1, 1], "gap": [0.0, 1.0, 0.1, 1.1]}
    >>> round(slope(pandas.DataFrame(columns)).value, 3)
    1.0
    """
    frame = frame[[over, value, "seed"]].dropna()
    groups = dict(list(frame.groupby(over)[value]))
    weights = slope_weights(groups, log)
    if weights is None:
        return contrast([], [], unit, networks=len(groups))
    effect = contrast(list(groups.values()), weights, unit, paper=paper)
    wide = _wide(frame, value, over)
    return with_seeds(effect, wide @ weights if len(wide) else pandas.Series(dtype=float), pooled)


def with_seeds(effect: Effect, values: pandas.Series, pooled: bool) -> Effect:
    """A pooled effect with the interval from one value a seed beside it, or the other way round (pooled=False)."""
    if len(values) < 2:
        return effect
    alone = mean(values, effect.unit, networks=effect.networks, paper=effect.paper, interval="one value a seed")
    one, other = (effect, alone) if pooled else (alone, effect)
    return dataclasses.replace(one, beside=(other.low, other.high))


def _wide(frame: pandas.DataFrame, value: str, by: str) -> pandas.DataFrame:
    """Seeds × networks, of the seeds that all networks have."""
    return frame.pivot_table(index="seed", columns=by, values=value).dropna()


def slope_weights(at: Iterable[float], log: bool = True) -> np.ndarray | None:
    """The weights of the means at these x in the slope of a line; None for fewer than two x."""
    x = np.array(list(at), dtype=float)
    if len(x) < 2:
        return None
    x = np.log10(x) if log else x
    return (x - x.mean()) / ((x - x.mean()) ** 2).sum()


def weakest(effects: Sequence[Effect], sign: int = 1) -> Effect:
    """Of the effects of a claim about several things the one that its verdict rests on: one that contradicts it, else
    the one whose interval reaches the least. What is unknown comes first, unless another contradicts."""

    def end(effect: Effect, name: str) -> float:
        other = {"low": "high", "high": "low"}[name]
        return sign * getattr(effect, name if sign > 0 else other)

    against = [effect for effect in effects if end(effect, "high") < 0]
    if against:
        return min(against, key=lambda effect: end(effect, "high"))
    return min(effects, key=lambda effect: (effect.known, end(effect, "low") if effect.known else 0))


def seed_correlation(table: pandas.DataFrame, by: str = "width") -> float:
    """The correlation over seeds of the accuracies of SGD and of SAM, each minus its network's mean at its ρ, from rows
    of `sweep`: what a comparison in pairs could gain. NaN without two seeds.
    """
    done = table[(table["status"] == "done") & (table["epochs"] == table["epochs"].min())]
    cells = done.groupby([by, "optimizer", "rho"])["test_accuracy"]
    done = done.assign(rest=(done["test_accuracy"] - cells.transform("mean")).where(cells.transform("size") > 1))
    sgd, sam = (done[done["optimizer"] == name][[by, "seed", "rest"]] for name in ("sgd", "sam"))
    both = sam.merge(sgd, on=[by, "seed"], suffixes=("_sam", "_sgd")).dropna()
    return float(both["rest_sam"].corr(both["rest_sgd"])) if len(both) > 1 else math.nan


def roughness(networks: Sequence[Sequence[tuple[float, Sequence[float]]]], unit: str = "points") -> Effect:
    """How far the means at several ρ are from a parabola in log ρ: the root mean square over networks and ρ.

    networks: of each a list of (ρ, values of the seeds). The lack of fit of a network of m radii is

        L = Σ_ρ n_ρ (ȳ_ρ − ŷ_ρ)²,  of m − 3 degrees of freedom.

    Networks with fewer than four ρ, or than two seeds at each, are left out.
    """
    used = [network for network in networks if len(network) > 3 and min(len(values) for _, values in network) > 1]
    lack = free = 0.0
    for network in used:
        x = np.concatenate([np.full(len(values), math.log(rho)) for rho, values in network])
        y = np.concatenate([values for _, values in network]).astype(float)
        residual = float(((y - np.polyval(np.polyfit(x, y, 2), x)) ** 2).sum())
        lack, free = lack + residual - deviations.inside([values for _, values in network]), free + len(network) - 3
    groups = [values for network in used for _, values in network]
    return deviations.root_mean_square(lack, free, groups, unit=unit, networks=len(used))


def spread(groups: Sequence[Sequence[float]], unit: str = "") -> Effect:
    """How far the means of networks are from their common mean, beyond what their seeds scatter: the root mean square.

    groups: the values of each network, one a seed.
    """
    used = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    if len(used) < 2:
        return Effect(math.nan, math.nan, math.nan, unit, networks=len(groups))
    every = np.concatenate(used)
    between = float(((every - every.mean()) ** 2).sum()) - deviations.inside(used)
    return deviations.root_mean_square(between, len(used) - 1, used, unit=unit, networks=len(used))
