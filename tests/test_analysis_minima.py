"""Findings on minima from tables that are made up, and 1-sharpness of linear models against closed forms."""

import itertools

import pandas
import pytest

from lib.paper.analysis import minima, smooth_bounds
from lib.paper.analysis.minima import closed_form, equally_sharp, interpolators, linear
from lib.runs import Run


def measured(sharpness):
    """Rows of `measure`: SGD and SAM, batches of 32 and 160, two seeds; sharpness(sam, batch, seed, radius)."""
    rows = []
    for sam, batch, seed in itertools.product((False, True), (32, 160), (0, 1)):
        run = Run(dataset="digits", batch_size=batch, seed=seed, optimizer="sam" if sam else "sgd", rho=0.1 * sam)
        values = [sharpness(sam, batch, seed, radius) for radius in (0.01, 0.1)]
        row = run.as_dict() | {"key": run.key, "run_key": run.key, "status": "done", "train_error": 0.0}
        row |= {"radii": [0.01, 0.1], "sharpness": values, "released": [-0.1, values[1]]}
        row |= {"group_sizes": [1, 10], "one_step": [1.0, 1.0], "many_steps": [1.0, 2.0 + seed]}
        rows.append(row | {"train_norm": 1.0, "eval_norm": 4.0})
    return pandas.DataFrame(rows)


def errors(table, values):
    named = minima.described(table)
    return named.assign(
        error=[values[name] + seed / 100 for name, seed in zip(named["name"], named["seed"], strict=True)]
    )


FLAT = {"SGD, batch 32": 3.0, "SGD, batch 160": 4.0, "SAM, batch 32": 1.0, "SAM, batch 160": 2.0}


def test_flatter_is_by_decades_at_equal_batches():
    sharp = minima.radii(measured(lambda sam, batch, seed, radius: (0.1 if sam else 1.0) * radius * batch * (1 + seed)))
    finding = minima.flatter(sharp)
    assert finding.effect.value == pytest.approx(-1.0) and finding.effect.high < 0
    assert minima.flatter(sharp[sharp["method"] == "SGD"]).effect is None


def test_a_radius_that_ranks_as_the_errors_do_is_found():
    table = measured(lambda sam, batch, seed, radius: radius * FLAT[f"{'SAM' if sam else 'SGD'}, batch {batch}"])
    sharp = minima.radii(table)
    assert minima.ranking(sharp, errors(table, FLAT))[1] is False
    other = FLAT | {"SAM, batch 160": 5.0}
    words, holds = minima.ranking(sharp, errors(table, other))
    assert holds is True and "at most 4 of 6 pairs in order" in words
    assert minima.ranking(sharp[sharp["method"] == "SGD"], errors(table, FLAT))[1] is None
    # errors that do not differ over seeds order nothing
    alike = errors(table, dict.fromkeys(FLAT, 3.0)).assign(error=lambda part: part["error"] + part["seed"] * part.index)
    assert minima.ranking(sharp, alike) == ("the test errors of 0 of 6 pairs differ at 50,610 parameters", None)


def test_networks_that_have_not_fitted_their_samples_test_nothing():
    table = measured(lambda sam, batch, seed, radius: radius * (1.0 if sam else 2.0)).assign(train_error=0.1)
    sharp = minima.radii(table)
    assert minima.flatter(sharp).untested == minima.UNFITTED
    assert minima.counterexample(sharp, errors(table, FLAT), 0.1).untested == minima.UNFITTED
    assert minima.ranking(sharp, errors(table, FLAT))[1] is None
    assert minima.shortfall_slopes(minima.shortfalls(table)).empty


@pytest.mark.parametrize(("error", "holds"), [(5.0, True), (2.0, False)])
def test_a_counterexample_is_flatter_and_errs_more(error, holds):
    table = measured(lambda sam, batch, seed, radius: radius * (1.0 if sam else 2.0) * (1 + seed / 10))
    wrong = errors(table, FLAT | {"SAM, batch 160": error})
    assert minima.counterexample(minima.radii(table), wrong, 0.1).holds is holds


def test_the_counterexample_is_undecided_within_the_scatter():
    table = measured(lambda sam, batch, seed, radius: radius * (1.0 if sam else 2.0) * (1 + seed / 10))
    wrong = errors(table, FLAT | {"SAM, batch 160": 3.0})
    wrong["error"] += [0.0, 1.0] * 4 * wrong["name"].eq("SAM, batch 160") - 0.5 * wrong["name"].eq("SAM, batch 160")
    assert minima.counterexample(minima.radii(table), wrong, 0.1).undecided


def test_the_shortfall_is_a_slope_of_logarithms():
    short = minima.shortfalls(measured(lambda *_: 1.0))
    slopes = minima.shortfall_slopes(short)
    assert slopes["value"].to_numpy() == pytest.approx([0.30103, 0.477121], abs=1e-5)
    assert short["ratio"].max() == 3.0


def test_modes_of_batch_norm_are_compared_by_size_and_sign():
    finding = minima.modes(measured(lambda *_: 1.0))
    assert finding.effect.value == pytest.approx(0.30103, abs=1e-5)  # log₁₀ 4 − log₁₀ 2
    assert "evaluation's is larger in 4 of 4" in finding.measured
    assert minima.modes(measured(lambda *_: 1.0).assign(status="missing")).effect is None


def test_the_released_value_counts_where_all_samples_are_right():
    table = measured(lambda *_: 0.01)
    assert minima.released(minima.radii(table))[1]
    assert not minima.released(minima.radii(table.assign(released=[[0.1, 0.1]] * len(table))))[1]
    assert minima.released(minima.radii(table.assign(train_error=0.1)))[1] is None


def test_a_linear_model_has_the_closed_form_and_only_squared_losses_are_equally_sharp():
    table = linear(problems=3)
    assert closed_form(table)[1] and interpolators(table)[1] and not equally_sharp(table)[1]
    assert not closed_form(table.assign(measured=table["measured"] * 1.001))[1]
    assert equally_sharp(table.assign(measured=1.0))[1]


def test_no_networks_give_no_numbers():
    missing = measured(lambda *_: 1.0).assign(status="missing")
    assert minima.radii(missing).empty and minima.shortfalls(missing).empty and minima.by_mode(missing).empty
    assert len(minima.by_mode(measured(lambda *_: 1.0))) == 16
    assert minima.ranking(minima.radii(missing), errors(missing, FLAT).iloc[:0])[1] is None


def test_a_theorem_holds_where_no_ratio_exceeds_one():
    table = pandas.DataFrame({"theorem": ["a", "a", "b"], "ratio": [0.5, 1.0, 1.1], "high": [0.6, 1.2, 0.5]})
    assert smooth_bounds.holds(table, "a")[1] and not smooth_bounds.holds(table, "a", "b")[1]
    assert not smooth_bounds.holds(table, "a", column="high")[1]


def test_full_batch_bounds_hold_and_one_as_printed_does_not():
    table = smooth_bounds.full_batch()
    assert smooth_bounds.holds(table, "6", "9", "10", "11", "11, strong")[1]
    assert not smooth_bounds.holds(table, "9, as printed")[1]
    assert table.groupby("theorem")["ratio"].max()["9"] > 0.99  # a quadratic meets it with equality


def test_beyond_one_over_beta_sam_rests_and_climbs():
    table = smooth_bounds.resting()
    assert smooth_bounds.necessary(table)[1]
    ends = table.set_index("rho")["end"]
    assert ends[[0.5, 0.99]].abs().max() < 1e-3 and (ends[[1.5, 2.0]] - 1).abs().max() < 1e-3
    assert not smooth_bounds.necessary(table.assign(step=0.1))[1]
