"""Power laws through measured points, with the interval of their exponent."""

from typing import NamedTuple

import numpy as np


class PowerLaw(NamedTuple):
    """y ≈ factor · x^exponent; low and high: the 95% interval of the exponent; r2: of the line on log-log axes."""

    exponent: float
    low: float
    high: float
    factor: float
    r2: float


def power_law(x, y, groups=None, resamples: int = 1000, seed: int = 0) -> PowerLaw:
    """Least squares of log y on log x, for positive x and y of one length.

    The interval is a percentile bootstrap over `groups` (seeds, problems: those that vary together), or over points
    where none are given. Raises ValueError for fewer than two distinct x, or values that are not positive and finite.

    >>> fit = power_law([1, 10, 100], [2, 20, 200])
    >>> round(fit.exponent, 6), round(fit.factor, 6)
    (1.0, 2.0)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or not ((x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)).all():
        raise ValueError("x and y: must be as many positive, finite numbers")
    if len(set(x)) < 2:
        raise ValueError(f"x: {len(set(x))} distinct values; a slope needs two")
    log_x, log_y = np.log(x), np.log(y)
    slope, intercept = np.polyfit(log_x, log_y, 1)
    residual, spread = (log_y - slope * log_x - intercept).var(), log_y.var()
    low, high = np.percentile(_bootstrap(log_x, log_y, groups, resamples, seed), [2.5, 97.5])
    return PowerLaw(
        float(slope), float(low), float(high), float(np.exp(intercept)), float(1 - residual / (spread or 1))
    )


def _bootstrap(log_x, log_y, groups, resamples, seed):
    members = np.arange(len(log_x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    indicator = members == np.arange(members.max() + 1)[:, None]  # groups × points
    weights = np.random.default_rng(seed).multinomial(len(indicator), [1 / len(indicator)] * len(indicator), resamples)
    w = weights @ indicator
    mean_x, mean_y = w @ log_x / w.sum(1), w @ log_y / w.sum(1)
    covariance, variance = w @ (log_x * log_y) / w.sum(1) - mean_x * mean_y, w @ log_x**2 / w.sum(1) - mean_x**2
    usable = variance > 1e-12 * log_x.var()  # a sample of one x alone has no slope
    return covariance[usable] / variance[usable]
