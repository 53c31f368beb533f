"""The benefit in sparse networks: gaps, trends, and verdicts that wait for all records."""

import math

import numpy as np
import pandas
import pytest
from findings import outcome

from lib.paper import analysis
from lib.runs import Run
from lib.sweep import COLUMNS

DENSE = Run(dataset="digits", width=0.1)
NETWORKS = [
    DENSE,
    DENSE.but(width=0.2, sparsity=0.5),
    DENSE.but(width=0.4, sparsity=0.8),
    DENSE.but(width=0.2, sparsity=0.5, pruner="snip"),
    DENSE.but(width=0.4, sparsity=0.8, pruner="snip"),
]
RHOS = (0.02, 0.05, 0.1)


def table(accuracy, seeds=(0, 1, 2), missing=lambda run: False, networks=NETWORKS, rhos=RHOS):
    """A table as from `sweep`, the test accuracy of each run a function of the run."""
    rows = []
    for network in networks:
        for run in [network, *(network.but(optimizer="sam", rho=rho) for rho in rhos)]:
            for seeded in (run.but(seed=seed) for seed in seeds):
                names = ("test_accuracy", "test_accuracy_even", "test_accuracy_odd")
                value = math.nan if missing(seeded) else accuracy(seeded)
                status = "missing" if missing(seeded) else "done"
                rows.append({**seeded.as_dict(), "key": seeded.key, "status": status} | dict.fromkeys(names, value))
    return pandas.DataFrame(rows, columns=COLUMNS)


def growing(run):
    """With SNIP the gap is 1 + 5·sparsity points at ρ = 0.05, with random masks 1 point."""
    gain = 0.01 * (1 + 5 * run.sparsity * (run.pruner == "snip")) if run.rho == 0.05 else 0
    return 0.8 + 0.001 * run.seed + gain


def test_gaps_have_the_dense_network_once_under_its_own_name():
    gaps = analysis.sparsity.sparse_gaps(table(growing)).query("protocol == 'paper'")
    for pruner, removed in {"dense": [0], "random": [50, 80], "snip": [50, 80]}.items():
        line = gaps[gaps["pruner"] == pruner]
        assert sorted(line["removed"]) == sorted(removed * 3)  # once a seed
        expected = 1 + 5 * line["sparsity"] * (pruner == "snip")
        assert line["gap"].to_numpy() == pytest.approx(expected.to_numpy())
    assert set(gaps["label"]) == {"0%", "50%", "80%"}


def test_a_gap_that_grows_with_the_sparsity_has_a_trend_and_one_that_does_not_has_none():
    gaps = analysis.sparsity.sparse_gaps(table(growing))
    snip, random = (analysis.sparsity.trend(gaps, pruner) for pruner in ("snip", "random"))
    assert snip.tau == 1 and snip.p_grows == pytest.approx((1 / 6) ** 3)  # of 3! orders a seed, one is this
    assert snip.slope == pytest.approx(0.05)  # points a percent
    assert abs(random.slope) < 1e-9


def test_a_cell_that_is_not_complete_chooses_no_radius_and_has_no_trend():
    partly = table(growing, missing=lambda run: run.pruner == "snip" and run.rho == 0.1 and run.width == 0.4)
    choices = analysis.sparsity_rho.choices(partly)
    assert set(choices[choices["pruner"] == "snip"]["label"]) == {"50%"}
    assert set(choices[choices["pruner"] == "dense"]["label"]) == {"0%"}
    assert analysis.sparsity.trend(analysis.sparsity.sparse_gaps(partly), "snip").cells == 2


def test_with_nothing_there_is_nothing():
    nothing = table(growing, missing=lambda run: True)
    assert analysis.sparsity.sparse_gaps(nothing).empty and analysis.sparsity_rho.choices(nothing).empty
    assert math.isnan(analysis.sparsity_rho.differ(analysis.sparsity_rho.choices(nothing)).p)
    assert math.isnan(analysis.sparsity.trend(analysis.sparsity.sparse_gaps(nothing), "snip").tau)


# Verdicts


def absent(**fields):
    """True of the runs with these values."""
    return lambda run: all(getattr(run, name) == value for name, value in fields.items())


def nothing(run):
    return False


@pytest.mark.parametrize(
    ("seeds", "missing", "holds"),
    [
        ((0, 1, 2), nothing, True),
        ((0, 1, 2), absent(pruner="random", width=0.2), True),  # another method's, of which the claim says nothing
        ((0, 1, 2), absent(pruner="snip", width=0.4, seed=2, rho=0.1), None),  # one run
        ((0, 1, 2), absent(sparsity=0, seed=2, rho=0), None),
        ((0, 1, 2), absent(seed=2), None),  # two of three seeds
        ((0,), nothing, None),
        ((0, 1), nothing, True),
    ],
)
def test_growth_is_judged_where_there_are_two_seeds_and_all_runs_have_records(seeds, missing, holds):
    # Two seeds choose ρ on each other, so the unbiased protocol has a value; one seed has none.
    assert outcome("15-grows", analysis.sparsity.grows(table(growing, seeds, missing), "snip")) is holds
    down = table(lambda run: 0.8 + 0.001 * run.seed + 0.01 * (1 - run.sparsity / 2) * (run.rho == 0.05), seeds, missing)
    assert outcome("15-grows", analysis.sparsity.grows(down, "snip")) is (False if holds else None)


def diverged(result, **fields):
    """The table, with these runs diverged."""
    chosen = (result[list(fields)] == pandas.Series(fields)).all(axis=1)
    result.loc[chosen, "status"] = "diverged"
    result.loc[chosen, ["test_accuracy", "test_accuracy_even", "test_accuracy_odd"]] = math.nan
    return result


def test_a_radius_at_which_sam_diverged_holds_no_verdict_up_and_a_network_without_a_seed_does():
    finding = analysis.sparsity.grows(diverged(table(growing), rho=0.1, pruner="snip"), "snip")
    assert outcome("15-grows", finding) is True
    finding = analysis.sparsity.grows(diverged(table(growing), rho=0, pruner="snip", width=0.4), "snip")
    assert outcome("15-grows", finding) is None
    assert finding.measured.endswith("not complete: 1 of 3 networks (3 diverged of the 36 runs that would tell)")


def test_what_diverged_is_told_beside_every_verdict():
    lost = diverged(table(growing), rho=0.1, pruner="snip", width=0.4, seed=2)
    for message, *_ in (
        analysis.sparsity.grows(lost, "snip"),
        analysis.sparsity.clearer(lost),
        analysis.sparsity_rho.varies(lost),
    ):
        assert "; 1 diverged of the " in message and message.endswith(" runs that would tell")
    structured = diverged(table(growing, networks=STRUCTURED), rho=0.1, pruner="2:4", seed=2)
    assert analysis.sparsity.structured(structured).measured.endswith("; 1 diverged of the 36 runs that would tell")


def test_what_is_not_complete_is_counted_with_the_runs_that_are_missing():
    one_seed = table(growing, missing=lambda run: run.seed > 0)
    message = "not complete: 3 of 3 networks (24 missing of the 36 runs that would tell)"
    unbiased, paper = analysis.sparsity.described(one_seed, "snip").split("; with ρ chosen as in the paper: ")
    assert unbiased == "no network has a complete search of two seeds"
    assert paper.startswith("+1.00 points at 0%, +3.50 points at 50%, +5.00 points at 80%; ") and paper.endswith(
        message
    )
    only_dense = analysis.sparsity.described(table(growing, missing=lambda run: run.sparsity > 0))
    one = "+1.00 points at 0%; no seed is in two of these networks"
    message = "not complete: 2 of 3 networks (24 missing of the 36 runs that would tell)"
    assert only_dense == f"{one}; with ρ chosen as in the paper: {one}; {message}"
    assert "not complete" not in analysis.sparsity.described(table(growing, (0,)))
    assert "not complete: 5 of 5 networks" in analysis.sparsity_rho.varies(one_seed).measured
    message = analysis.sparsity_rho.varies(table(growing, (0,))).measured
    assert "fewer than two seeds" in message and "not complete" not in message


def test_the_trend_is_told_with_its_slope_and_interval():
    # The seeds' slopes are 0.05 points a percent times 0.9, 1 and 1.1: Student's 95% interval of three is 4.303·s/√3.
    runs = table(lambda r: 0.8 + (0.01 * (1 + 5 * r.sparsity * (0.9 + 0.1 * r.seed)) if r.rho == 0.05 else 0))
    message = analysis.sparsity.described(runs)
    slope = (
        "; +0.5 points for every 10% removed (95% +0.38 to +0.62), τ = 1.00, p = 0.0046 (smallest possible 0.0046), "
    )
    assert message.count(slope) == 2  # by both protocols
    # Where ρ is another on odd samples than on even ones, what is chosen on one half is worth nothing on the other.
    odd = runs["rho"] == 0.05
    runs.loc[odd, "test_accuracy_odd"], runs.loc[runs["rho"] == 0.1, "test_accuracy_odd"] = 0.8, 0.81
    unbiased, paper = analysis.sparsity.described(runs).split("; with ρ chosen as in the paper: ")
    assert slope in f"; {paper}" and "+0.00 points at 80%" in unbiased


def test_networks_sparser_than_those_of_the_paper_are_told_but_not_judged():
    sparser = DENSE.but(width=0.8, sparsity=0.98)

    def then_falls(run):
        return 0.8 + (0.01 * (2 if run.sparsity > 0.9 else 1 + 5 * run.sparsity) if run.rho == 0.05 else 0)

    networks = [*NETWORKS[:3], sparser]
    runs = table(then_falls, networks=networks)
    sentence = analysis.sparsity.grows(runs).measured
    assert outcome("15-grows", analysis.sparsity.grows(runs)) is True
    assert analysis.sparsity.trend(analysis.sparsity.sparse_gaps(runs), "random").cells == 3
    assert sentence.count("+2.00 points at 98%; +0.5 points for every 10% removed") == 2  # by both protocols
    assert "τ = 1.00" in sentence.split("; up to 98%: ")[0]
    assert "τ = 0.33" in sentence.split("; up to 98%: ")[1]  # of six pairs four rise and two fall
    without = analysis.sparsity.grows(table(then_falls, missing=absent(width=0.8), networks=networks))
    assert outcome("15-grows", without) is True


def test_networks_sparser_than_those_of_the_paper_decide_on_no_radius_and_no_advantage():
    networks = [*NETWORKS, *(DENSE.but(width=0.8, sparsity=0.98, pruner=pruner) for pruner in ("random", "snip"))]

    def other(run):
        """The sparsest networks have another ρ*, and are 20 points worse than the others, which are 1 point better."""
        worse = 0.21 * (run.sparsity > 0.95) - 0.01 * (run.sparsity > 0)
        return 0.8 - worse - abs(run.rho - (0.1 if run.sparsity > 0.95 else 0.05)) * (run.rho > 0)

    for missing in (nothing, absent(width=0.8)):
        runs = table(other, missing=missing, networks=networks)
        radii = analysis.sparsity_rho.varies(runs)
        assert outcome("8-same", radii) is True and outcome("16-pattern", radii) is False
        assert analysis.sparsity.advantage(runs)["points"].tolist() == pytest.approx([1, 1])
        assert outcome("6-better-mlp", analysis.sparsity.better(analysis.sparsity.advantage(runs))) is True


@pytest.mark.parametrize(
    ("missing", "holds"),
    [
        (nothing, True),
        (absent(pruner="random", width=0.4), None),
        (lambda run: run.pruner == "random" and run.sparsity > 0, None),
        (lambda run: run.pruner == "snip", None),
        (absent(pruner="random", width=0.4, rho=0.1), None),  # there, but its search is not complete
        (absent(pruner="random", width=0.4, rho=0.1, seed=2), None),
    ],
)
def test_snip_is_clearer_only_where_both_methods_are_complete(missing, holds):
    assert outcome("15-snip", analysis.sparsity.clearer(table(growing, missing=missing))) is holds


def rising(random, snip, scatter=0.0):
    """Accuracies whose gap at ρ = 0.05 rises by so many points in all with either pruner; 0.1 more with each seed,
    and each run scattered by so many points."""

    def accuracy(run):
        slope = {"random": random, "snip": snip}[run.pruner]
        gain = slope * run.sparsity * (1 + 0.1 * run.seed) if run.rho else 0
        noise = np.random.default_rng(int(run.key, 16)).standard_normal()
        return 0.8 + 0.01 * (gain + scatter * noise)

    return accuracy


@pytest.mark.parametrize(
    ("random", "snip", "holds"),
    [
        (1, 2, True),  # both grow with τ = 1
        (2, 1, False),
        (-2, -1, False),  # SNIP's is the larger, but no growth
        (1, 1, False),  # growth with no difference, and none that the margin would miss
    ],
)
def test_snip_is_clearer_where_its_slope_is_surely_the_larger_and_growth(random, snip, holds):
    finding = analysis.sparsity.clearer(table(rising(random, snip)))
    assert outcome("15-snip", finding) is holds
    slopes = [0.1 * (snip - random) * (1 + 0.1 * seed) for seed in (0, 1, 2)]
    more = analysis.sparsity.steeper(analysis.sparsity.sparse_gaps(table(rising(random, snip))))
    assert more.value == pytest.approx(np.mean(slopes))
    assert f"SNIP's slope minus that of random masks {more}; " in finding.measured


def test_by_chance_snip_is_rarely_clearer_and_a_slope_twice_as_large_is_found():
    def reproduced(random, snip):
        """Of 20 tables with other noise, in how many the claim is reproduced."""
        tables = (
            table(rising(random, snip, 0.05), networks=[run.but(lr=0.1 + i / 1e4) for run in NETWORKS], rhos=(0.05,))
            for i in range(20)
        )
        return sum(outcome("15-snip", analysis.sparsity.clearer(one)) is True for one in tables)

    # With equal slopes at most 2.5% of the intervals lie above zero: more than 3 of 20 have a chance of 0.1%.
    assert reproduced(1, 1) <= 3
    assert reproduced(1, 2) >= 15


@pytest.mark.parametrize(
    ("dense", "sparse", "seeds", "holds"),
    [
        (0.4, 0.9, (0, 1, 2), True),
        (0.4, 0.9, (0,), None),
        (0.9, 0.4, (0, 1, 2), False),
        (0.4, 2.0, (0, 1, 2), True),
        (0.4, 0.45, (0, 1, 2), False),  # too small to count
    ],
)
def test_the_size_of_the_growth_is_judged_at_the_paper_s_sparsity(dense, sparse, seeds, holds):
    def accuracy(run):
        points = {0: dense, 0.94: sparse}.get(run.sparsity, 7)
        return 0.8 + (0.01 * points + 1e-5 * run.seed * (run.sparsity > 0) if run.rho == 0.05 else 0)

    networks = [DENSE, *(DENSE.but(width=w, sparsity=s) for w, s in ((0.2, 0.75), (0.4, 0.94), (0.8, 0.98)))]

    def judged(*more):
        return outcome("7-size", analysis.sparsity.size(table(accuracy, seeds, *more, networks=networks)))

    assert judged() is holds
    for lost in ({"rho": 0.1}, {"seed": 0}):
        assert judged(absent(sparsity=0.94, **lost)) is None
    assert judged(absent(sparsity=0.75)) is holds  # not spoken of
    none = analysis.sparsity.size(table(accuracy, seeds, networks=networks[:2]))
    assert none.measured == "no network here is pruned to 94%" and none.effect is None


def ahead(run):
    """Sparse networks 1 point ahead of the dense one, by SGD and by SAM."""
    return 0.8 + 0.01 * (run.sparsity > 0) + 1e-4 * run.seed * (1 + run.sparsity)


def judged_better(*tables):
    finding = analysis.sparsity.better(pandas.concat([analysis.sparsity.advantage(one) for one in tables]))
    return outcome("6-better", finding)


def test_large_sparse_networks_are_better_only_if_every_family_is_there():
    assert judged_better(table(ahead), table(ahead)) is True
    assert judged_better(table(ahead), table(lambda run: 1.6 - ahead(run))) is False
    for missing in (
        lambda run: True,
        lambda run: run.sparsity > 0,
        absent(sparsity=0),
        absent(pruner="snip", width=0.4),
        absent(pruner="snip", width=0.4, rho=0.1),
    ):
        assert judged_better(table(ahead), table(ahead, missing=missing)) is None
    assert judged_better(table(ahead), table(ahead, seeds=(0,))) is None


def test_one_complete_family_that_is_surely_worse_refutes_it_whatever_others_lack():
    def behind(run):
        return 1.6 - ahead(run)

    assert judged_better(table(behind), table(ahead, missing=lambda run: True)) is False
    assert judged_better(table(behind, missing=absent(pruner="snip")), table(ahead)) is False  # random is complete
    partly = absent(width=0.4, rho=0.1)
    assert judged_better(table(behind, missing=partly), table(ahead)) is None  # its mean may still change


def test_rows_that_tell_nothing_are_named_with_their_reason():
    tables = (table(ahead), table(ahead, missing=absent(pruner="snip", seed=1)), table(ahead, seeds=(0,)))
    rows = [analysis.sparsity.advantage(one).assign(network=name) for name, one in zip("ABC", tables, strict=True)]
    sentence = analysis.sparsity.better(pandas.concat(rows)).measured
    assert sentence.startswith(
        "the 95% interval is above zero in 4 of 6 cases, below in 0; A, random +1.01 points (+0.9"
    )
    assert "; A, snip +1.01" in sentence and "; B, random +1.01" in sentence and "; C" not in sentence
    assert sentence.count("): +1.01 at 50%, +1.01 at 80%; ") == 4
    assert sentence.endswith("; 1 of 6 cases are not complete")


def test_the_advantage_is_a_mean_over_complete_networks_and_their_seeds():
    partly = table(ahead, missing=lambda run: run.pruner == "snip" and run.width == 0.4 and run.rho == 0.1)
    advantages = analysis.sparsity.advantage(partly).set_index("pruner")
    assert advantages[["cells", "lacking"]].to_numpy().tolist() == [[2, 0], [1, 1]]
    assert advantages["points"].to_numpy() == pytest.approx([1 + 0.01 * 0.65, 1 + 0.01 * 0.5])


def test_the_advantage_is_told_on_either_half_of_the_test_samples():
    runs = table(ahead)
    runs.loc[(runs["sparsity"] > 0) & (runs["optimizer"] == "sgd"), "test_accuracy_odd"] -= 0.01
    halves = analysis.sparsity.advantage(runs)[["points", "even", "odd"]].to_numpy()
    assert halves == pytest.approx(np.array([[1.0065, 1.0065, 0.0065]] * 2))
    sentence = analysis.sparsity.better(analysis.sparsity.advantage(runs)).measured
    assert sentence.count("; +1.01 on even and +0.01 on odd test samples") == 2


STRUCTURED = [DENSE.but(width=0.2, sparsity=0.5, pruner=pruner) for pruner in ("2:4", "random", "snip")]


def test_patterns_are_judged_where_all_networks_are_complete():
    def judged(*arguments):
        return outcome("8-structured", analysis.sparsity.structured(table(*arguments, networks=STRUCTURED)))

    assert judged(growing) is True
    assert judged(lambda run: 0.8 - 0.01 * (run.rho > 0)) is False
    assert judged(growing, (0,)) is None
    without, only = NETWORKS[1:4], STRUCTURED[:1]
    for networks in (without, only):
        finding = analysis.sparsity.structured(table(growing, networks=networks))
        assert finding.effect is None and finding.measured == "no network with a pattern, or none without"
    for pruner in ("2:4", "random"):
        assert judged(growing, (0, 1, 2), absent(pruner=pruner)) is None
        assert judged(growing, (0, 1, 2), absent(pruner=pruner, rho=0.1)) is None


def test_trainability_is_how_much_lower_snips_training_loss_is():
    runs = table(growing)
    runs["train_loss"] = [0.1 if pruner == "random" else 0.01 for pruner in runs["pruner"]]
    runs.loc[runs["optimizer"] == "sam", "train_loss"] = 5.0  # of SGD alone
    effect = analysis.sparsity.trainable(runs).effect
    assert effect.value == pytest.approx(1) and outcome("6-trainable", analysis.sparsity.trainable(runs)) is True
    assert outcome("6-trainable", analysis.sparsity.trainable(runs.assign(train_loss=0.1))) is False
    assert outcome("6-trainable", analysis.sparsity.trainable(table(growing, missing=absent(pruner="snip")))) is None


def test_the_gap_of_sparse_networks_is_compared_with_that_of_their_dense_parents():
    parents = table(growing, networks=[DENSE.but(width=0.2), DENSE.but(width=0.4)])  # 1 point
    finding = analysis.sparsity.restores(table(growing), parents)
    # Random masks 1 point, SNIP 1 + 5·sparsity, the mean of both: 0.5·(1 + 3.5) − 1 and 0.5·(1 + 5) − 1.
    assert finding.effect.value == pytest.approx((1.25 + 2.0) / 2) and "widths 0.2, 0.4" in finding.measured
    assert outcome("6-restores", finding) is False
    same = table(lambda run: growing(run.but(pruner="random")))
    assert outcome("6-restores", analysis.sparsity.restores(same, parents)) is True
