"""Does a quantity grow with the number of parameters? Tests that respect the seeds, and exponents (Section 5).

Every seed s gives one value y_sc in each cell c, and x_c is the cell's number of parameters. Kendall's statistic,
summed over seeds,

    S = Σ_s Σ_{c<d} sign(x_d − x_c) sign(y_sd − y_sc),        τ = S / (number of pairs with x_c ≠ x_d),

is compared with what it is when the values of each seed are permuted over its cells, seed by seed: exactly, ties and
missing cells included. A single seed, or two cells, can hardly reject anything; `least` says what p could be at best,
for values all different: ties among those observed are a finding, no reason to call the claim untested.

The test is exact for seeds that are independent; seeds that are tested on the same samples are not quite. It is told
beside the slope, and decides no verdict. Page's test for ordered alternatives asks the same of ranks.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas

from lib.paper.analysis import gap
from lib.paper.analysis.rho_search import cells, highest, middle

EXACT_CELLS = 8  # 8! permutations a seed are all tried; of more cells a fixed sample
SAMPLED = 50_000
RESAMPLED_SEEDS = 5  # 5⁵ resamples of the seeds are all taken; of more seeds a fixed sample


class Trend(NamedTuple):
    """tau: in −1..1; p_grows, p_falls: one-sided exact p-values; least: the smallest that the design allows untied.

    slope: of y over log₁₀ x (or x), least squares for each seed, then the mean; low, high: its 95% interval from
    Student's t over seeds (NaN for one). cells, seeds: how many there are.
    """

    tau: float
    p_grows: float
    p_falls: float
    least: float
    slope: float
    low: float
    high: float
    cells: int
    seeds: int


def describe(result: Trend, unit: str, downward: bool = False) -> str:
    """The trend in words: slope a decade with its interval, τ, p of there being none, and what it rests on.

    downward: the p-value is that of a fall.

    >>> columns = {"parameters": [10, 100, 1000] * 2, "seed": [0] * 3 + [1] * 3, "gap": [1, 2, 3, 0, 2, 5]}
    >>> describe(trend(pandas.DataFrame(columns)), "points").split(",")[-1].strip()
    '2 seeds'
    """
    if not result.seeds:
        return "fewer than two such networks have a complete search"
    spread = "" if math.isnan(result.low) else f" (95% {result.low:+.2g} to {result.high:+.2g})"
    p = f"p = {result.p_falls if downward else result.p_grows:.2g} (smallest possible {result.least:.2g})"
    size = f"{result.cells} networks, {result.seeds} seed{'s' * (result.seeds != 1)}"
    return f"{result.slope:+.2g} {unit} a decade{spread}, τ = {result.tau:+.2f}, {p}; {size}"


def trend(frame: pandas.DataFrame, value: str = "gap", over: str = "parameters", log: bool = True) -> Trend:
    """The trend of the column `value` over the column `over`, blocked by the column `seed`; one row a cell and seed.

    log: the slope is over log₁₀ of `over`, which must then be positive; else over `over` itself.

    Rows whose value is NaN are left out; a seed needs two different x to count. NaN where none has.

    >>> columns = {"parameters": [10, 100, 1000] * 2, "seed": [0] * 3 + [1] * 3, "gap": [1, 2, 3, 0, 2, 5]}
    >>> frame = pandas.DataFrame(columns)
    >>> trend(frame).tau
    1.0
    """
    frame = frame[[over, value, "seed"]].dropna()
    blocks = [(g[over].to_numpy(float), g[value].to_numpy(float)) for _, g in frame.groupby("seed")]
    blocks = [(x, y) for x, y in blocks if len(np.unique(x)) > 1]
    if not blocks:
        return Trend(*[math.nan] * 7, cells=frame[over].nunique(), seeds=0)
    observed = sum(_kendall(x, y[None])[0] for x, y in blocks)
    pairs = sum(_kendall(x, x[None])[0] for x, _ in blocks)
    values, chances = _null(blocks)
    _, untied = _null([(x, x.argsort(kind="stable").argsort()) for x, _ in blocks])
    slopes = [np.polyfit(np.log10(x) if log else x, y, 1)[0] for x, y in blocks]
    return Trend(
        tau=float(observed / pairs),
        p_grows=float(chances[values >= observed].sum()),
        p_falls=float(chances[values <= observed].sum()),
        least=float(untied[-1]),
        slope=float(np.mean(slopes)),
        **dict(zip(("low", "high"), map(float, gap.interval(slopes)), strict=True)),
        cells=frame[over].nunique(),
        seeds=len(blocks),
    )


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """S of each row of y (rows × cells) against x (cells)."""
    first, second = np.triu_indices(len(x), 1)
    return (np.sign(x[second] - x[first]) * np.sign(y[:, second] - y[:, first])).sum(1).astype(int)


def _null(blocks) -> tuple[np.ndarray, np.ndarray]:
    """The values of S under permutation, ascending, and their chances: blocks are independent, so they convolve."""
    total, offset = np.ones(1), 0
    for number, (x, y) in enumerate(blocks):
        s = _kendall(x, y[_permutations(len(x), number)])
        total, offset = np.convolve(total, np.bincount(s - s.min()) / len(s)), offset + s.min()
    seen = total > 0
    return (np.arange(len(total)) + offset)[seen], total[seen]


def _permutations(n: int, number: int) -> np.ndarray:
    if n <= EXACT_CELLS:
        return np.array(list(itertools.permutations(range(n))))
    generator = np.random.default_rng(number)
    return np.array([range(n), *(generator.permutation(n) for _ in range(SAMPLED))])


class Scaling(NamedTuple):
    """exponent: of ρ* ∝ parameters^exponent, least squares on logarithms over the cells; low, high: its range over
    resamples of the seeds, NaN for one seed. That is no confidence interval: three seeds have 27 resamples, and where
    ρ* does not depend on the cell their range may well be on one side of 0.
    ties: the smallest and the largest exponent if one of radii with equal means were chosen, not their geometric mean.
    trend: of log₁₀ ρ* when each seed chooses its own. cells: (parameters, ρ*) that the exponent comes from; edges: how
    many of these ρ* are the smallest or the largest that was tried, and so only bounds, which censors the exponent.
    seeds: that every cell has, on which all of this rests. partial: the parameters of cells left out, for which fewer
    seeds count than for the fullest.
    """

    exponent: float
    low: float
    high: float
    ties: tuple[float, float]
    trend: Trend
    cells: list[tuple[int, float]]
    edges: int
    seeds: list[int]
    partial: list[int]


def rho_scaling(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> Scaling:
    """How ρ* grows with the parameters in a table of `sweep` (Figure 5), over the cells of
    `lib.paper.analysis.rho_search`.

    ρ* is chosen by test accuracy over the seeds that all cells have. The seeds are resampled with replacement, all
    nⁿ ways for up to RESAMPLED_SEEDS; ρ* of each cell is chosen anew in each. Cells whose search is not complete, and
    partial ones, are left out; NaN for fewer than two.

    >>> from lib.runs import Run
    >>> best = {0.25: 0.01, 1.0: 0.04}  # ρ* by width
    >>> runs = [Run(dataset="digits", width=width) for width in best]
    >>> runs += [run.but(optimizer="sam", rho=rho) for run in runs for rho in best.values()]
    >>> table = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"} for run in runs])
    >>> table["test_accuracy"] = [0.9 if best[run.width] == run.rho else 0.8 for run in runs]
    >>> [rho for _, rho in rho_scaling(table).cells]
    [0.01, 0.04]
    """
    result = [(cell, cell.search("SGD", "all")) for cell in cells(table, by) if cell.complete("SGD")]
    result = [(cell, search) for cell, search in result if search.size]
    most = max((search.shape[1] for _, search in result), default=0)
    partial = [cell.labels["parameters"] for cell, search in result if search.shape[1] < most]
    result = [(cell, search) for cell, search in result if search.shape[1] == most]
    seeds = sorted(set.intersection(*(set(search) for _, search in result))) if result else []
    searches = [search[seeds] for _, search in result]
    sizes = np.array([cell.labels["parameters"] for cell, _ in result], dtype=float)
    choose = functools.partial(_rho_star, searches)
    if not seeds or len(np.unique(sizes)) < 2:
        nothing = trend(_choices(sizes, [], []), "rho")
        return Scaling(*[math.nan] * 3, (math.nan, math.nan), nothing, [], 0, seeds, partial)
    best, own = choose(np.arange(len(seeds))), [choose(np.array([i])) for i in range(len(seeds))]
    exponents = [_exponent(sizes, choose(sample)) for sample in _resamples(len(seeds))]
    equal = [search.index[highest(search.to_numpy())] for search in searches]
    ties = [_exponent(sizes, rhos) for rhos in itertools.product(*({rhos.min(), rhos.max()} for rhos in equal))]
    return Scaling(
        exponent=_exponent(sizes, best),
        low=min(exponents) if len(seeds) > 1 else math.nan,
        high=max(exponents) if len(seeds) > 1 else math.nan,
        ties=(min(ties), max(ties)),
        trend=trend(_choices(sizes, own, seeds), "rho"),
        cells=[(int(count), float(rho)) for count, rho in zip(sizes, best, strict=True)],
        edges=sum(any(map(cell.edge, rhos)) for (cell, _), rhos in zip(result, equal, strict=True)),
        seeds=seeds,
        partial=partial,
    )


def describe_scaling(result: Scaling) -> str:
    """The exponent in words, with its range over resamples of the seeds and over other choices among equal ρ, how many
    ρ* are only bounds, the trend, and what was left out."""
    sentence = describe(result.trend, "decades") + gap.left_out(result.partial)
    if not result.cells:
        return sentence
    low, high = result.ties
    spread = f" ({result.low:+z.2f} to {result.high:+z.2f} over resamples of the seeds)"
    spread = "" if math.isnan(result.low) else spread
    tied = f", {low:+z.2f} to {high:+z.2f} by other choices among equal ρ" if high > low else ""
    edge = f"; at the edge of the grid, only bounds: {result.edges} of {len(result.cells)} ρ*" if result.edges else ""
    return f"exponent {result.exponent:+z.2f}{spread}{tied}{edge}; log₁₀ ρ*: {sentence}"


def _rho_star(searches: list[pandas.DataFrame], sample: np.ndarray) -> np.ndarray:
    return np.array([middle(search.index[highest(search.to_numpy()[:, sample])]) for search in searches])


def _exponent(sizes: np.ndarray, rhos: np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), np.log(rhos), 1)[0])


def _resamples(n: int) -> list[np.ndarray]:
    if n <= RESAMPLED_SEEDS:
        return [np.array(sample) for sample in itertools.product(range(n), repeat=n)]
    generator = np.random.default_rng(0)
    return list(generator.integers(0, n, (5000, n)))


def _choices(sizes: np.ndarray, own: list[np.ndarray], seeds: list[int]) -> pandas.DataFrame:
    rows = [
        {"parameters": size, "rho": math.log10(rho), "seed": seed}
        for seed, chosen in zip(seeds, own, strict=True)
        for size, rho in zip(sizes, chosen, strict=True)
    ]
    return pandas.DataFrame(rows, columns=["parameters", "rho", "seed"])
