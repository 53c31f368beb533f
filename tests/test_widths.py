"""What the figures of Section 5 plot: on small tables whose numbers are known by hand."""

import math

import numpy as np
import pandas
import pytest
from test_benefit import row, table

from lib import widths

RHOS = (0.02, 0.05, 0.1, 0.2)


def swept(losses=(0.5, 0.001), seeds=2):
    """Widths 0.25 and 1, SAM best at ρ = 0.1 by 1 and 3 points, training losses as given, test loss 0.1 below."""
    rows = []
    for width, best, loss in zip((0.25, 1.0), (0.91, 0.93), losses, strict=True):
        for seed in range(seeds):
            more = dict(width=width, seed=seed)
            rows.append(row(0.90, **more) | {"train_loss": loss, "test_loss": 0.4})
            rows.append(row(0.92, epochs=200, **more) | {"train_loss": loss / 2, "test_loss": 0.5})
            for rho in RHOS:
                accuracy = best if rho == 0.1 else 0.8
                rows.append(row(accuracy, rho=rho, **more) | {"train_loss": 2 * loss, "test_loss": 0.4 - width / 10})
    return table(*rows)


def test_points_are_the_gap_and_the_runs_at_the_best_rho():
    points = widths.points(swept())
    gap = points.query("quantity == 'gap'").groupby(["width", "method"])["value"].mean()
    assert gap[0.25, "SGD"] == pytest.approx(1) and gap[1.0, "SGD"] == pytest.approx(3)
    assert gap[1.0, "SGD, twice the epochs"] == pytest.approx(1)
    accuracy = points.query("quantity == 'test accuracy' and width == 1").groupby("method")["value"].mean()
    assert accuracy.to_dict() == pytest.approx({"SAM": 93, "SGD": 90, "SGD, twice the epochs": 92})
    assert (points.query("method == 'SAM'")["rho"] == 0.1).all()
    assert points.groupby(["quantity", "method", "width"])["seed"].count().unique().tolist() == [2]
    assert points["complete"].all()


@pytest.mark.parametrize(
    ("losses", "since"),
    [((0.5, 0.001), 266_610), ((0.001, 0.001), 61_035), ((0.001, 0.5), math.nan), ((0.5, 0.5), math.nan)],
)
def test_interpolation_begins_where_no_larger_network_has_a_loss(losses, since):
    assert widths.interpolates(widths.points(swept(losses))) == pytest.approx(since, nan_ok=True)


def test_the_gap_inside_over_outside_is_paired_by_seed():
    gaps = pandas.DataFrame({"parameters": [1, 2, 3] * 2, "seed": [0] * 3 + [1] * 3, "gap": [0, 1, 3, 1, 1, 1]})
    assert widths.inside_over_outside(gaps, 2).tolist() == [2, 0]
    assert widths.inside_over_outside(gaps, math.nan).empty and widths.inside_over_outside(gaps, 0).empty


def test_differences_are_above_zero_if_their_interval_is():
    assert widths.above_zero(pandas.Series([0.4, 0.5, 0.6])) == ("+0.50 points (95% +0.25 to +0.75, 3 seeds)", True)
    assert widths.above_zero(pandas.Series([-0.5, 0.5, 1.5]))[1] is False
    assert widths.above_zero(pandas.Series([0.5]))[1] is None


def test_the_test_loss_is_lowered_by_the_difference():
    found = widths.lowered(widths.points(swept())).groupby("parameters")["value"].mean()
    assert found.to_dict() == pytest.approx({61_035: 0.025, 266_610: 0.1})


def test_overall_averages_cells_for_each_seed_and_leaves_incomplete_ones_out():
    from lib import benefit

    runs = swept()
    found = widths.overall(benefit.gaps(runs)).set_index(["reference", "protocol"])
    assert found.loc[("SGD", "paper"), "gap"] == pytest.approx(2)
    assert found.loc[("SGD", "paper"), ["cells", "seeds"]].tolist() == [2, 2]
    runs.loc[(runs["width"] == 1) & (runs["rho"] == 0.2), ["status", *benefit.PARTS.values()]] = [
        "missing",
        math.nan,
        math.nan,
        math.nan,
    ]
    found = widths.overall(benefit.gaps(runs)).set_index(["reference", "protocol"])
    assert found.loc[("SGD", "paper"), "gap"] == pytest.approx(1)
    assert found.loc[("SGD", "paper"), "cells"] == 1


def test_best_rhos_are_those_of_all_seeds_and_of_each():
    tidy = widths.best_rhos({"one": swept(), "none": swept().assign(status="missing")})
    assert tidy[tidy["workload"] == "one"]["seed"].tolist() == ["all", "0", "1"] * 2
    assert set(tidy["rho"].dropna()) == {0.1}
    assert tidy[tidy["workload"] == "none"]["rho"].isna().tolist() == [True]


def test_accuracies_leave_out_the_longer_runs_of_sgd():
    tidy = widths.accuracies(swept())
    assert len(tidy) == 2 * 2 * (1 + len(RHOS))
    assert set(tidy.query("optimizer == 'sgd'")["accuracy"]) == {90}


def test_roughness_is_the_f_ratio_of_lack_of_fit():
    """Under a parabola with Gaussian scatter it follows F(m − 3, m(n − 1)): 1 on average here, within its error."""
    draw, ratios = np.random.default_rng(0), []
    for _ in range(300):
        x = np.log(np.repeat(RHOS, 3))
        accuracy = 90 + x - x**2 + draw.standard_normal(12)
        runs = pandas.DataFrame({"optimizer": "sam", "width": 1, "rho": np.repeat(RHOS, 3), "accuracy": accuracy})
        ratios += widths.roughness(runs)
    free = 12 - 4
    mean, error = free / (free - 2), np.std(ratios) / 300**0.5
    assert np.mean(ratios) == pytest.approx(mean, abs=4 * error)


def test_a_jump_is_rough_and_few_rhos_say_nothing():
    x = np.repeat((*RHOS, 0.4), 2)
    jump = pandas.DataFrame({"optimizer": "sam", "width": 1, "rho": x, "accuracy": np.where(x == 0.05, 50, 90)})
    jump["accuracy"] += np.tile([-0.1, 0.1], 5)
    assert widths.roughness(jump)[0] > 1000
    assert widths.roughness(jump[jump["rho"] < 0.2]) == []


def test_a_sweep_without_records_has_no_points_and_no_claims_to_make():
    from lib import benefit, plots, trends

    runs = swept().assign(status="missing", test_accuracy=math.nan)
    points = widths.points(runs)
    assert points.empty and math.isnan(widths.interpolates(points)) and widths.lowered(points).empty
    assert widths.overall(benefit.gaps(runs)).empty and widths.accuracies(runs).empty
    assert trends.describe(trends.trend(benefit.gaps(runs)), "points").startswith("fewer than two such networks")
    assert math.isnan(trends.rho_scaling(runs).exponent)
    plots.against_parameters(points, title="", quantities=["gap", "test accuracy"])
    plots.accuracy_against_rho(widths.accuracies(runs), title="")
    plots.best_rho(widths.best_rhos({"one": runs}), title="")
