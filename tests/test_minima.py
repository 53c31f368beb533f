"""Trained weights as minima: only networks near zero loss are judged, and only numbers that converged."""

import math

import pandas
import pytest

from lib import minima, theory

TABLE = pandas.DataFrame(
    [
        {"rho": 0.0, "seed": 0, "sample_loss": 0.001, "a": 10.0, "s2": 40.0},
        {"rho": 0.1, "seed": 0, "sample_loss": 0.002, "a": 5.0, "s2": 20.0},
        {"rho": 0.2, "seed": 0, "sample_loss": 0.2, "a": 20.0, "s2": 80.0},
        {"rho": 0.0, "seed": 1, "sample_loss": 0.001, "a": 8.0, "s2": 30.0},
        {"rho": 0.1, "seed": 1, "sample_loss": 0.003, "a": 2.0, "s2": 15.0},
    ]
).assign(lr=0.1, batch_gradient=0.5, s3=1.0, s4=1.0, batch_s2=1.0, batch_s3=2.0, batch_s4=3.0, a_converged=True)


def test_ratios_are_of_one_seed_and_judged_where_both_came_near_zero_loss():
    pairs = minima.over_sgd(TABLE, "a")
    assert pairs[["rho", "seed", "ratio", "near_zero"]].to_numpy().tolist() == [
        [0.1, 0, 0.5, True],
        [0.2, 0, 2.0, False],
        [0.1, 1, 0.25, True],
    ]
    assert minima.smaller(pairs) is True  # the pair that says otherwise is not near zero loss
    assert minima.smaller(pairs.assign(near_zero=True)) is False
    assert minima.smaller(pairs.assign(near_zero=False)) is None
    assert minima.smaller(pairs.iloc[:0]) is None
    told = "both near zero loss: ρ = 0.1: 0.375 ± 0.18 (n = 2); not both near zero loss, so not judged: ρ = 0.2: 2 "
    assert minima.told(pairs) == told + "(n = 1)"


def test_steps_are_between_neighbouring_radii_of_sam():
    assert minima.over_previous(TABLE, "s2")[["rho", "seed", "ratio"]].to_numpy().tolist() == [[0.2, 0, 4.0]]


def test_what_had_not_converged_is_named_and_left_out():
    table = TABLE.assign(s2_converged=[True, False, None, math.nan, True], s3_converged=False)
    assert minima.unconverged(table).tolist() == [["s3"], ["s2", "s3"], ["s3"], ["s3"], ["s3"]]
    assert minima.over_sgd(table, "s2")["seed"].tolist() == [0, 1]
    found = minima.settled(table)
    assert found["s3"].isna().all() and found[["s2", "batch_s2"]].isna().to_numpy().tolist()[1] == [True, True]
    assert found["s2"].notna().sum() == 4 and found["a"].notna().all()


def test_a_list_of_flags_and_records_without_any():
    surfaces = pandas.DataFrame({"eigenvalues_converged": [[True, False], [True, True], math.nan]})
    assert minima.unconverged(surfaces).tolist() == [["eigenvalues"], [], []]
    assert minima.unconverged(surfaces.set_axis(["converged"], axis=1)).tolist() == [["eigenvalues"], [], []]
    assert minima.unconverged(surfaces[[]]).tolist() == [[], [], []]


@pytest.mark.parametrize(("batches", "rho"), [(False, 0.1), (True, 0.2)])
def test_shares_of_the_conditions_in_both_readings(batches, rho):
    bounds = theory.stability_bounds(0.1, rho)
    found = minima.shares(TABLE, batches=batches).iloc[1]
    s3, s4 = (2.0, 3.0) if batches else (1.0, 1.0)
    assert found.to_dict() == pytest.approx({"a": 5 / bounds.a, "s2": 0, "s3": s3 / bounds.s3, "s4": s4 / bounds.s4})
