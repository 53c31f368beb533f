"""Tables of Figure 17 that are made up, so that what each verdict has to be is known."""

import math

import pandas
import pytest
from findings import outcome

from lib.paper import analysis, experiments
from lib.runs import Run
from lib.sweep import sweep

ALPHAS = (1, 10, 100, 1000)


def grid(seeds=(0, 1)):
    """A row a run, as `measure` and `sweep` give them: SGD is lazy as 1/α, SAM with ρ = 0.1 not at all."""
    rows = []
    for alpha in ALPHAS:
        for rho in (0.0, 0.1):
            for seed in seeds:
                run = Run(model="vgg11", width=8, loss="squared", linearize="centered", alpha=alpha, seed=seed)
                run = run.but(optimizer="sam", rho=rho) if rho else run
                row = run.as_dict() | {"key": run.key, "run_key": run.key, "status": "done"}
                row |= {"test_accuracy": 0.9 if rho == 0 else 0.3, "train_loss": (0.1 if rho == 0 else 5.0) / alpha**2}
                row |= {"stability": 1 - 0.1 / alpha if rho == 0 else 0.4, "distance": 3 / alpha if rho == 0 else 0.7}
                row |= {"kernel_change": 0.2 / alpha, "start_sharpness": 2.0, "swing": 8.0 if rho else math.nan}
                row |= {"sharpness": 2.0 * (1 + 1 / alpha) ** (1 if seed else -1)}
                outputs = [[1.0, 2.0 + (1 / alpha if rho == 0 else 3.0)]]
                rows.append(row | {"outputs": outputs, "provenance": {}})
    table = pandas.DataFrame(rows)
    return analysis.linearization.scored(table)


@pytest.fixture
def runs():
    return grid()


def split(runs, alpha=None):
    runs = runs if alpha is None else runs[runs["alpha"] == alpha]
    return runs[runs["rho"] == 0], runs[runs["rho"] > 0]


def without(runs, status, **fields):
    """The runs, those of these fields missing or diverged, as `scored` gives such."""
    lost = pandas.Series(True, runs.index)
    for name, value in fields.items():
        lost &= runs[name] == value
    assert lost.any()
    runs = runs.copy()
    runs.loc[lost, ["accuracy", "loss", *analysis.linearization.NUMBERS]] = math.nan
    runs["outputs"] = [None if gone else out for gone, out in zip(lost, runs["outputs"], strict=True)]
    return runs.assign(status=runs["status"].mask(lost, status))


# ----------------------------------------------------------------------------------------------------------- tables


def test_scores_are_percentages_and_losses_the_same_at_every_alpha(runs):
    sgd, sam = split(runs)
    assert sgd["accuracy"].tolist() == pytest.approx([90] * 8) and sam["accuracy"].tolist() == pytest.approx([30] * 8)
    assert sgd["loss"].tolist() == pytest.approx([0.1] * 8) and sam["loss"].tolist() == pytest.approx([5] * 8)
    assert set(sgd["label"]) == {"SGD"} and set(sam["label"]) == {"SAM, ρ = 0.1"}


def test_what_ends_above_the_best_constant_answer_has_not_learned_and_only_if_it_ended(runs):
    sgd, sam = split(runs)
    assert set(sgd["status"]) == {"done"} and set(sam["status"]) == {"not learned"}
    assert set(without(runs, "diverged", rho=0.1)["status"]) == {"done", "diverged"}


def test_a_measurement_takes_its_scores_from_the_row_of_its_run():
    trained = sweep(experiments.vgg_learning_rate("smoke"), train=False)
    trained["test_accuracy"], trained["train_loss"] = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.95, 0.7]
    measured = trained[["alpha", "rho", "seed"]].assign(status=["done", "missing", "done", "done"], distance=2.0)
    result = analysis.linearization.scored(measured.set_index(pandas.Index([7, 8, 9, 10])), trained)
    assert result["accuracy"].tolist() == pytest.approx([10, 20, 30, 40])
    assert result["status"].tolist() == ["done", "missing", "not learned", "done"]
    assert result["swing"].isna().all() and result["distance"].tolist() == [2] * 4


def test_runs_are_compared_with_the_tangent_model_of_their_own_seed(runs):
    sgd, _ = split(runs, 10)
    tangent = sgd.assign(outputs=[[[1.0, 2.0]], [[3.0, 4.0]]])
    assert analysis.linearization.distance_to_tangent(sgd, tangent).tolist() == pytest.approx(
        [0.1 / 5**0.5, ((1 - 3) ** 2 + (2.1 - 4) ** 2) ** 0.5 / 5]
    )
    alone = analysis.linearization.distance_to_tangent(sgd, tangent[tangent["seed"] == 1])
    assert alone.isna().tolist() == [True, False] and alone.index.equals(sgd.index)
    lost = without(sgd, "missing", seed=0)
    assert analysis.linearization.distance_to_tangent(lost, tangent).isna().tolist() == [True, False]


def test_exponents_are_those_of_the_distances_and_leave_the_smallest_alpha_out(runs):
    runs.loc[runs["alpha"] == 1, "distance"] = 1e6
    result = analysis.linearization.distances(runs)
    assert result.index.tolist() == ["SGD", "SAM, ρ = 0.1"]
    assert result["exponent of α"].tolist() == pytest.approx([-1, 0])
    assert result["‖w − w₀‖"].tolist() == pytest.approx([0.003, 0.7])
    assert math.isnan(result["‖w − w₀‖/ρ"].iloc[0]) and result["‖w − w₀‖/ρ"].iloc[1] == pytest.approx(7)
    assert math.isnan(analysis.linearization.distances(runs[runs["alpha"] <= 10])["exponent of α"].iloc[0])


# ---------------------------------------------------------------------------------------------------------- verdicts


def verdicts(runs, tangent=None):
    """Every verdict on runs of SGD and SAM. In place of the tangent model, where none is given, is SGD at α = 1000."""
    (sgd, sam), (last_sgd, last_sam) = split(runs), split(runs, 1000)
    later = split(analysis.linearization.later(runs))
    tangent = last_sgd if tangent is None else tangent
    return {
        "lazy": analysis.linearization.lazy(last_sgd, last_sam),
        "never_lazy": analysis.linearization.never_lazy(sam),
        "behind": analysis.linearization.behind(last_sgd, last_sam),
        "learned": analysis.linearization.learned(last_sgd, last_sam),
        "near_tangent": analysis.linearization.near_tangent(last_sgd, tangent),
        "keeps_sharpness": analysis.linearization.keeps_sharpness(sgd),
        "distance_scales": analysis.linearization.distance_scales(*later),
        "fails_on_tangent": analysis.linearization.fails_on_tangent(last_sgd, last_sam),
        "equivalent": analysis.linearization.equivalent(last_sam, tangent),
        "keeps_up": analysis.linearization.keeps_up(last_sam, last_sgd),
    }


AS_MADE = {
    "lazy": False,
    "never_lazy": True,
    "behind": True,
    "learned": False,
    "near_tangent": True,
    "keeps_sharpness": True,
    "distance_scales": True,
    "fails_on_tangent": True,
    "equivalent": False,
    "keeps_up": False,
}


def test_every_verdict_is_that_of_the_numbers(runs):
    assert {name: finding.holds for name, finding in verdicts(runs).items()} == AS_MADE


def test_every_verdict_turns_with_the_numbers(runs):
    """SAM is given SGD's numbers and SGD those of SAM, and a sharpness that moves away ever more."""
    swapped = runs.assign(rho=0.1 - runs["rho"], optimizer=["sam" if rho == 0 else "sgd" for rho in runs["rho"]])
    swapped["sharpness"] = 2 * (1 + swapped["alpha"])
    findings = verdicts(swapped.sort_values(["alpha", "rho", "seed"]), tangent=split(runs, 1000)[0])
    turned = {name: not holds for name, holds in AS_MADE.items()}
    # What must hold of both holds for neither as long as one of them is as before.
    turned |= {"lazy": False, "learned": False}
    assert {name: one.holds for name, one in findings.items()} == turned


def test_runs_that_have_not_learned_test_nothing_but_that_they_have_not(runs):
    findings = verdicts(runs)
    dead = {name for name, one in findings.items() if one.untested}
    assert dead == {"lazy", "never_lazy", "behind", "distance_scales", "fails_on_tangent", "equivalent", "keeps_up"}
    assert findings["behind"].untested == "not learned: SAM, ρ = 0.1 at α = 1000"
    learned = runs.assign(status="done")
    assert not any(one.untested for one in verdicts(learned).values())
    assert outcome("17a-behind", verdicts(learned)["behind"]) is True  # 60 points, for both seeds


def test_stability_rises_where_it_is_higher_at_every_larger_alpha(runs):
    sgd, sam = split(runs)
    assert analysis.linearization.rises(sgd).holds is True
    assert analysis.linearization.rises(sgd.assign(alpha=-sgd["alpha"])).holds is False
    assert "SGD 90% at α = 1, 99% at α = 10, " in analysis.linearization.rises(sgd).measured
    assert analysis.linearization.rises(sgd, sam).untested.startswith("not learned: SAM, ρ = 0.1 at α = 1")


def with_(runs, column, values):
    """Runs of two seeds with these values."""
    return runs.assign(**{column: values})


@pytest.mark.parametrize(("points", "holds"), [([80.0, 80.2], False), ([79.8, 80.0], True), ([60.0, 99.0], True)])
def test_ten_points_are_far_in_the_mean(runs, points, holds):
    sgd, sam = split(runs, 1000)
    sam = with_(sam, "accuracy", points)
    assert (
        analysis.linearization.behind(sgd, sam).holds is holds
        and analysis.linearization.fails_on_tangent(sgd, sam).holds is holds
    )


@pytest.mark.parametrize(("points", "holds"), [([85.0, 85.2], True), ([84.8, 85.0], False), ([99.0, 99.0], True)])
def test_five_points_are_close(runs, points, holds):
    sgd, _ = split(runs, 1000)
    assert analysis.linearization.keeps_up(with_(sgd, "accuracy", points), sgd).holds is holds


@pytest.mark.parametrize(("kept", "holds"), [([0.991, 0.992], True), ([0.989, 1.0], False), ([1.0, 0.989], False)])
def test_lazy_is_more_than_99_per_cent_of_the_activations_of_every_run(runs, kept, holds):
    sgd, _ = split(runs, 1000)
    some = with_(sgd, "stability", kept)
    assert (
        analysis.linearization.lazy(some, sgd).holds
        is analysis.linearization.lazy(sgd, some).holds
        is analysis.linearization.keeps_up(some, sgd).holds
        is holds
    )


@pytest.mark.parametrize(("kept", "holds"), [(0.99, True), (0.991, False)])
def test_one_lazy_run_at_any_alpha_refutes_that_a_large_radius_never_is(runs, kept, holds):
    _, sam = split(runs)
    sam.loc[sam.index[2], "stability"] = kept
    assert analysis.linearization.never_lazy(sam).holds is holds


@pytest.mark.parametrize(("off", "holds"), [((0.09, 0.09), True), ((0.11, 0.01), False), ((0.01, 0.11), False)])
def test_near_is_a_tenth_of_the_length_for_every_run(runs, off, holds):
    sgd, sam = split(runs, 1000)
    tangent = sgd.assign(outputs=[[[3.0, 4.0]]] * 2)
    some = [part.assign(outputs=[[[3.0, 4.0 + 5 * o]] for o in off]) for part in (sgd, sam)]
    assert (
        analysis.linearization.near_tangent(some[0], tangent).holds
        is analysis.linearization.equivalent(some[1], tangent).holds
        is holds
    )


def test_a_seed_without_a_tangent_model_leaves_open_how_near_it_is(runs):
    sgd, _ = split(runs, 1000)
    assert analysis.linearization.near_tangent(sgd, sgd[sgd["seed"] == 0]).holds is None


@pytest.mark.parametrize(
    ("falls", "stays", "holds"),
    [(-1.09, 0.09, True), (-0.91, -0.09, True), (-0.89, 0.0, False), (-1.11, 0.0, False), (-1.0, 0.11, False)],
)
def test_both_exponents_must_be_within_a_tenth(runs, falls, stays, holds):
    sgd, sam = split(analysis.linearization.later(runs))
    sgd, sam = (part.assign(distance=part["alpha"] ** slope) for part, slope in ((sgd, falls), (sam, stays)))
    assert analysis.linearization.distance_scales(sgd, sam).holds is holds


def test_an_exponent_is_fitted_to_the_runs_that_there_are(runs):
    some = without(runs, "missing", alpha=100)
    assert analysis.linearization.distances(some)["exponent of α"].tolist() == pytest.approx([-1, 0])


def test_what_was_measured_is_told_in_numbers(runs):
    """Seed 1 of SAM is worse, and its losses and distances differ from those of seed 0."""
    first = (runs["rho"] > 0) & (runs["seed"] == 0)
    runs.loc[first, ["accuracy", "loss", "distance", "stability"]] = [40.0, 0.5, 0.5, 0.6]
    runs.loc[first, "swing"] = 4.0
    runs.loc[(runs["rho"] == 0) & (runs["seed"] == 0), "stability"] = 0.9995
    messages = {name: finding.measured for name, finding in verdicts(runs).items()}
    losses = "α²·training loss up to 5, SGD's 0.1"
    assert messages["learned"] == losses
    behind = f"55.0 points behind SGD, where SAM did not learn: {losses}, the best constant answer's 0.9"
    assert messages["behind"] == behind
    assert messages["lazy"] == "activations that training changed: SGD 0.03 ± 0.028 % (n = 2), SAM 50 ± 14 % (n = 2)"
    unlearned = "SAM, ρ = 0.1 has not learned at α = "
    stable = "highest stability at ρ = 0.1 and any α: 0.600; 0 of 8 runs diverged"
    assert messages["never_lazy"] == f"{stable}; {unlearned}1, 10, 100, 1000"
    fails = "at radius 0.1 SAM is 55.0 points behind SGD on the tangent model, α²·training loss 2.75"
    assert messages["fails_on_tangent"] == f"{fails} (SGD's 0.1, untrained 1)"
    assert messages["equivalent"].endswith("; α‖w − w₀‖ 600, on the tangent model 0.003")
    assert messages["keeps_up"] == (
        "activations changed 50 ± 14 % (n = 2), -55.0 points against SGD, α²·training loss 2.75"
    )
    assert messages["distance_scales"].startswith("α to the power -1.00 for SGD, ")
    scaled = " for SAM at ρ = 0.1, by 3 values of α from 10 to 1000"
    assert messages["distance_scales"].endswith(f"{scaled}; {unlearned}10, 100, 1000")
    assert analysis.linearization.distances(runs)["swing"].iloc[1] == pytest.approx(6)
    sgd, sam = split(runs, 1000)
    assert analysis.linearization.behind(sam, sgd).measured.startswith(
        "-55.0 points behind SGD, where SGD did not learn: "
    )


def test_both_optimizers_must_be_lazy_and_have_learned(runs):
    sgd, _ = split(runs, 1000)
    assert (
        analysis.linearization.lazy(sgd, sgd).holds is True and analysis.linearization.learned(sgd, sgd).holds is True
    )


@pytest.mark.parametrize("status", ["missing", "diverged"])
def test_a_run_that_is_not_there_leaves_its_verdicts_open_and_is_counted(runs, status):
    findings = verdicts(without(runs, status, alpha=1000, rho=0.1, seed=1))
    judged = {name: (f"1 {status}" in one.measured, one.holds) for name, one in findings.items()}
    for name in ("lazy", "behind", "learned", "distance_scales", "fails_on_tangent", "equivalent", "keeps_up"):
        assert judged[name] == (True, None), name
    assert judged["near_tangent"] == (False, True) and judged["keeps_sharpness"] == (False, True)
    # That a run diverged says that it did not stay where it was.
    text, holds, *_ = findings["never_lazy"]
    assert (f"1 of 8 runs {status}" in text, holds) == ((False, None) if status == "missing" else (True, True))


def test_nothing_is_said_of_a_large_radius_where_all_diverged_at_the_largest_alpha(runs):
    _, sam = split(without(runs, "diverged", alpha=1000, rho=0.1))
    message, holds, *_ = analysis.linearization.never_lazy(sam)
    assert holds is None and message.startswith("highest stability at ρ = 0.1 and any α: 0.400; 2 of 8 runs diverged; ")
    assert message.endswith("has not learned at α = 1, 10, 100")


def test_one_seed_is_named(runs):
    for finding in verdicts(grid(seeds=(3,))).values():
        assert finding.measured.endswith(" (1 seed)")
    assert not any("seed" in finding.measured for finding in verdicts(runs).values())


def test_a_sharpness_that_was_not_measured_before_training_leaves_the_claim_open(runs):
    sgd, _ = split(runs)
    message = analysis.linearization.keeps_sharpness(sgd.assign(start_sharpness=math.nan))
    assert message.measured == "the sharpness before training is not recorded" and message.holds is None


def test_sharpness_may_move_up_or_down_but_ever_less(runs):
    sgd, _ = split(runs)
    message, holds, *_ = analysis.linearization.keeps_sharpness(sgd)
    assert holds is True and message.startswith("SGD off its start by a factor of 2.000 at α = 1, 1.100 at α = 10")
    sgd.loc[sgd["alpha"] == 1000, "sharpness"] = 3.0
    assert analysis.linearization.keeps_sharpness(sgd).holds is False


@pytest.mark.parametrize(("best", "holds"), [(0.01, True), (0.03, False), (0.1, False)])
def test_the_learning_rate_is_the_best_of_its_search_or_not(best, holds):
    search = sweep(experiments.vgg_learning_rate("smoke"), train=False).assign(lr=[0.003, 0.01, 0.03, 0.1])
    search["test_accuracy"] = [0.5 + 0.1 * (lr == best) for lr in search["lr"]]
    search = analysis.linearization.scored(search.assign(status="done", train_loss=[0.1, 0.1, 0.1, 0.95]))
    message, verdict, *_ = analysis.linearization.best_learning_rate(search, 0.01)
    assert verdict is holds and message.endswith("not learned at η = 0.1 (1 seed)")
    diverged = search.assign(status=["done", "done", "done", "diverged"], accuracy=[50, 60, 50, math.nan])
    assert analysis.linearization.best_learning_rate(diverged, 0.01)[:2] == (
        "50.0% at η = 0.003, 60.0% at η = 0.01, 50.0% at η = 0.03, diverged at η = 0.1 (1 seed)",
        True,
    )
    assert analysis.linearization.best_learning_rate(diverged.assign(status="missing"), 0.01).holds is None


@pytest.mark.parametrize(
    ("gains", "holds"),
    [
        ([2.0, 1.5, 0.0, -20.0], True),  # a gain, and no larger one later
        ([2.0, 2.5, 0.0, -20.0], None),  # a larger one, by less than a point
        ([2.0, 3.5, 0.0, -20.0], False),
        ([-5.0, -3.0, 0.5, -20.0], None),  # more, but SAM never gains
        ([-5.0, -3.0, 1.5, -20.0], False),
        ([0.5, 0.4, 0.2, -20.0], None),  # no gain to lose
    ],
)
def test_linearization_makes_sam_no_more_effective_only_if_it_was_before(runs, gains, holds):
    rows = {"alpha": ALPHAS, "gap": gains, "protocol": "samples"}
    message, verdict, *_ = analysis.linearization.no_more_effective(pandas.DataFrame(rows).iloc[[2, 0, 3, 1]], runs)
    assert verdict is holds and message.startswith(f"best gain over SGD {gains[0]:+.1f} points at α = 1, ")
    assert (
        analysis.linearization.no_more_effective(pandas.DataFrame(rows), without(runs, "missing", alpha=10)).holds
        is None
    )


def test_the_gain_at_every_alpha_is_that_of_the_protocols_of_section_5(runs):
    table = runs.assign(test_accuracy_even=runs["test_accuracy"], test_accuracy_odd=runs["test_accuracy"])
    best = analysis.gap.summary(table.assign(status="done", loss="squared"), by="alpha").query("protocol == 'samples'")
    assert analysis.linearization.no_more_effective(best, runs).measured.startswith(
        "best gain over SGD -60.0 points at α = 1, "
    )


def test_outputs_of_one_length_off_are_at_distance_one(runs):
    sgd, _ = split(runs, 1)
    tangent = sgd.assign(outputs=[[[1.0, 1.0]]] * 2)
    zero = sgd.assign(outputs=[[[0.0, 0.0]]] * 2)
    assert analysis.linearization.distance_to_tangent(zero, tangent).tolist() == pytest.approx([1, 1])
