"""Verdicts on the implicit bias: each can be true and false, on tables that are made up; and the record of Figure 7."""

import json

import numpy as np
import pandas
import pytest

from lib.paper import plots
from lib.paper.analysis import implicit_bias, implicit_bias_descent, relu_record
from lib.paper.analysis import implicit_bias_verdicts as verdicts
from lib.paper.experiments import implicit_bias as setting
from lib.theory import relu_regression


def flows(printed, corrected, converged=(True, True)):
    rows = [
        {"method": "1-sam", "reading": reading, "kkt": kkt, "converged": done}
        for reading, values in ((implicit_bias.PRINTED, printed), (implicit_bias.CORRECTED, corrected))
        for kkt, done in zip(values, converged, strict=True)
    ]
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("corrected", "converged", "holds"),
    [([1e-9, 1e-6], (True, True), True), ([1e-9, 1e-3], (True, True), False), ([1e-9, 1], (True, False), True)],
)
def test_a_reading_of_the_effective_alpha_holds_where_every_residual_is_small(corrected, converged, holds):
    table = flows([0.1, 0.2], corrected, converged)
    assert verdicts.effective_alpha(table, "1-sam", implicit_bias.CORRECTED)[1] is holds
    assert verdicts.effective_alpha(table, "1-sam", implicit_bias.PRINTED)[1] is False
    assert ("1 of 2 flows that converged" in verdicts.effective_alpha(table, "1-sam", implicit_bias.CORRECTED)[0]) == (
        not all(converged)
    )


def test_without_a_flow_that_converged_there_is_no_verdict():
    table = flows([0.1, 0.2], [1e-9, 1e-9], (False, False))
    assert verdicts.effective_alpha(table, "1-sam", implicit_bias.CORRECTED) == ("none of 2 flows converged", None)


def test_fifteen_of_twenty_are_more_than_chance_and_fourteen_are_not():
    assert verdicts.often(15, 20) and not verdicts.often(14, 20)
    ratios = pandas.Series([-1.0] * 15 + [np.inf] * 5)  # a run that diverged is no better
    assert verdicts.better(ratios) == ("test loss times 0.1 in the median, lower in 15 of 20 seeds", True)
    assert verdicts.all_better({"a": ratios, "b": -ratios})[1] is False


def test_sizes_are_within_a_factor_or_not():
    assert verdicts.within(pandas.Series([3.0, 6.0]), 4)[1] and not verdicts.within(pandas.Series([3.0, 9.0]), 4)[1]


def test_a_collapse_is_one_of_every_seed_at_the_largest_radius():
    table = pandas.DataFrame(
        {"seed": [0, 1, 0, 1], "rho": [1, 1, 2, 2], "outcome": ["interpolates"] * 2 + ["collapses"] * 2}
    )
    assert verdicts.collapse(table) == ("collapses in 0 of 2 at ρ = 1, 2 of 2 at ρ = 2", True)
    assert not verdicts.collapse(table.assign(outcome="interpolates"))[1]


def test_n_sam_is_explained_only_if_it_is_worse_and_would_be_better_evenly():
    table = pandas.DataFrame({"method": ["n-sam"], "on_support": [7.0], "ratio": [1.05], "even": [0.95]})
    assert verdicts.support(table)[1]
    assert not verdicts.support(table.assign(ratio=0.9))[1] and not verdicts.support(table.assign(even=1.1))[1]


def radii():
    rows = [("GD", 0.0, 2.0, 2.0), ("A", 0.1, 1.0, 3.0), ("A", 0.2, np.inf, 0.1)]
    table = [
        {"step_size": 1, "label": label, "rho": rho, "seed": seed, "role": role, "test_loss": loss}
        for label, rho, *losses in rows
        for role, seed, loss in zip(("tuning", "reported"), (100, 0), losses, strict=True)
    ]
    return pandas.DataFrame(table)


def test_rho_is_tuned_on_other_seeds_than_those_that_are_reported():
    tuned = implicit_bias_descent.tuned(radii())
    assert set(tuned["seed"]) == {0} and set(zip(tuned["label"], tuned["rho"], strict=True)) == {("GD", 0), ("A", 0.1)}
    assert implicit_bias_descent.against(tuned, "A").tolist() == pytest.approx([np.log10(1.5)])
    assert not set(setting.TUNING) & set(setting.REPORTED)


def curves():
    """GD, and a 1-SAM that fits later, with a larger integral, and ends better."""
    rows = [("GD", (1, 1e-6), 2.0), ("1-SAM, c = 1", (2, 1e-4), 1.0), ("1-SAM, c = 2", (3, 1e-3), 0.5)]
    return pandas.DataFrame(
        [
            {"label": label, "seed": seed, "step": step, "train_loss": loss, "test_loss": end}
            for label, losses, end in rows
            for seed in range(5)
            for step, loss in enumerate(losses)
        ]
    )


def test_slower_is_judged_by_steps_and_by_the_integral():
    assert verdicts.integral(curves())[1] is True
    assert verdicts.integral(curves().assign(test_loss=lambda t: -t["test_loss"]))[1] is False
    speed = implicit_bias_descent.slowness(curves()).query("seed == 0").set_index("label")
    assert speed["steps"].tolist() == [1, np.inf, np.inf]
    assert verdicts.slower(curves())[1] is True
    assert verdicts.slower(curves().assign(test_loss=lambda t: -t["test_loss"]))[1] is False


def test_minima_are_connected_where_the_barrier_is_low():
    line = pandas.DataFrame({"seed": 0, "t": [-1.0, 0.0, 0.5, 1.0], "train_loss": [9.0, 0.1, 0.105, 0.1]})
    start = pandas.DataFrame({"seed": [0], "step": [0], "label": ["GD"], "train_loss": [1.0]})
    assert verdicts.connected(line, start)[1] is True
    assert verdicts.connected(line.assign(train_loss=[9.0, 0.1, 0.5, 0.1]), start)[1] is False
    diverged = line.assign(train_loss=[np.inf, 0.1, np.inf, np.inf])
    assert verdicts.connected(diverged, start)[1] is None


def test_the_gain_grows_with_the_width_only_if_it_does():
    rows = pandas.DataFrame(
        [
            {"d": d, "seed": 0, "label": label, "test_loss": loss}
            for d, one in ((30, 0.5), (60, 0.25))
            for label, loss in (("GD", 1.0), ("1-SAM, c = 1", one))
        ]
    )
    assert verdicts.width(rows)[1] is True
    assert verdicts.width(rows.assign(d=90 - rows["d"]))[1] is False


def test_level_sets_go_from_the_circle_to_the_diamond():
    curves = implicit_bias.level_sets([10.0, 1e-12])
    large, small = (curves[curves["alpha"] == alpha] for alpha in (10.0, 1e-12))
    assert np.hypot(large["x"], large["y"]).to_numpy() == pytest.approx(1, abs=1e-3)
    ones = (small["x"].abs() + small["y"].abs()).to_numpy()
    assert ones.min() > 0.999 and ones.max() < 1.03


# ---------------------------------------------------------------------------- Figure 7


@pytest.fixture
def trained():
    start = relu_regression.Networks.draw([0, 1] * 3)
    labels = [label for label in relu_record.VARIANTS for _ in (0, 1)]
    return relu_record.Trained(start, labels, [0, 1] * 3, np.array([0]), start.loss[None])


def test_complexity_and_spread_are_of_every_network(trained):
    table, functions = relu_record.complexity(trained), relu_record.functions(trained)
    assert len(table) == 6 and (table["variation"] > 0).all() and set(functions["seed"]) == {0, 1}
    assert verdicts.relu(table, "variation")[1] is False  # the same start for all
    calm = table.assign(variation=np.where(table["label"].str.startswith("SAM"), 1.0, 2.0))
    assert verdicts.relu(calm, "variation")[1] is True
    assert verdicts.relu_spread(functions)[1] is False
    flat = functions.assign(f=np.where(functions["label"].str.startswith("SAM"), 0.0, functions["f"]))
    assert verdicts.relu_spread(flat)[1] is True


def test_without_networks_there_is_no_verdict_and_the_figure_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    assert relu_record.networks("lite", train=False) is None
    table, functions = relu_record.complexity(None), relu_record.functions(None)
    assert verdicts.relu(table, "kinks")[1] is verdicts.relu_spread(functions)[1] is None
    assert plots.fitted(functions, (relu_regression.X, relu_regression.Y), title="t").axes


def test_the_committed_networks_are_those_of_the_settings_and_what_training_makes(monkeypatch, tmp_path):
    kept = relu_record.networks("paper", train=False)
    assert kept is not None and kept.steps[-1] == 10**6
    assert relu_regression.Networks.draw(kept.seed).loss == pytest.approx(kept.losses[0], rel=1e-5)
    assert kept.networks.loss == pytest.approx(kept.losses[-1], rel=1e-2, abs=1e-6)  # to the digits that are kept
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    monkeypatch.setattr(relu_record, "specification", lambda steps: {"steps": 20, "variants": {"A": 0}, "seeds": [0]})
    monkeypatch.setattr(relu_record, "VARIANTS", {"A": (0.3, "constant")})
    monkeypatch.setattr(relu_record, "SEEDS", (0,))
    monkeypatch.setattr(relu_regression, "train", lambda start, **_: (start, np.array([0]), start.loss[None]))
    made = relu_record.networks("smoke", train=True)
    [file] = (tmp_path / "digits" / "companions").iterdir()
    assert json.loads(file.read_text())["provenance"]["versions"]
    again = relu_record.networks("smoke", train=False)
    assert again.networks.output.tolist() == made.networks.output.tolist()


def test_the_committed_losses_are_those_of_training_on_the_way():
    kept, seeds = relu_record.networks("paper", train=False), len(relu_record.SEEDS)
    assert kept.label[:seeds] == ["GD, constant"] * seeds and kept.steps[1] == 5000
    start = relu_regression.Networks.draw(relu_record.SEEDS)
    _, _, losses = relu_regression.train(start, rho=[0.0] * seeds, schedule=["constant"] * seeds, steps=5000)
    assert losses[-1] == pytest.approx(kept.losses[1][:seeds], rel=1e-3)


# ---------------------------------------------------------------------------- figures


def test_the_figures_draw_what_they_are_given(trained):
    strip = pandas.DataFrame({"panel": ["a", "b"], "x": "x", "series": "GD", "value": [1.0, 2.0]})
    figure = plots.strips(strip, title="t", xlabel="", ylabel="y", line=1)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    figure = plots.loss_curves(curves(), title="t")
    assert [line.get_label() for line in figure.axes[0].lines] == ["GD", "1-SAM, c = 1", "1-SAM, c = 2"]
    two = pandas.concat([curves().assign(batch="full"), curves().assign(batch="one sample")])
    assert {line.get_linestyle() for line in plots.loss_curves(two, title="t").axes[0].lines} == {"-", "--"}
    assert len(plots.over_radius(radii(), title="t").axes) == 1
    line = pandas.DataFrame({"label": "A", "seed": [0, 0, 1], "t": [0.0, 1.0, 0.0], "train_loss": [1, 2, np.inf]})
    [axis] = plots.line_losses(line.assign(test_loss=1.0), title="t").axes
    assert axis.get_title() == "A, 1 seed"
    assert (
        len(plots.fitted(relu_record.functions(trained), (relu_regression.X, relu_regression.Y), title="t").axes) == 3
    )
    assert plots.level_sets(implicit_bias.level_sets([1.0]), title="t").axes
