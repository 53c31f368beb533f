"""How often the rule of `lib.paper.claims.verdicts` errs, and what it finds, by simulation with the measured scatter.

Of a contrast of networks the design is known: for each network its weight, the standard deviation of its seeds, and
their number. Data of this design are drawn from normal distributions, of each network its own scatter, and judged as
the real ones are, with the variance pooled:

    d ~ δ + Σ_c w_c σ_c Z_c/√n_c,    s² = Σ_c σ_c² χ²(n_c − 1)/ν.
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from lib.paper.claims import verdicts
from lib.paper.claims.claim import Claim
from lib.paper.claims.effect import LEVEL, Effect

DRAWS = 4000


def rates(claim: Claim, design: list, true: float, paper: float = math.nan, *, draws: int = DRAWS) -> dict[str, float]:
    """The share of each verdict on data of this design, if the effect is `true`. A network of one seed has the mean
    scatter of the others. Raises ValueError where no network has two seeds.

    >>> claim = Claim("Figure 3a", "The gap grows", kind="direction")
    >>> shares = rates(claim, [[-1, 0.1, 3], [1, 0.1, 3]], true=1.0, draws=200)
    >>> shares["reproduced"]
    1.0
    """
    weights, scatter, seeds = _columns(design)
    df = float((seeds - 1).sum())
    generator = np.random.default_rng(0)
    shift = (generator.standard_normal((draws, len(weights))) * weights * scatter / np.sqrt(seeds)).sum(1)
    free = np.maximum(seeds - 1, 0)
    squares = np.where(free > 0, scatter**2 * generator.chisquare(np.maximum(free, 1), (draws, len(weights))), 0).sum(1)
    halves = stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(squares / df * (weights**2 / seeds).sum())
    counts = dict.fromkeys(verdicts.VERDICTS, 0)
    for value, half in zip(true + shift, halves, strict=True):
        effect = Effect(value, value - half, value + half, seeds=int(seeds.max()), paper=paper)
        counts[verdicts.judge(claim, effect)] += 1
    return {verdict: count / draws for verdict, count in counts.items()}


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
    under, at = rates(claim, design, null, paper), rates(claim, design, claimed, paper)
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
