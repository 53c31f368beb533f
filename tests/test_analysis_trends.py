"""Trend tests against enumeration, SciPy and closed forms; exponents against data made with a known one."""

import itertools
import math

import numpy as np
import pandas
import pytest
from scipy import stats
from test_analysis_gap import row, table

from lib.paper import analysis


def frame(*blocks, over=(10, 100, 1000)):
    """One block of values a seed."""
    rows = [
        {"parameters": x, "gap": y, "seed": seed}
        for seed, block in enumerate(blocks)
        for x, y in zip(over, block, strict=True)
    ]
    return pandas.DataFrame(rows)


def test_a_perfect_trend_has_tau_one_and_the_least_p_of_its_design():
    trend = analysis.trends.trend(frame([1, 2, 3], [2, 3, 4], [0, 1, 2]))
    assert trend.tau == 1
    assert trend.p_grows == pytest.approx((1 / 6) ** 3) == trend.least
    assert trend.p_falls == 1
    assert (trend.cells, trend.seeds) == (3, 3)


def test_one_seed_is_kendalls_exact_test():
    y = [3.1, 1.2, 4.5, 2.2, 5.9, 5.1]
    x = [1, 2, 3, 4, 5, 6]
    trend = analysis.trends.trend(frame(y, over=x))
    wanted = stats.kendalltau(x, y, alternative="greater", method="exact")
    assert trend.tau == pytest.approx(wanted.statistic)
    assert trend.p_grows == pytest.approx(wanted.pvalue)


def test_with_ties_and_a_missing_cell_the_p_value_is_that_of_all_permutations():
    blocks = [[1.0, 1.0, 2.0], [0.0, math.nan, 1.0]]
    trend = analysis.trends.trend(frame(*blocks))

    def s(x, y):
        return sum(np.sign(x[j] - x[i]) * np.sign(y[j] - y[i]) for i, j in itertools.combinations(range(len(x)), 2))

    sums = [
        s((1, 2, 3), a) + s((1, 3), b)
        for a in itertools.permutations(blocks[0])
        for b in itertools.permutations((0.0, 1.0))
    ]
    observed = s((1, 2, 3), blocks[0]) + 1
    assert trend.p_grows == pytest.approx(np.mean([value >= observed for value in sums]))
    assert trend.tau == pytest.approx(observed / 4)


def test_values_that_all_tie_have_the_least_p_of_values_that_do_not():
    trend = analysis.trends.trend(frame([1, 1, 1], [2, 2, 2], [0, 0, 0]))
    assert (trend.tau, trend.p_grows) == (0, 1)
    assert trend.least == pytest.approx((1 / 6) ** 3)


def test_beyond_eight_cells_permutations_are_sampled_close_to_the_exact_test():
    generator = np.random.default_rng(3)
    x, y = np.arange(1, 11), np.arange(10) + 6 * generator.standard_normal(10)
    trend = analysis.trends.trend(frame(y, over=x))
    exact = stats.kendalltau(x, y, alternative="greater", method="exact").pvalue
    assert trend.p_grows == pytest.approx(exact, abs=4 * math.sqrt(exact / analysis.trends.SAMPLED))


def test_under_the_null_p_values_are_uniform_enough():
    generator = np.random.default_rng(0)
    p = np.array(
        [
            analysis.trends.trend(frame(*generator.standard_normal((3, 4)), over=(1, 2, 3, 4))).p_grows
            for _ in range(500)
        ]
    )
    for level in (0.05, 0.25, 0.5):  # an exact test rejects at most that often, up to binomial noise
        assert (p <= level).mean() <= level + 4 * math.sqrt(level * (1 - level) / 500)
    assert (p <= 0.5).mean() > 0.35


def test_the_slope_is_per_decade_with_students_interval_over_seeds():
    trend = analysis.trends.trend(frame([0, 1, 2], [0, 2, 4], [0, 3, 6]))
    assert trend.slope == pytest.approx(2)
    assert (trend.low, trend.high) == pytest.approx(stats.t(df=2, loc=2, scale=1 / 3**0.5).interval(0.95))
    assert analysis.trends.trend(frame([0, 90, 990]), log=False).slope == pytest.approx(1)


def test_a_single_cell_has_no_trend():
    trend = analysis.trends.trend(frame([1], [2], over=(10,)))
    assert math.isnan(trend.tau) and math.isnan(trend.p_grows)
    assert (trend.cells, trend.seeds) == (1, 0)


# ---------------------------------------------------------------------------------------------- rho against parameters


def searched(best, seeds=3, noise=0.0):
    """Widths and the ρ at which accuracy peaks, a parabola in log ρ; SGD below it."""
    draw, rows = np.random.default_rng(0), []
    for width, peak in best.items():
        for seed in range(seeds):
            rows.append(row(0.8, width=width, seed=seed))
            for rho in (0.01, 0.02, 0.04, 0.08, 0.16):
                top = 0.9 - 0.01 * math.log2(rho / peak) ** 2 + noise * draw.standard_normal()
                rows.append(row(top, width=width, seed=seed, rho=rho))
    return table(*rows)


def test_the_exponent_is_that_of_the_line_through_the_best_rhos():
    scaling = analysis.trends.rho_scaling(searched({0.25: 0.01, 1.0: 0.04, 4.0: 0.16}))
    sizes, rhos = zip(*scaling.cells, strict=True)
    assert rhos == (0.01, 0.04, 0.16)
    assert scaling.exponent == pytest.approx(np.polyfit(np.log(sizes), np.log(rhos), 1)[0])
    assert scaling.low == pytest.approx(scaling.exponent) == scaling.high  # every seed says the same
    assert scaling.trend.p_grows == pytest.approx((1 / 6) ** 3)


def test_seeds_that_disagree_widen_the_range_over_their_resamples():
    runs = searched({0.25: 0.02, 1.0: 0.04}, noise=0.02)
    scaling = analysis.trends.rho_scaling(runs)
    alone = [analysis.trends.rho_scaling(runs[runs["seed"] == seed]).exponent for seed in (0, 1, 2)]
    assert scaling.low <= min(alone) < max(alone) <= scaling.high  # three of the 27 resamples are one seed thrice
    assert (
        f" ({scaling.low:+.2f} to {scaling.high:+.2f} over resamples of the seeds)"
        in analysis.trends.describe_scaling(scaling)
    )


def test_one_cell_or_one_seed_say_so_with_nan():
    assert math.isnan(analysis.trends.rho_scaling(searched({1.0: 0.04})).exponent)
    alone = analysis.trends.rho_scaling(searched({0.25: 0.01, 1.0: 0.04}, seeds=1))
    assert alone.exponent > 0 and math.isnan(alone.low)


def test_the_exponent_says_what_it_owes_to_ties():
    runs = searched({0.25: 0.02, 1.0: 0.04, 4.0: 0.08})
    assert (scaling := analysis.trends.rho_scaling(runs)).ties == (scaling.exponent, scaling.exponent)
    assert "equal" not in analysis.trends.describe_scaling(scaling)
    peak = runs["test_accuracy"].max()
    runs.loc[(runs["width"] == 4) & (runs["rho"] == 0.01), "test_accuracy"] = peak
    runs.loc[(runs["width"] == 0.25) & (runs["rho"] == 0.16), "test_accuracy"] = peak
    scaling = analysis.trends.rho_scaling(runs)
    sizes, rhos = zip(*scaling.cells, strict=True)
    assert rhos == pytest.approx(((0.02 * 0.16) ** 0.5, 0.04, (0.01 * 0.08) ** 0.5))  # means of equals
    wanted = [np.polyfit(np.log(sizes), np.log(r), 1)[0] for r in ((0.16, 0.04, 0.01), (0.02, 0.04, 0.08))]
    assert scaling.ties == pytest.approx(wanted)
    assert (
        f", {wanted[0]:+.2f} to {wanted[1]:+.2f} by other choices among equal ρ; "
        in analysis.trends.describe_scaling(scaling)
    )
    assert analysis.trends.describe_scaling(analysis.trends.rho_scaling(searched({1.0: 0.04}))).startswith(
        "fewer than two such networks"
    )


def test_only_seeds_that_every_cell_has_count():
    runs = searched({0.25: 0.01, 1.0: 0.04})
    scaling = analysis.trends.rho_scaling(runs[runs["seed"] != 2 * (runs["width"] < 1)])  # seeds 1, 2 and 0, 1
    assert scaling.seeds == [1] and len(scaling.cells) == 2 and scaling.partial == []


def test_a_network_with_fewer_seeds_than_the_others_takes_none_from_them():
    runs = searched({0.25: 0.01, 1.0: 0.04, 4.0: 0.16})
    two = analysis.trends.rho_scaling(runs[runs["width"] < 4])
    three = analysis.trends.rho_scaling(runs[(runs["width"] < 4) | (runs["seed"] == 0)])
    assert (three.seeds, three.cells, three.exponent) == ([0, 1, 2], two.cells, two.exponent)
    assert two.partial == [] and len(three.partial) == 1
    assert analysis.trends.describe_scaling(three).endswith(f"; partial, left out: {three.partial[0]:,} parameters")
    assert "partial" not in analysis.trends.describe_scaling(two)
    lone = analysis.trends.describe_scaling(
        analysis.trends.rho_scaling(runs[(runs["width"] == 4) | (runs["seed"] == 0)])
    )
    assert lone.startswith("fewer than two such networks have a complete search; partial, left out: ")


def test_a_best_rho_at_the_edge_of_the_grid_is_told_to_be_a_bound():
    inside = analysis.trends.rho_scaling(searched({0.25: 0.02, 1.0: 0.04}))
    both = analysis.trends.rho_scaling(searched({0.25: 0.01, 1.0: 0.04, 4.0: 0.16}))
    assert (inside.edges, both.edges) == (0, 2)
    assert "bound" not in analysis.trends.describe_scaling(inside)
    assert "; at the edge of the grid, only bounds: 2 of 3 ρ*; " in analysis.trends.describe_scaling(both)


def test_a_cell_whose_search_is_under_way_is_left_out():
    runs = searched({0.25: 0.01, 1.0: 0.04, 4.0: 0.02})
    runs.loc[(runs["width"] == 4) & (runs["rho"] == 0.16), "status"] = "missing"
    assert [rho for _, rho in analysis.trends.rho_scaling(runs).cells] == [0.01, 0.04]
