"""The benefit in sparse networks: dense cells that the pruners share, trends, and radii that depend on the mask."""

import math

import numpy as np
import pandas
import pytest

from lib import sparse_benefit
from lib.runs import Run
from lib.sweep import COLUMNS

DENSE = Run(dataset="digits", width=0.1)
NETWORKS = [
    DENSE,
    DENSE.but(width=0.2, sparsity=0.5),
    DENSE.but(width=0.4, sparsity=0.8),
    DENSE.but(width=0.2, sparsity=0.5, pruner="snip"),
    DENSE.but(width=0.4, sparsity=0.8, pruner="snip"),
]
RHOS = (0.02, 0.05, 0.1)


def table(accuracy, seeds=(0, 1, 2), missing=lambda run: False):
    """A table as from `sweep`, the test accuracy of each run a function of the run."""
    rows = []
    for network in NETWORKS:
        for run in [network, *(network.but(optimizer="sam", rho=rho) for rho in RHOS)]:
            for seeded in (run.but(seed=seed) for seed in seeds):
                names = ("test_accuracy", "test_accuracy_even", "test_accuracy_odd")
                value = math.nan if missing(seeded) else accuracy(seeded)
                status = "missing" if missing(seeded) else "done"
                rows.append({**seeded.as_dict(), "key": seeded.key, "status": status} | dict.fromkeys(names, value))
    return pandas.DataFrame(rows, columns=COLUMNS)


def growing(run):
    """With SNIP the gap is 1 + 5·sparsity points at ρ = 0.05, with random masks 1 point."""
    gain = 0.01 * (1 + 5 * run.sparsity * (run.pruner == "snip")) if run.rho == 0.05 else 0
    return 0.8 + 0.001 * run.seed + gain


def test_gaps_begin_for_every_pruner_at_the_dense_network():
    found = sparse_benefit.gaps(table(growing)).query("protocol == 'paper'")
    for pruner in ("random", "snip"):
        line = found[found["pruner"] == pruner]
        assert sorted(line["removed"].unique()) == [0, 50, 80]
        expected = 1 + 5 * line["sparsity"] * (pruner == "snip")
        assert line["gap"].to_numpy() == pytest.approx(expected.to_numpy())
    assert set(found["label"]) == {"0%", "50%", "80%"}


def test_a_gap_that_grows_with_the_sparsity_has_a_trend_and_one_that_does_not_has_none():
    found = sparse_benefit.gaps(table(growing))
    snip, random = (sparse_benefit.trend(found, pruner) for pruner in ("snip", "random"))
    assert snip.tau == 1 and snip.p_grows == pytest.approx((1 / 6) ** 3)  # of 3! orders a seed, one is this
    assert snip.slope == pytest.approx(0.05)  # points a percent
    assert abs(random.slope) < 1e-9


def test_the_radius_depends_on_the_network_where_every_seed_says_so():
    best = {(0.1, "random"): 0.02, (0.2, "snip"): 0.1, (0.4, "snip"): 0.1}
    found = sparse_benefit.choices(table(lambda r: 0.8 - abs(r.rho - best.get((r.width, r.pruner), 0.05))))
    told = sparse_benefit.differ(found)
    assert told.chosen == [0.02, 0.05, 0.1] and (told.cells, told.seeds) == (5, 3)
    # The observed sum of squares is the largest there is. Of 5!³ orders those reach it in which the seeds agree:
    # 5!·(2!·2!)³/5!³, as two cells choose 0.05 and two 0.1; 20,000 shuffles scatter by their binomial deviation.
    chance = (math.factorial(2) ** 2) ** 2 / math.factorial(5) ** 2
    assert told.p == pytest.approx(chance, abs=5 * math.sqrt(chance / 20_000) + 1 / 20_000)


def test_the_radius_does_not_depend_on_the_network_where_seeds_choose_at_random():
    generator = np.random.default_rng(0)
    ps = []
    for _ in range(20):
        draws = {}
        noise = table(lambda run, draws=draws: draws.setdefault(run.key, generator.normal(0.8, 0.01)))
        ps.append(sparse_benefit.differ(sparse_benefit.choices(noise)).p)
    # Under the null p is uniform, but for ties: of 20, more than 5 below 0.1 have a chance of 1% (binomial).
    assert sum(p < 0.1 for p in ps) <= 5


def test_where_all_choose_alike_nothing_differs():
    found = sparse_benefit.choices(table(growing))
    told = sparse_benefit.differ(found)
    assert told.chosen == [0.05] and told.p == 1


def test_a_cell_that_is_not_complete_chooses_no_radius_and_has_no_trend():
    partly = table(growing, missing=lambda run: run.pruner == "snip" and run.rho == 0.1 and run.width == 0.4)
    found = sparse_benefit.choices(partly)
    assert set(found[found["pruner"] == "snip"]["label"]) == {"50%"}
    assert set(found[found["pruner"] == "dense"]["label"]) == {"0%"}
    assert sparse_benefit.trend(sparse_benefit.gaps(partly), "snip").cells == 2


def test_with_nothing_there_is_nothing():
    nothing = table(growing, missing=lambda run: True)
    assert sparse_benefit.gaps(nothing).empty and sparse_benefit.choices(nothing).empty
    assert math.isnan(sparse_benefit.differ(sparse_benefit.choices(nothing)).p)
    assert math.isnan(sparse_benefit.trend(sparse_benefit.gaps(nothing), "snip").tau)
