"""How often the rule of `lib.paper.claims.verdicts` errs, and what it finds, by simulation with the measured scatter.

Of a contrast of networks the design is known: for each network its weight, the standard deviation of its seeds, and
their number. Data of this design are drawn from normal distributions, of each network its own scatter, and judged as
the real ones are, with the variance pooled:

    d ~ δ + Σ_c w_c σ_c Z_c/√n_c,    s² = Σ_c σ_c² χ²(n_c − 1)/ν.

Welch's interval takes each network's own variance instead. Of a root mean square (`deviations`) the sum of squares is
drawn as σ² times a noncentral χ².
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from lib.paper.claims import deviations, verdicts
from lib.paper.claims.claim import Claim
from lib.paper.claims.effect import LEVEL, Effect

DRAWS = 4000


def rates(
    claim: Claim, design: list, true: float, paper: float = math.nan, *, interval: str = "pooled", draws: int = DRAWS
) -> dict[str, float]:
    """The share of each verdict on data of this design, if the effect is `true`, judged by this `Effect.interval`. A
    network of one seed has the mean scatter of the others. Raises ValueError where no network has two seeds.

    >>> claim = Claim("Figure 3a", "The gap grows", kind="direction")
    >>> shares = rates(claim, [[-1, 0.1, 3], [1, 0.1, 3]], true=1.0, draws=200)
    >>> shares["reproduced"]
    1.0
    """
    weights, scatter, seeds = _columns(design)
    generator = np.random.default_rng(0)
    free = np.maximum(seeds - 1, 0)
    normal = generator.standard_normal((draws, len(weights)))
    squares = np.where(free > 0, scatter**2 * generator.chisquare(np.maximum(free, 1), (draws, len(weights))), 0)
    if interval == deviations.NAME:
        values, lows, highs = _deviations(weights.sum(), scatter, seeds, squares.sum(1), true, generator)
    else:
        values = true + (normal * weights * scatter / np.sqrt(seeds)).sum(1)
        halves = _halves(squares, free, weights**2 / seeds, interval)
        lows, highs = values - halves, values + halves
    counts = dict.fromkeys(verdicts.VERDICTS, 0)
    for value, low, high in zip(values, lows, highs, strict=True):
        effect = Effect(value, low, high, seeds=int(seeds.max()), paper=paper)
        counts[verdicts.judge(claim, effect)] += 1
    return {verdict: count / draws for verdict, count in counts.items()}


def _halves(squares: np.ndarray, free: np.ndarray, parts: np.ndarray, interval: str) -> np.ndarray:
    """Half the width of the t interval of each draw: by the common variance, or by Welch's degrees of freedom."""
    if interval == "Welch":
        each = squares / free * parts
        error, df = each.sum(1), each.sum(1) ** 2 / (each**2 / free).sum(1)
    else:
        df = float(free.sum())
        error = squares.sum(1) / df * parts.sum()
    return stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(error)


def _deviations(free: float, scatter, seeds, squares: np.ndarray, true: float, generator) -> tuple[np.ndarray, ...]:
    """Root mean squares with their intervals, where the true one is `true`; their ends are interpolated in F."""
    within, number = float((seeds - 1).sum()), float(seeds.sum())
    variance = float(((seeds - 1) * scatter**2).sum() / within)
    lack = variance * generator.noncentral_chisquare(free, number * true**2 / variance, len(squares))
    ratio = lack / free / (squares / within)
    kinks = 1.0, stats.f.ppf((1 + LEVEL) / 2, free, within)  # where an end leaves 0
    at = np.sort([*np.quantile(ratio, np.linspace(0, 1, 100)), *kinks])
    lows, highs = (np.interp(ratio, at, each) for each in np.array([deviations.ends(f, free, within) for f in at]).T)
    values = np.sqrt(np.maximum(0, lack - free * squares / within) / number)
    unit = np.sqrt(squares / within / number)
    return values, lows * unit, highs * unit


def found_by(design: list, true: float, *, draws: int = DRAWS) -> tuple[float, float]:
    """How often a 95% interval lies above zero: by the variance pooled over the networks, and from one value a seed.
    Of a design whose networks have as many seeds each."""
    weights, scatter, seeds = _columns(design)
    count = int(seeds.min())
    generator = np.random.default_rng(0)
    values = generator.standard_normal((draws, len(weights), count)) * scatter[:, None]
    means, spread = values.mean(2) @ weights + true, values.var(2, ddof=1).mean(1)
    limit = stats.t.ppf((1 + LEVEL) / 2, len(weights) * (count - 1))
    pooled = means > limit * np.sqrt(spread * (weights**2).sum() / count)
    alone = np.einsum("c,dcs->ds", weights, values)
    by_seed = means > stats.t.ppf((1 + LEVEL) / 2, count - 1) * alone.std(1, ddof=1) / math.sqrt(count)
    return float(pooled.mean()), float(by_seed.mean())


def _columns(design: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, scatter and seeds; a network of one seed has the mean scatter of the others."""
    columns = zip(*design, strict=True)
    weights, scatter, seeds = (np.array([np.nan if x is None else x for x in column]) for column in columns)
    if not (seeds > 1).any():
        raise ValueError("design: no network has two seeds, so the scatter is unknown")
    return weights, np.where(np.isnan(scatter), np.nanmean(scatter), scatter), seeds


def row(claim: Claim, entry: Mapping) -> dict | None:
    """What the rule does on a claim of claims.json: under no effect (of an absence: an effect twice the margin) and
    under the effect claimed; None where its design is not known."""
    design = entry.get("design") or []
    if not any(seeds > 1 for _, _, seeds in design):
        return None
    paper = math.nan if entry["paper_value"] is None else entry["paper_value"]
    claimed = _claimed(claim, entry)
    null = 2 * claim.margin if claim.kind == "absence" else 0.0
    under, at = (rates(claim, design, true, paper, interval=entry["interval"]) for true in (null, claimed))
    agrees = verdicts.REPRODUCED, verdicts.SMALLER
    return {
        "null": null,
        "wrongly reproduced": sum(under[name] for name in agrees),
        "claimed": claimed,
        "reproduced": sum(at[name] for name in agrees),
        "wrongly contradicted": at[verdicts.CONTRADICTED],
        "undecided": at[verdicts.UNDECIDED],
    }


def _claimed(claim: Claim, entry: Mapping) -> float:
    """The effect of which the power is told: the paper's number, of an absence none, else twice the margin."""
    if claim.kind == "absence":
        return 0.0
    number = entry["paper_value"]
    return claim.sign * abs(number if number is not None else 2 * (claim.margin or abs(entry["effect"]) / 2))
