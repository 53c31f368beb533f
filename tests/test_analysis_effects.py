"""Effects and intervals against SciPy, closed forms and simulation."""

import math

import numpy as np
import pandas
import pytest
from scipy import stats
from test_analysis_gap import row, table

from lib.paper import analysis
from lib.paper.analysis import effects


def test_a_difference_is_students_of_equal_variance_and_welchs_of_unequal():
    one, other = [1.0, 2.0, 4.0], [0.0, 0.5, 1.5, 0.2]
    for effect, equal in ((effects.difference(one, other), True), (effects.welch(one, other), False)):
        wanted = stats.ttest_ind(one, other, equal_var=equal).confidence_interval()
        assert (effect.low, effect.high) == pytest.approx((wanted.low, wanted.high))
        assert (effect.seeds, effect.networks) == (3, 2)
    alone = stats.ttest_1samp(one, 0).confidence_interval()
    assert (effects.mean(one).low, effects.mean(one).high) == pytest.approx((alone.low, alone.high))


def test_a_slope_is_that_of_regression_with_the_variance_within_networks():
    frame = pandas.DataFrame({"parameters": [10, 100, 1000] * 3, "seed": np.repeat([0, 1, 2], 3)})
    frame["gap"] = np.log10(frame["parameters"]) * 2 + np.random.default_rng(0).standard_normal(9)
    effect = effects.slope(frame)
    assert effect.value == pytest.approx(np.polyfit(np.log10(frame["parameters"]), frame["gap"], 1)[0])
    within = frame.groupby("parameters")["gap"].var().mean()
    assert effect.df == 6 and effect.error == pytest.approx(math.sqrt(within / 3 / 2))  # Σ (x − x̄)² = 2
    each = [np.polyfit([1, 2, 3], part["gap"], 1)[0] for _, part in frame.groupby("seed")]
    assert effect.beside == pytest.approx(analysis.gap.interval(each))
    turned = effects.slope(frame, pooled=False)
    assert (turned.low, turned.high) == pytest.approx(effect.beside) and turned.interval == "one value a seed"
    assert turned.beside == pytest.approx((effect.low, effect.high))


def test_networks_of_unequal_seeds_count_by_their_means():
    effect = effects.contrast([[0.0, 2.0], [5.0]], [-1, 1])
    assert effect.value == 4 and effect.df == 1 and effect.seeds == 1
    assert effect.error == pytest.approx(math.sqrt(2 * (1 / 2 + 1)))
    assert math.isnan(effects.contrast([], []).value) and not effects.mean([1.0]).known
    assert math.isnan(effects.contrast([[1.0], []], [1, -1]).value)


def test_the_weakest_effect_is_the_one_that_contradicts_else_the_unknown_else_the_nearest_to_none():
    strong, weak, unknown = effects.mean([1.0, 1.1, 1.2]), effects.mean([0.1, 0.9, 1.7]), effects.mean([5.0])
    against = effects.mean([-1.0, -1.1, -1.2])
    assert effects.weakest([strong, weak]) is weak
    assert effects.weakest([strong, unknown, weak]) is unknown
    assert effects.weakest([strong, unknown, against]) is against
    assert effects.weakest([strong, against], sign=-1) is strong


@pytest.mark.parametrize(("true", "least"), [(0.0, 0.95), (0.1, 0.93), (0.3, 0.93)])
def test_the_interval_of_a_roughness_covers_it(true, least):
    rhos, draw, covered = np.array([0.01, 0.02, 0.05, 0.1, 0.2]), np.random.default_rng(0), []
    x = np.log(rhos)
    bump = np.array([1.0, -2.0, 2.0, -2.0, 1.0])
    bump -= np.polyval(np.polyfit(x, bump, 2), x)
    bump *= true / math.sqrt((bump**2).mean())  # this root mean square from a parabola
    for _ in range(150):
        networks = [[(r, y + 0.1 * draw.standard_normal(3)) for r, y in zip(rhos, bump, strict=True)] for _ in range(3)]
        effect = effects.roughness(networks)
        covered.append(effect.low <= true + 1e-12 and true <= effect.high)
    assert np.mean(covered) >= least - 2 * math.sqrt(0.05 * 0.95 / 150)


def test_networks_that_agree_have_no_spread_and_those_that_differ_have_theirs():
    assert effects.spread([[1.0, 1.0], [1.0, 1.0]]).value == 0 and effects.spread([[1.0, 1.0], [1.0, 1.0]]).high == 0
    effect = effects.spread([[0.9, 1.0, 1.1], [2.9, 3.0, 3.1]])
    assert effect.low > 0.3 and effect.value == pytest.approx(1, abs=0.01)
    assert effects.spread([[1.0, 2.0, 3.0], [1.1, 2.1, 2.9]]).low == 0
    assert math.isnan(effects.spread([[1.0], [2.0]]).value)


def test_seeds_of_sgd_and_sam_correlate_where_they_rise_together():
    rows = [
        row(0.9 + sign * 0.01 * seed, rho=rho, seed=seed)
        for seed in range(4)
        for rho, sign in ((0, 1), (0.1, 1), (0.2, 1))
    ]
    assert effects.seed_correlation(table(*rows)) == pytest.approx(1)
    turned = [row(0.9 + (0.01 if rho else -0.01) * seed, rho=rho, seed=seed) for seed in range(4) for rho in (0, 0.1)]
    assert effects.seed_correlation(table(*turned)) == pytest.approx(-1)
    assert math.isnan(effects.seed_correlation(table(row(0.9, rho=0), row(0.9, rho=0.1))))


def test_the_formulas_of_the_proofs_agree_and_the_misprint_does_not():
    checks = analysis.theorem_checks
    for check in (checks.sgd_rate, checks.theorem7, checks.proof_constants, checks.appendix_e):
        assert check().holds is True, check.__name__
    assert "as printed the last but one line is off by 0.14" in checks.appendix_e().measured


def test_a_constant_that_is_off_is_found(monkeypatch):
    checks, right = analysis.theorem_checks, analysis.theorem_checks.bounds.sam_step_size
    monkeypatch.setattr(checks.bounds, "sam_step_size", lambda *given: 1.001 * right(*given))
    assert [check().holds for check in (checks.sgd_rate, checks.theorem7, checks.proof_constants)] == [False] * 3
