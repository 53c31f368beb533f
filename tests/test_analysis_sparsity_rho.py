"""The best radii of sparse networks: how many networks differ, and when that is a finding."""

import itertools
import math

import numpy as np
import pandas
import pytest
from findings import outcome
from test_analysis_sparsity import DENSE, NETWORKS, RHOS, absent, growing, nothing, table

from lib.paper import analysis
from lib.paper.analysis.sparsity_networks import CELL


def test_the_radius_depends_on_the_network_where_every_seed_says_so():
    best = {(0.1, "random"): 0.02, (0.2, "snip"): 0.1, (0.4, "snip"): 0.1}
    choices = analysis.sparsity_rho.choices(table(lambda r: 0.8 - abs(r.rho - best.get((r.width, r.pruner), 0.05))))
    message = analysis.sparsity_rho.differ(choices)
    assert message.chosen == [0.02, 0.05, 0.1] and (message.cells, message.seeds) == (5, 3)
    # The observed sum of squares is the largest there is. Of 5!³ orders those reach it in which the seeds agree:
    # 5!·(2!·2!)³/5!³, as two cells choose 0.05 and two 0.1. 5!² pairings of the seeds are few enough to try them all.
    assert message.p == pytest.approx((math.factorial(2) ** 2) ** 2 / math.factorial(5) ** 2, rel=1e-12)


def test_the_radius_does_not_depend_on_the_network_where_seeds_choose_at_random():
    generator = np.random.default_rng(0)
    ps = []
    for _ in range(20):
        draws = {}
        noise = table(lambda run, draws=draws: draws.setdefault(run.key, generator.normal(0.8, 0.01)))
        ps.append(analysis.sparsity_rho.differ(analysis.sparsity_rho.choices(noise)).p)
    # Under the null p is uniform, but for ties: of 20, more than 5 below 0.1 have a chance of 1% (binomial).
    assert sum(p < 0.1 for p in ps) <= 5


def test_radii_name_the_runs_that_they_were_chosen_from():
    choices = analysis.sparsity_rho.choices(table(growing)).set_index(["pruner", "removed", "seed"])["keys"]
    sam = [DENSE.but(optimizer="sam", rho=rho, seed=1) for rho in RHOS]
    assert choices["dense", 0, 1].split() == [run.key for run in sam]
    sparse = [run.but(width=0.4, sparsity=0.8, pruner="snip") for run in sam]
    assert choices["snip", 80, 1].split() == [run.key for run in sparse]


def chosen(radii: np.ndarray) -> pandas.DataFrame:
    """Rows as of `choices` from the radii of seeds × cells."""
    cells = [(width, 0.5, "random") for width in range(radii.shape[1])]
    rows = [(*cell, seed, radii[seed, i], 0.1) for seed in range(len(radii)) for i, cell in enumerate(cells)]
    return pandas.DataFrame(rows, columns=[*CELL, "seed", "value", "chosen"])


def test_where_all_choose_alike_nothing_differs():
    choices = analysis.sparsity_rho.choices(table(growing))
    message = analysis.sparsity_rho.differ(choices)
    assert message.chosen == [0.05] and message.p == 1


def different(run):
    """SGD and SAM alike, but ρ* = 0.1 with SNIP and 0.02 with random masks."""
    return 0.8 - abs(run.rho - (0.1 if run.pruner == "snip" else 0.02)) * (run.rho > 0)


@pytest.mark.parametrize(("cells", "seeds", "least"), [(2, 3, 1 / 4), (3, 3, 1 / 36), (5, 2, 1 / 120), (5, 1, 1.0)])
def test_what_p_could_be_at_best_is_the_chance_that_all_seeds_order_the_cells_alike(cells, seeds, least):
    finding = analysis.sparsity_rho.differ(
        analysis.sparsity_rho.choices(table(different, range(seeds), networks=NETWORKS[:cells]))
    )
    assert finding.least == pytest.approx(least, rel=1e-12)


def test_what_p_could_be_at_best_is_reached_where_all_radii_differ():
    best = {0.1: 0.02, 0.2: 0.05, 0.4: 0.1}
    runs = table(lambda run: 0.8 - abs(run.rho - best[run.width]), networks=NETWORKS[:3])
    judged = analysis.sparsity_rho.differ(analysis.sparsity_rho.choices(runs))
    assert judged.p == pytest.approx(judged.least, rel=1e-12)


def test_p_is_the_share_of_all_orders_as_unequal_as_the_observed_one():
    radii = np.random.default_rng(0).choice(RHOS, (3, 4))
    orders = [radii[[[0], [1], [2]], order] for order in itertools.product(itertools.permutations(range(4)), repeat=3)]
    unequal = np.square(np.log(orders).sum(1)).sum(1)
    observed = np.square(np.log(radii).sum(0)).sum()
    assert analysis.sparsity_rho.differ(chosen(radii)).p == pytest.approx(np.mean(unequal >= observed * (1 - 1e-12)))


def test_where_orders_are_too_many_always_the_same_ones_are_drawn():
    # Of 8! pairings of two seeds 20,000 are drawn, so p scatters by its binomial deviation.
    radii = np.array([np.geomspace(0.01, 1, 8), np.geomspace(0.01, 1, 8)[[1, 0, 3, 2, 5, 4, 7, 6]]])
    logs = np.log(radii)
    null = [np.square(logs[0] + logs[1][list(order)]).sum() for order in itertools.permutations(range(8))]
    exact = np.mean(np.array(null) >= np.square(logs.sum(0)).sum() * (1 - 1e-12))
    first, again = (analysis.sparsity_rho.differ(chosen(radii)) for _ in range(2))
    assert first == again and first.least == 1 / 20_001
    assert first.p == pytest.approx(exact, abs=5 * math.sqrt(exact / 20_000) + 1 / 20_000)


@pytest.mark.parametrize(
    ("accuracy", "seeds", "missing", "depends", "same"),
    [
        (different, (0, 1, 2), nothing, True, False),
        (growing, (0, 1, 2), nothing, False, True),
        (different, (0,), nothing, None, None),
        (growing, (0,), nothing, None, None),
        (growing, (0, 1, 2), absent(pruner="snip", width=0.4, rho=0.1), None, None),  # four of five networks
        (different, (0, 1, 2), absent(pruner="snip", width=0.4, rho=0.1, seed=2), None, None),
        (different, (0, 1, 2), lambda run: run.sparsity == 0.8 or run.sparsity == 0, None, None),  # two networks
        (different, (0, 1, 2), lambda run: True, None, None),
    ],
)
def test_the_radius_is_judged_where_two_seeds_have_all_records(accuracy, seeds, missing, depends, same):
    runs = table(accuracy, seeds, missing)
    radii = analysis.sparsity_rho.varies(runs)
    assert outcome("16-pattern", radii) is depends and outcome("8-same", radii) is same


def test_radii_that_differ_by_chance_are_neither_the_same_nor_different():
    # ρ* on the mean is 0.1 in one network for one seed's sake; the seeds do not agree.
    lucky = DENSE.but(width=0.2, sparsity=0.5, seed=1)
    runs = table(
        lambda run: (
            0.8 + 0.01 * (run.rho == 0.05) + 0.09 * (run.but(rho=0, optimizer="sgd") == lucky) * (run.rho == 0.1)
        )
    )
    radii = analysis.sparsity_rho.varies(runs)
    assert analysis.sparsity_rho.differ(analysis.sparsity_rho.choices(runs)).chosen == [0.05, 0.1]
    assert "if networks made no difference" in radii.measured
    assert outcome("8-same", radii) is not False and outcome("16-pattern", radii) is not True


def test_one_seed_is_said_to_tell_nothing():
    assert "fewer than two seeds" in str(
        analysis.sparsity_rho.differ(analysis.sparsity_rho.choices(table(growing, (0,))))
    )
