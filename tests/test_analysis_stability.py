"""Trained weights as minima: only networks near zero loss are judged, and only numbers that converged."""

import math

import numpy as np
import pandas
import pytest
from findings import outcome

from lib import theory
from lib.paper import analysis

TABLE = pandas.DataFrame(
    [
        {"rho": 0.0, "seed": 0, "sample_loss": 0.001, "a": 10.0, "s2": 40.0},
        {"rho": 0.1, "seed": 0, "sample_loss": 0.002, "a": 5.0, "s2": 20.0},
        {"rho": 0.2, "seed": 0, "sample_loss": 0.2, "a": 20.0, "s2": 80.0},
        {"rho": 0.0, "seed": 1, "sample_loss": 0.001, "a": 8.0, "s2": 30.0},
        {"rho": 0.1, "seed": 1, "sample_loss": 0.003, "a": 2.0, "s2": 15.0},
    ]
).assign(status="done", epochs=100, key="k", run_key="r", lr=0.1, batch_gradient=0.5, stability=2.0, a_converged=True)
TABLE[["s3", "s4", "batch_s2", "batch_s3", "batch_s4"]] = 1.0, 1.0, 1.0, 2.0, 3.0


LOW, HIGH = analysis.stability.THRESHOLDS


def test_ratios_are_of_one_seed_and_count_where_both_came_near_zero_loss():
    pairs = analysis.stability.over_sgd(TABLE, "a")
    assert pairs[["rho", "seed", "ratio", "loss"]].to_numpy().tolist() == [
        [0.1, 0, 0.5, 0.002],
        [0.2, 0, 2.0, 0.2],
        [0.1, 1, 0.25, 0.003],
    ]
    effect = analysis.stability.smaller(pairs, LOW)  # the pair that says otherwise is not near zero loss
    assert effect.value == pytest.approx(math.log10(0.5 * 0.25) / 2) and effect.seeds == 2
    every = analysis.stability.smaller(pairs.assign(loss=0.0), LOW)
    assert every.value == effect.value and every.networks == 1  # at ρ = 0.2 there is one seed of two
    for none in (pairs.assign(loss=0.2), pairs.assign(ratio=math.nan), pairs.iloc[:0]):
        assert math.isnan(analysis.stability.smaller(none, LOW).value)
    message = "larger residual 0 to 0.01: ρ = 0.1: 0.375 ± 0.18 (n = 2); above 0.03, not judged: ρ = 0.2: 2 (n = 1)"
    assert analysis.stability.describe_pairs(pairs) == message
    assert analysis.stability.describe_pairs(pairs.assign(ratio=[0.5, 2.0, math.nan])).endswith("; 1 not converged")


def test_steps_are_between_neighbouring_radii_of_sam():
    assert analysis.stability.over_previous(TABLE, "s2")[["rho", "seed", "ratio"]].to_numpy().tolist() == [
        [0.2, 0, 4.0]
    ]


def compared(table) -> dict:
    return dict(analysis.stability.comparisons(table))


NEAR = pandas.DataFrame(
    [
        {"rho": rho, "seed": seed, "sample_loss": 0.001, "a": a * (1 + 0.02 * seed)}
        for rho, a in ((0.0, 40.0), (0.1, 20.0), (0.2, 10.0), (0.4, 5.0))
        for seed in range(3)
    ]
).assign(status="done", epochs=100, key="k", run_key="r", lr=0.1, batch_gradient=0.5, stability=2.0)
for name in ("s2", "s3", "s4"):
    NEAR[name] = NEAR["a"]
NEAR[["batch_s2", "batch_s3", "batch_s4"]] = 1.0, 2.0, 3.0
FLATTER = ("2ab-flatter", "2c-uniform", "2-higher")
FALLING = ("2-a-falls", "2c-falls", "2-s3-falls", "2-s4-falls")


def outcomes(table) -> dict:
    return {name: outcome(name, finding) for name, finding in compared(table).items()}


def test_three_seeds_that_agree_decide_and_one_does_not():
    assert outcomes(NEAR) == dict.fromkeys((*FLATTER, *FALLING), True)
    assert outcomes(NEAR[NEAR["seed"] == 0]) == dict.fromkeys((*FLATTER, *FALLING), None)
    up = NEAR.assign(rho=NEAR["rho"].map({0.0: 0.4, 0.1: 0.2, 0.2: 0.1, 0.4: 0.0}))
    assert outcomes(up) == dict.fromkeys((*FLATTER, *FALLING), False)


def test_a_comparison_is_the_weaker_of_both_thresholds_and_of_all_quantities():
    sharp = NEAR.copy()
    sharp.loc[sharp["rho"] == 0.4, ["sample_loss", "a"]] = 0.02, 4e4  # near zero loss by one of them
    assert outcomes(sharp)["2ab-flatter"] is not True and outcomes(sharp)["2-a-falls"] is not True
    assert outcomes(NEAR.assign(s4=NEAR["s4"].iloc[::-1].to_numpy()))["2-higher"] is False
    assert outcomes(NEAR.assign(s4_converged=False))["2-higher"] is None


def test_the_largest_moment_is_compared_with_its_bound_and_accuracy_with_sharpness():
    result = analysis.stability.alignment(NEAR)
    share = (10 * 1.02) / theory.stability_bounds(0.1, 0.2).s4
    assert 10**result.effect.value == pytest.approx(share, rel=0.5) and outcome("7-align", result) is False
    assert outcome("7-align", analysis.stability.alignment(NEAR.assign(s2=0.01, s3=0.01, s4=0.01))) is True
    trained = pandas.DataFrame(
        {"key": [f"k{i}" for i in range(len(NEAR))], "test_accuracy": 0.9 - 0.01 * np.log10(NEAR["a"])}
    )
    measured = NEAR.assign(run_key=trained["key"])
    effect = analysis.stability.accuracy_and_sharpness(measured, trained).effect
    assert effect.value == pytest.approx(-1) and effect.seeds == 3 and effect.networks == 4


def test_every_text_says_of_which_networks_it_speaks():
    table = TABLE.assign(status=["done", "done", "missing", "done", "diverged"])
    of = "; from 3 of 5 networks (ρ = 0, 0.1; seeds 0, 1), 1 missing, 1 diverged"
    texts = [
        analysis.stability.zero_loss(table).measured,
        analysis.stability.agreement(table).measured,
        *(finding.measured for finding in compared(table).values()),
    ]
    assert len(texts) == 5 and all(text.endswith(of) for text in texts)
    assert analysis.stability.describe_networks(TABLE) == "from 5 of 5 networks (ρ = 0, 0.1, 0.2; seeds 0, 1)"


def test_what_had_not_converged_is_named_and_left_out():
    table = TABLE.assign(s2_converged=[True, False, None, math.nan, True], s3_converged=False)
    assert analysis.stability_tables.unconverged(table).tolist() == [["s3"], ["s2", "s3"], ["s3"], ["s3"], ["s3"]]
    assert analysis.stability.over_sgd(table, "s2")["ratio"].isna().tolist() == [True, False, False]
    result = analysis.stability_tables.settled(table)
    assert result["s3"].isna().all() and result[["s2", "batch_s2"]].isna().to_numpy().tolist()[1] == [True, True]
    assert result["s2"].notna().sum() == 4 and result["a"].notna().all()


def test_a_list_of_flags_and_records_without_any():
    surfaces = pandas.DataFrame({"eigenvalues_converged": [[True, False], [True, True], math.nan]})
    assert analysis.stability_tables.unconverged(surfaces).tolist() == [["eigenvalues"], [], []]
    assert analysis.stability_tables.unconverged(surfaces.set_axis(["converged"], axis=1)).tolist() == [
        ["eigenvalues"],
        [],
        [],
    ]
    assert analysis.stability_tables.unconverged(surfaces[[]]).tolist() == [[], [], []]


@pytest.mark.parametrize(("batches", "rho"), [(False, 0.1), (True, 0.2)])
def test_shares_of_the_conditions_in_both_readings(batches, rho):
    bounds = theory.stability_bounds(0.1, rho)
    result = analysis.stability_tables.shares(TABLE, batches=batches).iloc[1]
    s3, s4 = (2.0, 3.0) if batches else (1.0, 1.0)
    assert result.to_dict() == pytest.approx({"a": 5 / bounds.a, "s2": 0, "s3": s3 / bounds.s3, "s4": s4 / bounds.s4})


def test_zero_loss_is_not_refuted_by_a_shorter_schedule():
    text, holds, *_ = analysis.stability.zero_loss(TABLE)
    assert holds is False and "below 0.01 at 4 and below 0.03 at 4 of 5 networks" in text and "fewer" not in text
    text, holds, *_ = analysis.stability.zero_loss(TABLE.assign(epochs=20))
    assert holds is None and "; 5 of them had fewer epochs than the paper's 100;" in text
    assert analysis.stability.zero_loss(TABLE.assign(epochs=20, sample_loss=0.001)).holds is True


def test_zero_loss_is_that_of_all_networks_by_both_cuts():
    near = TABLE.assign(sample_loss=0.001)
    assert analysis.stability.zero_loss(near).holds is True
    assert analysis.stability.zero_loss(near.assign(status=["done"] * 4 + ["diverged"])).holds is False
    assert analysis.stability.zero_loss(near.assign(status=["done"] * 4 + ["missing"])).holds is None
    assert (
        analysis.stability.zero_loss(TABLE.assign(status=["done"] * 4 + ["missing"])).holds is False
    )  # one that is there is not
    _, holds, _, _, open_ = analysis.stability.zero_loss(near.assign(sample_loss=0.02))
    assert holds is None and open_ == "by the thresholds on the residual: with 0.01 not met, with 0.03 met"


def test_agreement_is_judged_by_a_in_batches_at_networks_of_sam_near_zero_loss():
    text, holds, _, _, open_ = analysis.stability.agreement(TABLE)
    share = 5 / theory.stability_bounds(0.1, 0.2).a
    assert holds is True
    assert f"with a residual below 0.01: 2 of 2 within the bound, {0.4 * share:.2g} to {share:.2g} times" in text
    promise = TABLE.assign(stability=[2.0, 3.0, 4.0, 5.0, 9.0], stability_converged=[True] * 4 + [False])
    assert "Theorem 9's λ_max 2 to 5 for single samples" in analysis.stability.alignment(promise).measured
    assert (
        analysis.stability.agreement(TABLE.assign(s2=1e9, s3=1e9, s4=1e9, batch_s3=1e9, batch_s4=1e9)).holds is True
    )  # no verdict
    far = TABLE.assign(a=[10.0, 9.0, 20.0, 8.0, 2.0])  # within its bound for single samples, not for batches
    assert analysis.stability.agreement(far).holds is False and 9 < theory.stability_bounds(0.1, 0.1).a
    assert analysis.stability.agreement(far.assign(a_converged=[True, False, True, True, True])).holds is True
    text, holds, _, _, open_ = analysis.stability.agreement(TABLE.assign(a_converged=False))
    assert holds is None and "below 0.01: 0 of 2 within the bound, not converged;" in text
    text, holds, _, _, open_ = analysis.stability.agreement(TABLE.assign(sample_loss=0.02))
    assert holds is None and "below 0.01: none; " in text and open_.endswith("with 0.01 open, with 0.03 not met")


def test_both_readings_against_rho():
    table = TABLE.assign(s2_converged=[True, False, True, True, True])
    tidy = analysis.stability_tables.against_rho(table)
    assert len(tidy) == 5 * 4 * 2 and tidy["value"].notna().sum() == 5 * 7
    s2 = tidy[tidy["quantity"] == "s₂"]
    assert s2["converged"].tolist() == 2 * [True, False, True, True, True]
    assert s2["bound"].dropna().tolist() == pytest.approx(4 * [10.0])  # SGD alone, in both readings
    a = tidy[(tidy["quantity"] == "sharpness a") & (tidy["rho"] == 0.1)].groupby("series")["bound"].first()
    expected = {"single samples at ρ": 0.1, "batches at ρ/‖g_B‖": 0.2}
    assert a.to_dict() == pytest.approx({name: theory.stability_bounds(0.1, rho).a for name, rho in expected.items()})


def test_without_a_record_every_table_is_empty():
    missing = TABLE[["rho", "seed", "lr", "key", "run_key"]].assign(status="missing")
    done = analysis.stability_tables.measured(missing)
    assert (
        len(done)
        == len(analysis.stability_tables.against_rho(done))
        == len(analysis.stability.over_sgd(done, "a"))
        == len(compared(missing))
        == 0
    )
    assert analysis.stability_tables.bounds(done, batches=False).dtypes.eq(
        "float64"
    ).all() and analysis.stability.describe_networks(missing).endswith(", 5 missing")
    assert len(analysis.stability_tables.landscapes(missing)) == len(analysis.stability_tables.spectra(done, 0.1)) == 0


def test_a_landscape_names_a_and_the_loss_in_its_middle():
    row = {"status": "done", "key": "k", "rho": 0.1, "axis": [-1.0, 0.0, 1.0], "eigenvalues": [4.0, 3.0]}
    result = analysis.stability_tables.landscapes(
        pandas.DataFrame([{**row, "surface": [[9, 8, 7], [6, 0.5, 4], [3, 2, 1]]}])
    )
    assert set(result["panel"]) == {"SAM, ρ = 0.1: a = 4, loss 0.5"}
    assert result.set_index(["v", "u"])["loss"].to_dict()[-1.0, 1.0] == 7  # a row each v, an entry each u


def test_spectra_hold_the_masses_at_their_peaks():
    table = pandas.DataFrame([{"key": "k", "rho": 0.0, "density_nodes": [0.0, 2.0], "density_weights": [0.9, 0.1]}])
    result = analysis.stability_tables.spectra(table, 0.1)
    masses, line = (result[result["kind"] == kind] for kind in ("mass", "smoothed"))
    peak = 1 / (0.1 * math.sqrt(2 * math.pi))
    assert masses["density"].tolist() == pytest.approx([0.9 * peak, 0.1 * peak])
    assert line["density"].max() == pytest.approx(0.9 * peak, rel=0.05)
    assert set(result["label"]) == {"SGD"}
