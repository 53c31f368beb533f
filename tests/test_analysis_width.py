"""What the figures of Section 5 plot: on small tables whose numbers are known by hand."""

import math

import numpy as np
import pandas
import pytest
from findings import outcome
from test_analysis_gap import row, table

from lib.paper import analysis, plots
from lib.paper.analysis.rho_search import PARTS
from lib.runs import Run, parameter_count

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
    points = analysis.width.points(swept())
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
    assert analysis.width.interpolates(analysis.width.points(swept(losses))) == pytest.approx(since, nan_ok=True)


def test_networks_without_a_complete_search_are_named():
    result = swept()
    assert analysis.width.without_search(result) == ""
    result.loc[(result["width"] == 1) & (result["rho"] == 0.2), "status"] = "missing"
    assert analysis.width.without_search(result) == "; without a complete search: 1 of 2 widths (1)"
    result.loc[result["epochs"] == 200, "status"] = "missing"
    message = "; without a complete search: 2 of 2 widths (0.25, 1)"
    assert analysis.width.without_search(result, "SGD, twice the epochs") == message


def test_the_gap_inside_over_outside_is_that_of_the_means():
    gaps = pandas.DataFrame({"parameters": [1, 2, 3] * 2, "seed": [0] * 3 + [1] * 3, "gap": [0, 1, 3, 1, 1, 1]})
    effect = analysis.width.inside_over_outside(gaps, 2)
    assert effect.value == pytest.approx(1.5 - 0.5) and (effect.networks, effect.seeds, effect.df) == (3, 2, 3)
    for since in (math.nan, 0):
        assert math.isnan(analysis.width.inside_over_outside(gaps, since).value)


def test_why_the_gap_at_zero_loss_is_not_told_is_said():
    gaps = pandas.DataFrame({"parameters": [1, 2] * 2, "seed": [0, 0, 1, 1], "gap": [0.0, 1.0, 0.0, 1.5]})
    findings = {
        "no network has a complete search": analysis.width.at_zero_loss(gaps.iloc[:0], 2),
        "SGD does not bring the largest network there": analysis.width.at_zero_loss(gaps, math.nan),
        "no such networks have a complete search": analysis.width.at_zero_loss(gaps, 3),
        "only such networks have a complete search": analysis.width.at_zero_loss(gaps, 1),
    }
    assert all(finding.measured == words and outcome("3a-zero", finding) is None for words, finding in findings.items())
    one = analysis.width.at_zero_loss(gaps[gaps["seed"] == 0], 2)
    assert outcome("3a-zero", one) is None and one.measured == "+1.0 points; 2 networks, 1 seed"
    assert outcome("3a-zero", analysis.width.at_zero_loss(gaps, 2)) is True
    assert outcome("3a-zero", analysis.width.at_zero_loss(gaps.assign(gap=-gaps["gap"]), 2)) is False


def test_published_gaps_are_met_where_they_were_published_and_lie_on_lines_between():
    counts = list(analysis.width.PUBLISHED)
    gaps = pandas.DataFrame({"parameters": counts * 3, "seed": np.repeat([0, 1, 2], 5)})
    gaps["gap"] = analysis.width.published(gaps["parameters"])
    assert gaps["gap"].iloc[:5].tolist() == [0.073, 0.063, 0.18, 0.19, 0.187]
    expected = np.polyfit(np.log10(counts), list(analysis.width.PUBLISHED.values()), 1)[0]
    assert analysis.width.published_slope(counts) == pytest.approx(expected)
    assert 0.18 < analysis.width.published([593_210])[0] < 0.19
    noise = 0.01 * np.random.default_rng(0).standard_normal(15)
    near = analysis.width.against_published(gaps.assign(gap=gaps["gap"] + noise))
    assert outcome("3a-size", near) is True
    assert outcome("3a-size", analysis.width.against_published(gaps.assign(gap=noise))) is False
    assert outcome("3a-size", analysis.width.against_published(gaps.assign(parameters=7))) is None


def test_the_published_networks_are_those_of_the_widths():
    for width, count in zip((0.25, 0.5, 1.0, 4.0, 10.0), analysis.width.PUBLISHED, strict=True):
        assert parameter_count.parameters(Run(width=width)) == count


def test_own_radii_are_compared_with_the_expected_one():
    result = analysis.width.own_radii(swept(seeds=3), [0.25, 1.0], 0.1)
    assert result.effect.value == 0 and outcome("5b-largest", result) is True
    assert outcome("5b-largest", analysis.width.own_radii(swept(seeds=3), [0.25], 0.02)) is False
    assert analysis.width.own_radii(swept(), [0.25, 4.0], 0.1).measured == "no complete search at width 4"


def test_the_test_loss_is_lowered_by_the_difference():
    result = analysis.width.lowered(analysis.width.points(swept())).groupby("parameters")["value"].mean()
    assert result.to_dict() == pytest.approx({61_035: 0.025, 266_610: 0.1})


def test_overall_averages_cells_for_each_seed_and_leaves_incomplete_ones_out():
    runs = swept()
    gaps = analysis.width.overall(analysis.gap.gaps(runs)).set_index(["reference", "protocol"])
    assert gaps.loc[("SGD", "paper"), "gap"] == pytest.approx(2)
    assert gaps.loc[("SGD", "paper"), ["cells", "seeds"]].tolist() == [2, 2]
    runs.loc[(runs["width"] == 1) & (runs["rho"] == 0.2), ["status", *PARTS.values()]] = [
        "missing",
        math.nan,
        math.nan,
        math.nan,
    ]
    gaps = analysis.width.overall(analysis.gap.gaps(runs)).set_index(["reference", "protocol"])
    assert gaps.loc[("SGD", "paper"), "gap"] == pytest.approx(1)
    assert gaps.loc[("SGD", "paper"), "cells"] == 1


def test_a_network_with_fewer_seeds_than_the_others_takes_none_from_the_mean_over_networks():
    runs = swept(seeds=3)
    whole = analysis.width.overall(analysis.gap.gaps(runs[runs["width"] == 0.25])).set_index(["reference", "protocol"])
    gaps = analysis.width.overall(analysis.gap.gaps(runs[(runs["width"] == 0.25) | (runs["seed"] == 1)]))
    gaps = gaps.set_index(["reference", "protocol"])
    assert gaps["partial"].tolist() == [[266_610]] * 8 and whole["partial"].tolist() == [[]] * 8
    lists = ["partial", "effect"]
    pandas.testing.assert_frame_equal(gaps.drop(columns=lists), whole.drop(columns=lists))
    assert set(gaps["seeds"]) == {3} and set(gaps["cells"]) == {1}
    assert (
        analysis.gap.left_out([266_610, 5]) == "; partial, left out: 266,610, 5 parameters"
        and analysis.gap.left_out([]) == ""
    )


def test_matched_gaps_are_those_of_the_same_runs_of_sam():
    runs = swept(seeds=3)
    longer = runs["epochs"] == 200
    gaps = analysis.width.matched(analysis.gap.gaps(runs[~longer | (runs["width"] == 1) & (runs["seed"] > 0)]))
    rows = analysis.width.overall(gaps).set_index(["protocol", "reference"])
    for protocol in analysis.gap.PROTOCOLS:  # SAM 93, SGD 90, for twice the epochs 92
        assert rows.loc[protocol, "gap"].to_dict() == pytest.approx({"SGD": 3, "SGD, twice the epochs": 1})
    assert set(rows["cells"]) == {1} and set(rows["seeds"]) == {2}
    assert analysis.width.matched(analysis.gap.gaps(runs[~longer])).empty


def test_best_rhos_are_those_of_all_seeds_and_of_each():
    tidy = analysis.width.best_rhos({"one": swept(), "none": swept().assign(status="missing")})
    assert tidy[tidy["workload"] == "one"]["seed"].tolist() == ["all", "0", "1"] * 2
    assert set(tidy["rho"].dropna()) == {0.1}
    assert tidy[tidy["workload"] == "none"]["rho"].isna().tolist() == [True]


def test_best_rhos_say_which_are_bounds_and_which_runs_they_come_from():
    runs = swept()
    runs.loc[(runs["width"] == 1) & (runs["rho"] == 0.2) & (runs["seed"] == 0), "test_accuracy"] = 0.99
    tidy = analysis.width.best_rhos({"one": runs}).set_index(["parameters", "seed"])
    assert tidy["edge"].tolist() == [False, False, False, False, True, False]  # of the mean 0.1 is the best
    sam = runs[(runs["width"] == 1) & (runs["rho"] > 0)]
    assert set(tidy["keys"][266_610, "all"].split()) == set(sam["key"])
    assert set(tidy["keys"][266_610, "1"].split()) == set(sam["key"][sam["seed"] == 1])


def test_a_best_rho_at_the_edge_has_a_marker_of_its_own():
    runs = swept()
    runs.loc[(runs["width"] == 1) & (runs["rho"] == 0.2), "test_accuracy"] = 0.99
    figures = [plots.best_rho(analysis.width.best_rhos({"one": table}), title="") for table in (runs, swept())]
    diamonds = [line for line in figures[0].axes[0].lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert {tuple(line.get_ydata()) for line in diamonds} == {(0.2,)} and len(diamonds) == 3
    edge, inside = ([text.get_text() for text in figure.legends[0].get_texts()] for figure in figures)
    assert edge == [*inside, "at the edge of the grid: a bound"]
    assert not any(line.get_marker() == "D" for line in figures[1].axes[0].lines)


def test_accuracies_leave_out_the_longer_runs_of_sgd():
    tidy = analysis.width.accuracies(swept())
    assert len(tidy) == 2 * 2 * (1 + len(RHOS))
    assert set(tidy.query("optimizer == 'sgd'")["accuracy"]) == {90}


def unfinished(width, rho, seed=None):
    """`swept` with the runs of SAM at one width and ρ missing, of one seed or of all."""
    runs = swept()
    lost = (runs["width"] == width) & (runs["rho"] == rho) & ((runs["seed"] == seed) | (seed is None))
    runs.loc[lost, ["status", *PARTS.values()]] = ["missing", math.nan, math.nan, math.nan]
    return runs


def test_accuracies_say_which_seeds_have_a_whole_search():
    tidy = analysis.width.accuracies(unfinished(0.25, 0.2))
    assert tidy.groupby("width")["complete"].agg(["min", "max"]).to_numpy().tolist() == [[False] * 2, [True] * 2]
    assert tidy[["width", "searched", "radii"]].drop_duplicates().to_numpy().tolist() == [[0.25, 3, 4], [1, 4, 4]]
    tidy = analysis.width.accuracies(
        unfinished(0.25, 0.2).query("width == 0.25 and rho > 0")
    )  # SGD has not been trained
    assert set(tidy["searched"]) == {3} and not tidy["complete"].any()
    tidy = analysis.width.accuracies(unfinished(0.25, 0.2, seed=1))
    assert tidy[tidy["width"] == 0.25].groupby("seed")["complete"].first().to_dict() == {0: True, 1: False}


def test_selection_is_every_seed_of_complete_cells_with_its_mean_and_error():
    runs = unfinished(1.0, 0.2)
    runs.loc[(runs["width"] == 0.25) & (runs["seed"] == 1) & (runs["rho"] == 0), "test_accuracy"] = 0.88
    tidy = analysis.width.selection(
        {"one": analysis.gap.gaps(runs), "none": analysis.gap.gaps(runs.assign(status="missing"))}
    )
    paper = tidy[(tidy["workload"] == "one") & (tidy["protocol"] == "paper")]
    assert paper["parameters"].tolist() == [61_035, 61_035]
    assert paper["gap"].tolist() == pytest.approx([1, 3])
    assert paper["mean"].tolist() == pytest.approx([2, 2]) and paper["error"].tolist() == pytest.approx([1, 1])
    assert tidy[tidy["workload"] == "none"]["gap"].isna().tolist() == [True]
    small = runs[(runs["width"] == 0.25) & (runs["epochs"] == 100)]
    wanted = small["key"][(small["rho"] > 0) | (small["seed"] == 1)]  # all of SAM, and SGD of the seed
    assert set(paper["keys"].iloc[1].split()) == set(wanted)


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_a_partial_search_is_hollow_and_the_legend_says_of_how_many_radii():
    points = analysis.width.points(unfinished(1.0, 0.2))
    gap = plots.against_parameters(points, title="", quantities=["gap"], since=100_000).axes[0]
    assert {"hollow: 3 of 4 ρ", "training loss < 0.01 (SGD)"} < set(labels(gap))
    assert gap.patches[0].get_extents().x1 == pytest.approx(gap.bbox.x1)  # shaded to the edge
    assert not any("hollow" in label for label in labels(whole().axes[0]))


def whole(seeds=2):
    return plots.against_parameters(analysis.width.points(swept(seeds=seeds)), title="", quantities=["gap"])


@pytest.mark.parametrize(("seeds", "bars"), [(1, 0), (2, 2)])
def test_there_are_bars_where_there_are_two_seeds_and_no_zero_loss_is_said(seeds, bars):
    figure = whole(seeds)
    axis = figure.axes[0]
    assert len(axis.containers) == bars  # one a reference
    assert ("bars" in figure.get_suptitle()) == bool(bars)
    assert "nowhere training loss < 0.01 (SGD)" in labels(axis)


def test_one_network_stands_in_the_middle_of_its_axis():
    one = analysis.width.points(swept().query("width == 1"))
    low, high = plots.against_parameters(one, title="", quantities=["gap"]).axes[0].get_xlim()
    assert low * high == pytest.approx(266_610**2) and high / low > 4


def test_the_legend_shows_a_line_only_where_networks_are_joined():
    def entry(points):
        axis = plots.against_parameters(points, title="", quantities=["gap"]).axes[0]
        return dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))["SAM − SGD"]

    points = analysis.width.points(swept(seeds=1))
    assert entry(points).get_linestyle() == "-"
    assert entry(points[points["width"] == 1]).get_linestyle() == "None"
    assert entry(points.assign(complete=False)).get_markerfacecolor() == "none"


def test_no_protocol_has_the_colour_of_an_optimizer():
    axis = plots.protocols(analysis.width.selection({"one": analysis.gap.gaps(swept())}), title="").axes[0]
    colours = {line.get_color() for line in axis.lines if line.get_marker() == "o"}
    assert len(colours) == len(analysis.gap.PROTOCOLS)
    assert not colours & {plots.COLOURS[name] for name in ("SGD", "SAM", "SGD, twice the epochs")}


def test_panels_of_accuracy_against_rho_say_that_a_search_is_partial():
    partial, done = plots.accuracy_against_rho(analysis.width.accuracies(unfinished(0.25, 0.2)), title="").axes
    assert partial.get_title().endswith("hollow: 3 of 4 ρ") and "hollow" not in done.get_title()
    assert partial.lines[0].get_markerfacecolor() == "none" != done.lines[0].get_markerfacecolor()


def smooth(width, off=0.0, scatter=0.02):
    """Accuracies on a parabola in log ρ, but for so many points at ρ = 0.05."""
    x = np.repeat((*RHOS, 0.4), 3)
    y = 90 + 0.1 * np.log(x) - 0.05 * np.log(x) ** 2 + off * (x == 0.05) + np.tile([-scatter, 0, scatter], 5)
    return pandas.DataFrame({"optimizer": "sam", "width": width, "rho": x, "accuracy": y})


def test_a_jump_is_rough_and_few_rhos_say_nothing():
    assert outcome("11-smooth", analysis.width.continuous(smooth(1))) is True
    assert outcome("11-smooth", analysis.width.continuous(smooth(1, off=1.0))) is False
    assert outcome("11-smooth", analysis.width.continuous(pandas.concat([smooth(1, 2.0), smooth(2)]))) is False
    assert outcome("11-smooth", analysis.width.continuous(smooth(1, scatter=0.3))) is None  # seeds scatter too much
    few = smooth(1)
    few = analysis.width.continuous(few[few["rho"] < 0.2])
    assert few.measured == "no network has four ρ with two seeds" and outcome("11-smooth", few) is None


def test_a_sweep_without_records_has_no_points_and_no_claims_to_make():
    runs = swept().assign(status="missing", test_accuracy=math.nan)
    points = analysis.width.points(runs)
    assert points.empty and math.isnan(analysis.width.interpolates(points)) and analysis.width.lowered(points).empty
    assert analysis.width.overall(analysis.gap.gaps(runs)).empty and analysis.width.accuracies(runs).empty
    assert analysis.trends.describe(analysis.trends.trend(analysis.gap.gaps(runs)), "points").startswith(
        "fewer than two such networks"
    )
    assert math.isnan(analysis.trends.rho_scaling(runs).exponent)
    axes = plots.against_parameters(points, title="", quantities=["gap", "test accuracy"]).axes
    assert {axis.texts[0].get_text() for axis in axes} == {"no record of both SGD and SAM"}
    plots.protocols(analysis.width.selection({"one": analysis.gap.gaps(runs)}), title="")
    plots.accuracy_against_rho(analysis.width.accuracies(runs), title="")
    plots.best_rho(analysis.width.best_rhos({"one": runs}), title="")
