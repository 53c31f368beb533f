"""How often intervals and tests find something where SAM does nothing: the numbers that `lib.paper.analysis.width`,
`lib.paper.analysis.trends` and notebook 03 give for it."""

import itertools
import math

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
TOLD = [(0.0, 0.93, 0.06), (0.4, 0.92, 0.06), (0.8, 0.89, 0.08)]  # luck, coverage, rejections


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
    found = analysis.gap.gaps(pandas.DataFrame(rows, columns=COLUMNS)).query("protocol == 'both'")
    wide = found.pivot_table(index="width", columns="seed", values="gap")
    assert wide.to_numpy() == pytest.approx(unbiased(accuracies[None])[0])


@pytest.mark.parametrize(("luck", "covers", "rejects"), TOLD)
def test_intervals_cover_zero_and_trends_are_found_as_often_as_is_told(luck, covers, rejects):
    gaps = unbiased(sweeps(SWEEPS, luck))
    means = gaps.mean(1)
    half = stats.t.ppf(0.975, SEEDS - 1) * means.std(1, ddof=1) / math.sqrt(SEEDS)
    ranks = gaps.transpose(0, 2, 1)
    pairs = itertools.combinations(range(CELLS), 2)
    kendall = sum(np.sign(ranks[..., d] - ranks[..., c]) for c, d in pairs).sum(1)
    values, chances = analysis.trends._null([(np.arange(CELLS), np.arange(CELLS))] * SEEDS)
    p = np.array([chances[values >= found].sum() for found in kendall])
    assert round(float(np.mean(abs(means.mean(1)) <= half)), 2) == covers
    assert round(float(np.mean(p <= analysis.trends.LEVEL)), 2) == rejects


def test_what_is_told_of_it_is_this():
    covers, rejects = ([f"{100 * told[i]:.0f}" for told in TOLD] for i in (1, 2))
    covers, rejects = (f"{', '.join(told[:2])} and {told[2]}%" for told in (covers, rejects))
    page = " ".join((paths.ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8").split())
    assert covers in analysis.width.overall.__doc__ and rejects in analysis.trends.__doc__
    assert covers in page and rejects in page
