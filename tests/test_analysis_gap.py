"""The gap between SAM and SGD: by hand on small tables, and its bias on simulated ones whose truth is known."""

import math

import numpy as np
import pandas
import pytest
from scipy import stats

from lib.paper import analysis
from lib.paper.analysis.rho_search import PARTS, cells
from lib.runs import Run

RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)


def row(accuracy, *, even=None, odd=None, status="done", **fields):
    """A row as `sweep` gives it; SAM where ρ is given."""
    run = Run(optimizer="sam" if fields.get("rho") else "sgd", **fields)
    done = status == "done"
    numbers = {"test_accuracy": accuracy, "test_accuracy_even": even, "test_accuracy_odd": odd}
    numbers = {k: (accuracy if v is None else v) if done else math.nan for k, v in numbers.items()}
    return run.as_dict() | {"key": run.key, "status": status} | numbers


def table(*rows):
    return pandas.DataFrame(rows)


def by_protocol(result, protocol="paper", reference="SGD"):
    return result[(result["protocol"] == protocol) & (result["reference"] == reference)]


def small():
    """ρ = 0.1 is best on average (0.93), 0.2 on seed 1 alone."""
    return table(
        row(0.90, seed=0),
        row(0.92, seed=1),
        row(0.94, seed=0, rho=0.1),
        row(0.92, seed=1, rho=0.1),
        row(0.90, seed=0, rho=0.2),
        row(0.95, seed=1, rho=0.2),
    )


def test_the_papers_gap_is_paired_by_seed_at_the_rho_that_is_best_on_average():
    gaps = by_protocol(analysis.gap.gaps(small()))
    assert gaps["seed"].tolist() == [0, 1]
    assert gaps["rho"].tolist() == [0.1, 0.1]
    assert gaps["gap"].tolist() == pytest.approx([4, 0])
    assert gaps["sam"].tolist() == pytest.approx([94, 92])


def test_a_left_out_seed_is_judged_at_the_rho_of_the_others():
    gaps = by_protocol(analysis.gap.gaps(small()), "seeds")
    assert gaps["rho"].tolist() == [0.2, 0.1]  # seed 1 alone prefers 0.2, seed 0 alone 0.1
    assert gaps["gap"].tolist() == pytest.approx([0, 0])


def test_halves_of_the_test_samples_choose_for_each_other():
    runs = table(
        row(0.90, even=0.90, odd=0.90),
        row(0.95, even=0.98, odd=0.92, rho=0.1),
        row(0.945, even=0.94, odd=0.95, rho=0.2),
    )
    gaps = by_protocol(analysis.gap.gaps(runs), "samples")
    # the even ones choose 0.1, worth 0.92 on the odd; the odd ones choose 0.2, worth 0.94 on the even
    assert gaps["gap"].item() == pytest.approx(100 * ((0.92 - 0.90) + (0.94 - 0.90)) / 2)
    assert gaps["rho"].item() == pytest.approx((0.1 * 0.2) ** 0.5)


def test_one_seed_leaves_none_to_choose_on_and_no_interval():
    summary = analysis.gap.summary(small().query("seed == 0")).set_index("protocol")
    assert summary["seeds"].to_dict() == {"paper": 1, "samples": 1, "seeds": 0, "both": 0}
    assert summary.loc["paper", "gap"] == pytest.approx(4)
    assert math.isnan(summary.loc["paper", "low"])
    assert math.isnan(summary.loc["seeds", "gap"])


def test_the_summary_gives_students_interval_over_seeds():
    summary = analysis.gap.summary(small()).set_index("protocol").loc["paper"]
    wanted = stats.t(df=1, loc=2, scale=np.std([4, 0], ddof=1) / 2**0.5).interval(0.95)
    assert (summary["low"], summary["high"]) == pytest.approx(wanted)
    assert summary["error"] == pytest.approx(np.std([4, 0], ddof=1) / 2**0.5)
    assert (summary["missing"], summary["diverged"], summary["runs"]) == (0, 0, 6)
    assert summary["edge"]  # 0.1 is the smallest that was tried


@pytest.mark.filterwarnings("error")
def test_the_interval_is_students_and_has_no_width_where_all_values_are_equal():
    values = np.random.default_rng(0).normal(1, 2, 7)
    wanted = stats.t(df=6, loc=values.mean(), scale=values.std(ddof=1) / 7**0.5).interval(0.9)
    assert analysis.gap.interval(values, 0.9) == pytest.approx(wanted, rel=1e-12)
    assert analysis.gap.interval([0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1), abs=1e-15)
    assert all(math.isnan(bound) for few in ([], [1.0]) for bound in analysis.gap.interval(few))


def equal_but_for_rounding():
    """Means over three seeds of 10,000 samples each that are equal (29,648 hits) but not when added up as floats."""
    accuracies = {0.0: (0.9880, 0.9867, 0.9874), 0.05: (0.9881, 0.9879, 0.9888), 0.2: (0.9878, 0.9889, 0.9881)}
    return table(*(row(a, rho=rho, seed=s) for rho, seeds in accuracies.items() for s, a in enumerate(seeds)))


def test_over_equal_rhos_all_take_the_mean():
    runs = equal_but_for_rounding()
    assert len({pandas.Series(a).mean() for _, a in runs.query("rho > 0").groupby("rho")["test_accuracy"]}) == 2
    gaps = by_protocol(analysis.gap.gaps(runs))
    assert gaps["rho"].tolist() == pytest.approx([0.1] * 3)  # the geometric mean of 0.05 and 0.2
    assert gaps["gap"].tolist() == pytest.approx([-0.005, 0.17, 0.105])
    assert [cell.tied() for cell in cells(runs)] == [[0.05, 0.2]]
    assert [cell.best() for cell in cells(runs)] == pytest.approx([0.1])
    sam = analysis.gap.chosen(runs).query("method == 'SAM'")
    assert sam["rho"].tolist() == pytest.approx([0.1] * 3)
    assert sam["test_accuracy"].tolist() == pytest.approx([0.98795, 0.9884, 0.98845])
    assert all(len(keys.split()) == 2 for keys in sam["key"])
    narrow = runs.assign(width=0.25, key=runs["key"] + "w")
    both = pandas.concat([runs, narrow], ignore_index=True)
    assert [rho for _, rho in analysis.trends.rho_scaling(both).cells] == pytest.approx([0.1, 0.1])
    shared = analysis.width.best_rhos({"": both}).query("seed == 'all'")
    assert shared["rho"].tolist() == pytest.approx([0.1] * 2) and shared["edge"].all()


def test_each_seed_alone_chooses_its_own_best_and_of_equal_ones_the_mean():
    runs = small()
    runs.loc[4, list(PARTS.values())] = 0.94  # ρ = 0.2 for seed 0, as good as 0.1
    assert [cell.alone() for cell in cells(runs)] == [pytest.approx({0: 0.02**0.5, 1: 0.2})]


# ---------------------------------------------------------------------------------------------- what is lacking


def test_a_rho_at_which_a_run_diverged_cannot_be_chosen_and_the_failure_is_counted():
    runs = small()
    runs.loc[3, ["status", *PARTS.values()]] = ["diverged", math.nan, math.nan, math.nan]
    summary = analysis.gap.summary(runs).set_index("protocol").loc["paper"]
    assert summary["rho"] == pytest.approx(0.2)
    assert summary["gap"] == pytest.approx((0 + 3) / 2)
    assert summary["diverged"] == 1


def test_a_seed_whose_reference_diverged_has_no_gap():
    runs = small()
    runs.loc[0, ["status", *PARTS.values()]] = ["diverged", math.nan, math.nan, math.nan]
    gaps = by_protocol(analysis.gap.gaps(runs))
    assert gaps["seed"].tolist() == [1]
    assert gaps["rho"].item() == 0.2


def test_a_seed_with_a_shorter_search_does_not_count_and_its_runs_are_missing():
    runs = small()
    runs.loc[5, ["status", *PARTS.values()]] = ["missing", math.nan, math.nan, math.nan]
    summary = analysis.gap.summary(runs).set_index("protocol").loc["paper"]
    assert (summary["seeds"], summary["missing"], summary["rho"]) == (1, 1, pytest.approx(0.1))
    assert summary["gap"] == pytest.approx(4)
    assert summary["complete"]  # the search of the seed that counts


def test_a_search_that_lacks_a_rho_for_every_seed_is_not_complete():
    runs = small()
    assert by_protocol(analysis.gap.gaps(runs))["complete"].all()
    runs.loc[runs["rho"] == 0.2, ["status", *PARTS.values()]] = ["missing", math.nan, math.nan, math.nan]
    assert not by_protocol(analysis.gap.gaps(runs))["complete"].any()
    summary = analysis.gap.summary(runs).set_index("protocol").loc["paper"]
    assert (summary["seeds"], summary["missing"], summary["searched"], summary["complete"]) == (2, 2, 1, False)


def test_seeds_that_have_as_many_but_other_rhos_are_not_mixed_and_their_cell_stays():
    diverged = dict(accuracy=math.nan, status="diverged")
    first = [row(0.90, seed=0), row(0.93, seed=0, rho=0.05), row(**diverged, seed=0, rho=0.1)]
    second = [row(0.90, seed=1), row(0.91, seed=1, rho=0.01), row(0.95, seed=1, rho=0.02)]
    gaps = by_protocol(analysis.gap.gaps(table(*first, *second)))
    assert (gaps["seed"].tolist(), gaps["rho"].tolist(), gaps["searched"].tolist()) == ([0], [0.05], [1])
    assert gaps["gap"].tolist() == pytest.approx([3])
    third = [row(0.90, seed=2), row(0.93, seed=2, rho=0.01), row(0.92, seed=2, rho=0.02)]
    gaps = by_protocol(
        analysis.gap.gaps(table(*first, *second, *third))
    )  # two seeds share 0.01 and 0.02, one has the others
    assert (gaps["seed"].tolist(), gaps["rho"].tolist(), gaps["radii"].tolist()) == ([1, 2], [0.02] * 2, [4] * 2)
    fourth = [row(0.90, seed=3), *(row(0.92, seed=3, rho=rho) for rho in (0.01, 0.05, 0.1))]
    assert by_protocol(analysis.gap.gaps(table(*first, *second, *third, *fourth)))["seed"].tolist() == [3]  # at most ρ


@pytest.mark.parametrize("lacking", ["sgd", "sam"])
def test_a_cell_with_nothing_to_compare_is_named_in_the_summary_with_no_number(lacking):
    runs = pandas.concat([small(), small().assign(width=2.0, key=lambda t: t["key"] + "w")], ignore_index=True)
    absent = (runs["width"] == 2) & (runs["optimizer"] == lacking)
    runs.loc[absent, ["status", *PARTS.values()]] = ["missing", math.nan, math.nan, math.nan]
    summary = analysis.gap.summary(runs).query("protocol == 'paper'").set_index("width")
    assert summary["seeds"].to_dict() == {1.0: 2, 2.0: 0}
    assert summary.loc[2.0, "missing"] == absent.sum()
    assert math.isnan(summary.loc[2.0, "gap"])
    assert summary.loc[2.0, "searched"] == 0
    assert set(analysis.gap.gaps(runs)["width"]) == {1.0}
    assert set(analysis.gap.chosen(runs)["width"]) == {1.0}


def test_cells_whose_runs_differ_by_more_than_rho_and_seed_are_refused_with_the_field():
    runs = pandas.concat([small(), table(row(0.9, rho=0.1, seed=0, lr=0.2))])
    with pytest.raises(ValueError, match=r"the cell width = 1\.0: its runs differ in lr; add that to `by`"):
        analysis.gap.gaps(runs)
    assert len(by_protocol(analysis.gap.gaps(runs, ["width", "lr"]))) == 2


def test_an_unknown_column_and_mixed_lengths_are_refused():
    with pytest.raises(ValueError, match=r"by = \['depth'\]: the table has no column depth"):
        analysis.gap.gaps(small(), "depth")
    with pytest.raises(ValueError, match=r"runs of \[100, 300\] epochs"):
        analysis.gap.gaps(pandas.concat([small(), table(row(0.9, epochs=300))]))


# ---------------------------------------------------------------------------------------------- compute matched


def test_sgd_with_twice_the_epochs_is_a_second_reference():
    runs = pandas.concat([small(), table(row(0.93, seed=0, epochs=200), row(0.94, seed=1, epochs=200))])
    gaps = by_protocol(analysis.gap.gaps(runs), reference="SGD, twice the epochs")
    assert gaps["gap"].tolist() == pytest.approx([1, -2])
    assert by_protocol(analysis.gap.gaps(runs))["gap"].tolist() == pytest.approx([4, 0])


def test_the_chosen_runs_are_those_the_paper_compares():
    runs = pandas.concat([small(), table(row(0.93, seed=0, epochs=200), row(0.94, seed=1, epochs=200))])
    result = analysis.gap.chosen(runs)
    assert result["method"].tolist() == ["SGD"] * 2 + ["SAM"] * 2 + ["SGD, twice the epochs"] * 2  # as they are drawn
    assert set(result.query("method == 'SAM'")["rho"]) == {0.1}
    assert set(result["parameters"]) == {266_610}


def test_runs_below_three_times_chance_are_marked_and_stay_in_the_gap():
    runs = table(row(0.29, seed=0), row(0.31, seed=1), row(0.95, seed=0, rho=0.1), row(0.1, seed=1, rho=0.1))
    runs.loc[len(runs)] = row(0.0, seed=2, status="missing")
    assert analysis.gap.mark_failures(runs)["status"].tolist() == [
        "not learned",
        "done",
        "done",
        "not learned",
        "missing",
    ]
    assert set(runs["status"]) == {"done", "missing"}  # the table itself is as it was
    assert by_protocol(analysis.gap.gaps(runs))["gap"].tolist() == pytest.approx([66, -21])
    many = table(row(0.004, dataset="imagenet"), row(0.002, dataset="imagenet", seed=1))
    assert analysis.gap.mark_failures(many)["status"].tolist() == ["done", "not learned"]  # of 1000 classes
    no_classes = table(row(math.nan, dataset="factorization", model="linear2", width=4, loss="squared"))
    assert analysis.gap.mark_failures(no_classes)["status"].tolist() == ["done"]


# ---------------------------------------------------------------------------------------------- bias under the null

CELLS, SIGMA, TAU = 200, 0.010, 0.008  # standard deviations of training luck and of either half's sampling luck


@pytest.fixture(scope="module")
def null():
    """CELLS cells in which SAM does nothing: all ρ and SGD have one true accuracy.

    A run scatters by SIGMA. The test samples favour one ρ or another by TAU, alike for all its seeds, independently on
    each half: that is the luck of the samples.
    """
    draw = np.random.default_rng(0)
    rows = []
    for cell in range(CELLS):
        for rho in (0.0, *RHOS):
            even, odd = TAU * draw.standard_normal(2)
            for seed in range(3):
                true = 0.9 + SIGMA * draw.standard_normal()
                parts = {"even": true + even, "odd": true + odd}
                rows.append(row(true + (even + odd) / 2, **parts, rho=rho, seed=seed, lr=1 + cell))
    return analysis.gap.gaps(table(*rows), "lr")


def mean_gap(null, protocol):
    """Of each cell, then over the cells: mean and standard error."""
    means = by_protocol(null, protocol).groupby("lr")["gap"].mean()
    assert len(means) == CELLS
    return means.mean(), means.std(ddof=1) / CELLS**0.5


def highest_of_five():
    """The expected maximum of five standard normal variables: ∫ x d(Φ⁵)."""
    x = np.linspace(-8, 8, 200_001)
    return np.trapezoid(x * 5 * stats.norm.cdf(x) ** 4 * stats.norm.pdf(x), x)


def test_the_papers_protocol_is_biased_under_the_null_by_the_expected_maximum(null):
    mean, error = mean_gap(null, "paper")
    wanted = 100 * highest_of_five() * math.sqrt(SIGMA**2 / 3 + TAU**2 / 2)
    assert highest_of_five() == pytest.approx(1.16296, abs=1e-4)
    assert mean == pytest.approx(wanted, abs=4 * error)
    assert mean > 10 * error


def test_choosing_on_half_the_samples_leaves_the_luck_of_the_seeds(null):
    mean, error = mean_gap(null, "samples")
    # Chosen on u + v_even, reported on u + v_odd: the share of the variance that both have survives.
    shared, total = SIGMA**2 / 3, SIGMA**2 / 3 + TAU**2
    assert mean == pytest.approx(100 * highest_of_five() * shared / math.sqrt(total), abs=4 * error)


def test_choosing_on_other_seeds_leaves_the_luck_of_the_samples(null):
    mean, error = mean_gap(null, "seeds")
    shared, total = TAU**2 / 2, SIGMA**2 / 2 + TAU**2 / 2
    assert mean == pytest.approx(100 * highest_of_five() * shared / math.sqrt(total), abs=4 * error)


def test_choosing_on_other_seeds_and_samples_is_not_biased(null):
    mean, error = mean_gap(null, "both")
    assert abs(mean) < 4 * error
