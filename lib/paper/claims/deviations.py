"""How far means are from what a claim says of them, beyond what seeds scatter: a root mean square and its interval.

Let `lack` be the sum of squares of the N runs' means from what is claimed, with `free` degrees of freedom, and s² the
variance of seeds with `within`. F = (lack/free)/s² has Fisher's distribution with the noncentrality λ = N·rms²/σ². The
λ with which F is exceeded with a probability of 2.5% and of 97.5% are the ends of the 95% interval.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import optimize, stats

from lib.paper.claims.effect import LEVEL, POWER, Effect

NAME = "root mean square"  # of the interval


def root_mean_square(lack: float, free: float, groups: Sequence[Sequence[float]], **more) -> Effect:
    """The root mean square of the deviations, of which the estimate is without bias in the square, and 0 where that is
    negative. groups: the values of seeds that should agree. Unknown (NaN) without degrees of freedom.

    >>> effect = root_mean_square(6.0, 1, [[0.9, 1.0, 1.1], [2.9, 3.0, 3.1]])  # means 1 and 3, 1 from their mean
    >>> round(effect.value, 3), effect.low > 0
    (0.999, True)
    """
    sizes = [len(group) for group in groups]
    number, within = sum(sizes), sum(sizes) - len(sizes)
    if not within or not free:
        return Effect(math.nan, math.nan, math.nan, **more)
    variance = inside(groups) / within
    value, seeds = math.sqrt(max(0.0, lack - free * variance) / number), min(sizes)
    scatter = [np.std(group, ddof=1) if len(group) > 1 else math.nan for group in groups]
    design = tuple((free / len(sizes), float(each), size) for each, size in zip(scatter, sizes, strict=True))
    more = {"seeds": seeds, "interval": NAME, "design": design} | more
    if variance < 1e-24:  # all seeds agree
        return Effect(value, value, value, shown=0.0, **more)
    unit = math.sqrt(variance / number)
    low, high = ends(lack / free / variance, free, within)
    shown = math.sqrt(_noncentrality(stats.f.ppf(LEVEL, free, within), free, within, 1 - POWER))
    return Effect(value, low * unit, high * unit, shown=shown * unit, **more)


def inside(groups: Iterable[Sequence[float]]) -> float:
    """The sum of squares within groups."""
    return sum(float(((np.asarray(group, dtype=float) - np.mean(group)) ** 2).sum()) for group in groups)


def ends(ratio: float, free: float, within: float) -> tuple[float, float]:
    """√λ at both ends of the interval for an F of `ratio`. A fit better than chance allows is no evidence of a small
    lack: the upper end is that of F = 1 at least."""
    below = _noncentrality(ratio, free, within, (1 + LEVEL) / 2)
    above = _noncentrality(max(1.0, ratio), free, within, (1 - LEVEL) / 2)
    return math.sqrt(below), math.sqrt(above)


def _noncentrality(ratio: float, free: float, within: float, tail: float) -> float:
    """The noncentrality with which F is below `ratio` with a probability of `tail`; 0 where none is."""

    def off(shift):
        return stats.ncf.cdf(ratio, free, within, shift) - tail if shift else stats.f.cdf(ratio, free, within) - tail

    if off(0.0) <= 0:
        return 0.0
    high = 1.0
    while off(high) > 0:
        high *= 2
    return float(optimize.brentq(off, 0.0, high, xtol=1e-8))
