"""An effect with its 95% interval, and what such data would have shown (power of Student's t).

An estimate d with standard error e and ν degrees of freedom has the interval d ± t₀.₉₇₅(ν) e. The smallest effect δ
that is found with a probability of 80% has, with T noncentral t of ν degrees and noncentrality δ/e,

    P(|T| > t₀.₉₇₅(ν)) = 0.8.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000  # beyond so many nobody will go


@dataclass(frozen=True)
class Effect:
    """value, with its 95% interval from low to high (NaN: unknown), in `unit`.

    error, df: its standard error and degrees of freedom; NaN where the interval is no t interval.
    seeds: of each network (the fewest); networks: how many.
    paper: the number of the paper that it is compared with; NaN: none.
    interval: how it is made, "pooled" over the networks or from one value a seed; beside: the other of these two. Also
    "Welch", "regression" over all runs, and "root mean square" (`deviations`).
    design: for each network its weight (of a root mean square its share of the degrees of freedom), the standard
    deviation of its seeds, and their number.
    shown: the smallest effect detectable, where the interval is no t interval.
    """

    value: float
    low: float
    high: float
    unit: str = ""
    error: float = math.nan
    df: float = math.nan
    seeds: int = 0
    networks: int = 1
    paper: float = math.nan
    interval: str = "pooled"
    beside: tuple[float, float] = (math.nan, math.nan)
    design: tuple[tuple[float, float, int], ...] = ()
    shown: float = math.nan

    @classmethod
    def of_error(cls, value: float, error: float, df: float, **more) -> "Effect":
        """The effect with a t interval; none (NaN) without a degree of freedom.

        >>> effect = Effect.of_error(1.0, 0.5, 4, unit="points")
        >>> round(effect.low, 2), round(effect.high, 2), round(effect.detectable, 2)
        (-0.39, 2.39, 1.88)
        """
        half = stats.t.ppf((1 + LEVEL) / 2, df) * error if df > 0 else math.nan
        low, high = float(value - half), float(value + half)
        return cls(float(value), low, high, error=float(error), df=float(df), **more)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    @property
    def detectable(self) -> float:
        """The smallest effect that these data would have shown with a probability of POWER; NaN where unknown."""
        return self.error * _in_errors(self.df) if self.df > 0 else self.shown

    def seeds_needed(self, target: float) -> int | None:
        """The least number of seeds a network with which `target` would be detectable, if runs scatter as these do;
        None where that is unknown or beyond MOST_SEEDS."""
        target = abs(target)
        if self.shown > 0 and target > 0:  # what is shown shrinks with the root of the seeds
            seeds = math.ceil(self.seeds * max(1.0, self.shown / target) ** 2)
            return seeds if seeds <= MOST_SEEDS else None
        if not (self.df > 0 and self.error > 0 and target > 0 and self.seeds > 1):
            return None
        for seeds in range(self.seeds, MOST_SEEDS + 1):
            error = self.error * math.sqrt(self.seeds / seeds)
            if error * _in_errors(self.df * (seeds - 1) / (self.seeds - 1)) <= target:
                return seeds
        return None

    def __str__(self) -> str:
        """The effect in words, as in a table.

        >>> str(Effect(0.0389, -0.11, 0.19, "points a decade"))
        '+0.039 points a decade (95% −0.11 to +0.19)'
        """
        unit = f" {self.unit}" * bool(self.unit)
        interval = f" (95% {signed(self.low)} to {signed(self.high)})" if self.known else ""
        return f"{signed(self.value)}{unit}{interval}"


def signed(number: float) -> str:
    """A number with its sign and two digits, or all before the point, typeset.

    >>> signed(-0.105), signed(0.1), signed(125.0)
    ('−0.10', '+0.10', '+125')
    """
    if not math.isfinite(number):
        return "unknown"
    text = f"{number:+.0f}" if abs(number) >= 10 else f"{number:+#.2g}"
    return text.replace("-", "−")


@functools.lru_cache(maxsize=4096)
def _in_errors(df: float) -> float:
    """The smallest effect that is found with POWER, in standard errors."""
    # T = (Z + δ)/√(Q/ν) with Z normal and Q of χ²: the mean over Q's quantiles is stable where scipy's nct gives NaN.
    limits = stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df)

    def lacking(shift):
        return float((special.ndtr(shift - limits) + special.ndtr(-shift - limits)).mean()) - POWER

    return float(optimize.brentq(lacking, 0.1, 10 * limits.max()))
