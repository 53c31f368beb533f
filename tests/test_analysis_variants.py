"""Gains of SAM's variants from tables of runs that are made up, where each number is known."""

import pandas
import pytest

from lib.paper.analysis import perturbation, stages, variants
from lib.runs import Run

BASE = Run(dataset="digits", epochs=10, batch_size=32)


def table(accuracies):
    """Rows of `sweep` for (run, test accuracy, best accuracy over epochs); None has no record."""
    rows = []
    for run, accuracy, *curve in accuracies:
        row = run.as_dict() | {"key": run.key, "status": "missing" if accuracy is None else "done"}
        curve = [*(curve[0] if curve else [0.5] * 9), accuracy]
        curves = None if accuracy is None else {"test_accuracy": curve, "epoch": list(range(1, 11))}
        rows.append(row | {"test_accuracy": accuracy, "train_loss": 0.1 + run.rho, "curves": curves})
    return pandas.DataFrame(rows)


def searched(base, sgd, sam, **fields):
    """SGD, and SAM at two ρ, for three seeds: accuracies as lists by seed."""
    rows = [(base.but(seed=s), a) for s, a in enumerate(sgd)]
    for rho, values in sam.items():
        rows += [(base.but(optimizer="sam", rho=rho, seed=s, **fields), a) for s, a in enumerate(values)]
    return rows


def test_a_seed_takes_the_radius_that_is_best_for_the_others():
    sam = {0.1: [0.99, 0.90, 0.90], 0.2: [0.91, 0.94, 0.92]}
    gains = variants.gains(table(searched(BASE, [0.9, 0.9, 0.8], sam)), perturbation.kind)
    # for seeds 1 and 2 the others are better at 0.1, for seed 0 at 0.2
    assert gains["rho"].tolist() == [0.2, 0.1, 0.1] and gains["own_rho"].tolist() == [0.1, 0.2, 0.2]
    assert gains["gain"].to_numpy() == pytest.approx([1.0, 0.0, 10.0])
    assert gains["keys"].str.split().map(len).tolist() == [3, 3, 3]


def test_a_seed_without_every_record_is_left_out_and_a_single_one_gives_no_row():
    sam = {0.1: [0.9, 0.9, None], 0.2: [0.9, None, 0.9]}
    gains = variants.gains(table(searched(BASE, [0.9] * 3, sam)), perturbation.kind)
    assert gains.empty and "gain" in gains
    sam = {0.1: [0.9, 0.9, None], 0.2: [0.9, 0.9, 0.9]}
    assert variants.gains(table(searched(BASE, [0.9] * 3, sam)), perturbation.kind)["seed"].tolist() == [0, 1]


def test_perturbations_are_told_apart_and_compared_with_sam():
    other = searched(BASE, [], {0.1: [0.91, 0.92, 0.93]}, ascent_batch="other")
    random = searched(BASE, [], {1.0: [0.90, 0.90, 0.90]}, perturbation="random")
    rows = searched(BASE, [0.9] * 3, {0.1: [0.95, 0.95, 0.95]}) + other + random
    gains = variants.gains(table(rows), perturbation.kind)
    assert gains.groupby("variant")["gain"].mean().round(6).to_dict() == {"SAM": 5.0, "n-SAM": 2.0, "random": 0.0}
    lead = perturbation.lead(gains, perturbation.OTHER)
    assert lead.effect.value == pytest.approx(3.0) and lead.effect.low < 3 < lead.effect.high
    assert perturbation.gain_of(gains, perturbation.RANDOM).effect.value == pytest.approx(0.0)
    assert perturbation.lead(gains.iloc[:0], perturbation.OTHER).effect is None


def test_the_slope_over_m_is_by_its_logarithm_and_network():
    rows = []
    for width, slope in ((0.1, -1.0), (0.2, -2.0)):
        for parts, decades in ((32, 0), (1, 1.50515)):
            gain = [0.9 + (slope * decades + s / 10) / 100 for s in range(3)]
            rows += searched(BASE.but(width=width), [0.9] * 3 if parts == 1 else [], {0.1: gain}, parts=parts)
    gains = variants.gains(table(rows), perturbation.group_size)
    finding = perturbation.over_m(gains, 0.0)
    assert finding.effect.value == pytest.approx(-1.5, abs=1e-4)
    growth = perturbation.over_m_growth(gains)
    assert growth.effect.value < 0 and growth.effect.networks == 2
    assert perturbation.over_m(gains, 0.6).effect is None


def test_more_steps_are_compared_at_equal_m():
    rows = searched(BASE, [0.9] * 3, {0.1: [0.95] * 3, 0.05: [0.94] * 3})
    run = {rho: dict(ascent_steps=10, ascent_step=rho) for rho in (0.1, 0.05)}
    for rho, values in {0.1: [0.93] * 3, 0.05: [0.96] * 3}.items():
        rows += searched(BASE, [], {rho: values}, **run[rho])
    gains = variants.gains(table(rows), perturbation.steps_of)
    assert set(gains["variant"]) == {"1 step, m = 32", "10 steps, m = 32"}
    assert perturbation.more_steps(gains).effect.value == pytest.approx(1.0)
    assert perturbation.more_steps(gains, "own_rho", "decades").effect.value == pytest.approx(-0.30103, abs=1e-5)


def test_the_best_middle_width_is_chosen_by_the_other_seeds():
    frame = pandas.DataFrame(
        [(p, s, g) for p, gains in {1: (0, 0), 2: (3, 1), 3: (2, 2), 4: (1, 1)}.items() for s, g in enumerate(gains)],
        columns=["parameters", "seed", "gain"],
    )
    finding = perturbation.middle(frame)
    assert finding.effect.value == pytest.approx(((2 - 1) + (1 - 1)) / 2)
    assert perturbation.middle(frame[frame["parameters"] < 3]).effect is None
    frame.loc[frame["parameters"] == 1, "gain"] = 5  # the narrowest gains most
    assert perturbation.middle(frame).effect.value == pytest.approx(((2 - 5) + (1 - 5)) / 2)


def test_batches_are_bridged_seed_by_seed():
    frame = pandas.DataFrame({"parameters": 1, "seed": [0, 1] * 2, "batch_size": [32, 32, 160, 160]})
    frame = frame.assign(sgd=[95, 94, 90, 90], sam=[96, 96, 93, 91])
    assert perturbation.bridge(frame).effect.value == pytest.approx((2 + 3) / 2)


def switched(order, share, accuracies, curve):
    fields = dict(optimizer="sam" if order == stages.FIRST_SAM else "sgd", rho=0.1, switch=share)
    return [(BASE.but(seed=s, **fields), a, curve) for s, a in enumerate(accuracies)]


def test_orders_and_shares_begin_and_end_with_one_optimizer():
    rows = searched(BASE, [0.90, 0.91], {0.1: [0.95, 0.96]})
    rows += switched(stages.FIRST_SAM, 0.5, [0.91, 0.91], [0.5] * 9)
    rows += switched(stages.FIRST_SGD, 0.5, [0.94, 0.94], [0.5] * 9)
    gains = variants.gains(table(rows), stages.order)
    assert set(gains["variant"]) == {"SAM", "SAM→SGD 0.5", "SGD→SAM 0.5"}
    shares = stages.over_share(gains).groupby(["order", "share"])["error"].mean().round(6)
    assert shares[stages.FIRST_SAM].to_dict() == {0.0: 9.5, 0.5: 9.0, 1.0: 4.5}
    assert shares[stages.FIRST_SGD].to_dict() == {0.0: 4.5, 0.5: 6.0, 1.0: 9.5}


def test_the_change_since_the_switch_is_from_the_last_epoch_before_it():
    curve = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.90]  # epochs 1 to 9; the switch at 0.9 is after the ninth
    rows = searched(BASE, [0.9, 0.9], {0.1: [0.9, 0.9]}) + switched(stages.FIRST_SGD, 0.9, [0.92, 0.94], curve)
    runs = table(rows)
    gains = variants.gains(runs, stages.order)
    finding = stages.after_switch(runs, gains, f"{stages.FIRST_SGD} 0.9", 1)
    assert finding.effect.value == pytest.approx(3.0)
    assert stages.after_switch(runs, gains, f"{stages.FIRST_SAM} 0.9", 1).effect is None


def test_without_records_nothing_is_found():
    runs = table(searched(BASE, [None] * 3, {0.1: [None] * 3}) + switched(stages.FIRST_SGD, 0.9, [None] * 2, [0.5] * 9))
    gains = variants.gains(runs, stages.order)
    assert gains.empty and stages.over_share(gains).empty and stages.epochs(runs, stages.order).empty
    assert stages.after_switch(runs, gains, f"{stages.FIRST_SGD} 0.9", 1).effect is None
    assert stages.late_overfitting_of_either(runs).effect is None and stages.loss_ratio(runs).effect is None
    assert variants.over_rho(runs, stages.order).empty and stages.objective(runs).holds is None


def test_late_overfitting_is_the_best_epoch_minus_the_last():
    rows = [(BASE.but(seed=s), 0.90, [0.5, 0.93 + s / 100] + [0.5] * 7) for s in (0, 1)]
    assert stages.late_overfitting(table(rows), sam=False).effect.value == pytest.approx(3.5)
    assert stages.late_overfitting(table(rows), sam=True).effect is None
    rows += [(BASE.but(seed=s, optimizer="sam", rho=0.1), 0.90, [0.905] * 9) for s in (0, 1)]
    assert stages.late_overfitting(table(rows), sam=True).effect.value == pytest.approx(0.5)
    assert stages.late_overfitting_of_either(table(rows)).effect.value == pytest.approx(3.5)


def test_no_seed_chooses_its_own_best_epoch():
    peaks = [[0.9] * at + [0.95] + [0.9] * (8 - at) for at in (2, 5)]  # scatter, and no overfitting
    rows = [(BASE.but(seed=s), 0.9, curve) for s, curve in enumerate(peaks)]
    assert stages.late_overfitting(table(rows), sam=False).effect.value == pytest.approx(0.0)
    assert stages.with_epochs(table(rows[:1]))["best"].isna().all()  # nobody else chooses


def test_forms_and_radii_have_names():
    sam = BASE.but(optimizer="sam", rho=0.1)
    free = sam.but(normalized=False)
    assert [stages.form(r.as_dict()) for r in (sam, free, free.but(clip=True))] == ["SAM", stages.FREE, stages.CLIPPED]
    assert [stages.radius(r.as_dict()) for r in (sam, sam.but(rho_schedule="lr"))] == ["constant ρ", "falling ρ"]


def test_the_ratio_of_losses_is_over_sam_of_every_radius():
    rows = table(searched(BASE, [0.9, 0.9], {0.9: [0.9, 0.9]}))  # train_loss 0.1 + ρ
    assert stages.loss_ratio(rows).effect.value == pytest.approx(1.0)


def test_an_objective_falls_or_not():
    curve = {"epoch": list(range(1, 11)), "train_loss": [1.0 / e for e in range(1, 11)], "weight_norm": [2.0] * 10}
    runs = [BASE.but(weight_decay=0.5, seed=s, **f) for s in (0, 1) for f in ({}, dict(optimizer="sam", rho=0.1))]
    rows = [r.as_dict() | {"key": r.key, "status": "done", "curves": curve} for r in runs]
    table = pandas.DataFrame(rows)
    assert stages.with_objective(table)["curves"][0]["objective"][1] == pytest.approx(0.5 + 0.25 * 4)
    assert stages.objective(table).holds is True
    rising = curve | {"weight_norm": [float(e) for e in range(10)]}
    assert stages.objective(table.assign(curves=[curve, curve, curve, rising])).holds is False
    assert stages.objective(table.assign(status="missing", curves=None)).holds is None


def test_lines_have_means_ranges_and_keys():
    frame = pandas.DataFrame({"p": "a", "l": "b", "x": [1, 1, 2], "y": [1.0, 3.0, 5.0], "keys": ["u v", "v w", "z"]})
    lines = variants.lines(frame, x="x", y="y", label="l", panel="p")
    assert lines["y"].tolist() == [2.0, 5.0] and lines["keys"].tolist() == ["u v w", "z"]
    assert lines["low"].tolist() == [1.0, 5.0] and lines["high"].tolist() == [3.0, 5.0]
