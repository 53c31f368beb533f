"""How often intervals cover what they should where SAM does nothing: the numbers that docs/statistics.md gives."""

import itertools

import numpy as np
import pandas
import pytest
from scipy import stats

from lib.core import paths
from lib.paper import analysis
from lib.runs import Run
from lib.sweep import COLUMNS

CELLS, RHOS, SEEDS = 4, 5, 3
SWEEPS = 20_000
TOLD = [(0.0, (0.91, 0.93), (0.90, 0.93)), (0.4, (0.88, 0.92), (0.88, 0.92)), (0.8, (0.81, 0.89), (0.81, 0.88))]
# luck; coverage of a mean over the networks, pooled and from one value a seed; the same of a slope


def sweeps(count: int, luck: float) -> np.ndarray:
    """Accuracies in points, sweeps × cells × (SGD and RHOS) × SEEDS × the two halves of the test samples, all the same
    but for 1 point of scatter of each run, and `luck` points by which a half favours an optimizer with its ρ, the same
    for all seeds."""
    generator = np.random.default_rng(0)
    runs = generator.standard_normal((count, CELLS, 1 + RHOS, SEEDS, 1))
    return runs + luck * generator.standard_normal((count, CELLS, 1 + RHOS, 1, 2))


def unbiased(accuracies: np.ndarray) -> np.ndarray:
    """The gap by the protocol "both", sweeps × CELLS × SEEDS: ρ has the best mean of the other seeds on the other
    half."""
    sgd, sam = accuracies[:, :, 0], accuracies[:, :, 1:]
    gaps = np.zeros(sgd.shape[:-1])
    for seed in range(SEEDS):
        others = [other for other in range(SEEDS) if other != seed]
        for half in (0, 1):
            best = sam[..., others, 1 - half].mean(-1).argmax(-1)
            reported = np.take_along_axis(sam[..., seed, half], best[..., None], -1)[..., 0]
            gaps[..., seed] += (reported - sgd[..., seed, half]) / 2
    return gaps


def test_the_simulation_has_the_gaps_of_the_library():
    (accuracies,) = sweeps(1, luck=0.4)
    base, rows = Run(dataset="digits"), []
    for cell, rho, seed in itertools.product(range(CELLS), range(1 + RHOS), range(SEEDS)):
        run = base.but(width=0.1 * (cell + 1), seed=seed)
        run = run.but(optimizer="sam", rho=0.1 * rho) if rho else run
        even, odd = accuracies[cell, rho, seed] / 100
        row = {"test_accuracy": (even + odd) / 2, "test_accuracy_even": even, "test_accuracy_odd": odd}
        rows.append({**run.as_dict(), "key": run.key, "status": "done"} | row)
    gaps = analysis.gap.gaps(pandas.DataFrame(rows, columns=COLUMNS)).query("protocol == 'both'")
    wide = gaps.pivot_table(index="width", columns="seed", values="gap")
    assert wide.to_numpy() == pytest.approx(unbiased(accuracies[None])[0])


def pooled(gaps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether the pooled 95% interval of a contrast covers 0, as `effects.contrast` makes it, for every sweep."""
    error = np.sqrt(gaps.var(2, ddof=1).mean(1) * (weights**2).sum() / SEEDS)
    return abs(gaps.mean(2) @ weights) <= stats.t.ppf(0.975, CELLS * (SEEDS - 1)) * error


def by_seed(gaps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same of the interval from one value a seed."""
    values = np.einsum("c,dcs->ds", weights, gaps)
    return abs(values.mean(1)) <= stats.t.ppf(0.975, SEEDS - 1) * values.std(1, ddof=1) / np.sqrt(SEEDS)


SLOPE = analysis.effects.slope_weights(10.0 ** np.arange(CELLS))


@pytest.mark.parametrize(("luck", "means", "slopes"), TOLD)
def test_intervals_cover_zero_as_often_as_is_told(luck, means, slopes):
    gaps = unbiased(sweeps(SWEEPS, luck))
    for weights, expected in ((np.full(CELLS, 1 / CELLS), means), (SLOPE, slopes)):
        assert [round(float(of(gaps, weights).mean()), 2) for of in (pooled, by_seed)] == list(expected)


def test_the_simulation_has_the_intervals_of_the_library():
    gaps = unbiased(sweeps(50, luck=0.4))
    for one, inside, alone in zip(gaps, pooled(gaps, SLOPE), by_seed(gaps, SLOPE), strict=True):
        rows = [{"parameters": 10.0**c, "seed": s, "gap": one[c, s]} for c in range(CELLS) for s in range(SEEDS)]
        effect = analysis.effects.slope(pandas.DataFrame(rows))
        assert (effect.low <= 0 <= effect.high) == inside
        assert (effect.beside[0] <= 0 <= effect.beside[1]) == alone


def test_what_is_told_of_it_is_this():
    page = " ".join((paths.ROOT / "docs" / "statistics.md").read_text(encoding="utf-8").split())
    for column in (1, 2):
        for way in (0, 1):
            shares = [f"{100 * row[column][way]:.0f}" for row in TOLD]
            assert f"{', '.join(shares[:2])} and {shares[2]}%" in page
