"""The closed forms against the theorems as printed, and the estimators on problems whose answer is known."""

import itertools
import math

import numpy as np
import pandas
import pytest
import torch

from lib import theory
from lib.core.seeds import generator

CONSTANTS = [(0.3, 1.0, 0.6), (0.05, 2.0, 0.9), (1.0, 0.5, 0.5), (1e-3, 30.0, 4.0)]  # α, β, λ; α ≤ 2λ ≤ 2β
each = pytest.mark.parametrize(("alpha", "beta", "lam"), CONSTANTS)


# Theorems 7 and 12


@each
@pytest.mark.parametrize("part", [0, 0.3, 0.99])
def test_at_batch_size_1_it_is_theorem_7(alpha, beta, lam, part):
    rho = part / ((beta / alpha + 0.5) * beta)
    slack = alpha - (beta + alpha / 2) * beta * rho
    step = slack / (2 * lam * beta * (beta * rho + 1) ** 2)
    # For part = 0.99 the slack cancels two digits.
    assert theory.sam_step_size(alpha, beta, lam, rho) == pytest.approx(step, rel=1e-12)
    assert theory.sam_rate(alpha, beta, lam, rho) == pytest.approx(1 - slack / 2 * step, rel=1e-12)


@each
def test_without_rho_it_is_the_rate_of_sgd(alpha, beta, lam):
    # Bassily et al.: η = α/(2λβ), the factor 1 − αη/2 (with the PL condition without ½)
    assert theory.sam_step_size(alpha, beta, lam, 0) == pytest.approx(alpha / (2 * lam * beta), rel=1e-12)
    assert theory.sam_rate(alpha, beta, lam, 0) == pytest.approx(1 - alpha**2 / (4 * lam * beta), rel=1e-12)


@each
@pytest.mark.parametrize(("batch_size", "part"), list(itertools.product([1, 2, 16], [0, 0.5])))
def test_the_step_is_the_best_of_the_bound(alpha, beta, lam, batch_size, part):
    # Equation 15 bounds the factor by 1 − ηα(1 − (κ + ½)βρ) + η²αλ(βρ + 1)²κ; η* minimizes it, the rate is its value.
    rho = part * theory.rho_max(alpha, beta)
    kappa = ((batch_size - 1) / 2 + beta / alpha) / batch_size

    def bound(eta):
        linear = alpha * (1 - (kappa + 0.5) * beta * rho)
        return 1 - eta * linear + eta**2 * alpha * lam * (beta * rho + 1) ** 2 * kappa

    step = theory.sam_step_size(alpha, beta, lam, rho, batch_size)
    assert theory.sam_rate(alpha, beta, lam, rho, batch_size) == pytest.approx(bound(step), rel=1e-12)
    assert bound(step) < min(bound(0.9 * step), bound(1.1 * step))


@each
def test_kappa_falls_from_the_condition_number_to_one_half(alpha, beta, lam):
    assert theory.kappa(alpha, beta, 1) == pytest.approx(beta / alpha, rel=1e-14)
    values = [theory.kappa(alpha, beta, b) for b in (1, 2, 4, 8, 10**9)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.5 + (beta / alpha - 0.5) / 10**9, rel=1e-14)


@each
def test_the_limit_of_rho(alpha, beta, lam):
    limit = theory.rho_max(alpha, beta)
    assert limit == pytest.approx(1 / ((beta / alpha + 0.5) * beta), rel=1e-14)
    # Up to rounding of the slack 1 − 1, one sample no longer moves at the limit; a larger batch still does,
    assert theory.sam_step_size(alpha, beta, lam, limit, 1) * 2 * lam * beta / alpha < 1e-14
    assert 1 - 1e-14 < theory.sam_rate(alpha, beta, lam, limit, 1) <= 1
    if beta / alpha > 0.5:  # as long as a batch of them differs from one
        assert theory.sam_step_size(alpha, beta, lam, limit, 2) > 0 and theory.sam_rate(alpha, beta, lam, limit, 2) < 1
    # and beyond it the theorem says nothing.
    for rho in (limit * 1.0001, 2 * limit, -1e-9, math.nan, math.inf):
        for form in (theory.sam_step_size, theory.sam_rate):
            for batch_size in (1, 64):
                with pytest.raises(ValueError) as caught:
                    form(alpha, beta, lam, rho, batch_size)
                assert f"rho = {rho!r}" in str(caught.value) and f"rho_max = {limit:.6g}" in str(caught.value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_constants_must_be_positive(value):
    for name, values in (("alpha", (value, 1, 1)), ("beta", (1, value, 1)), ("lam", (1, 1, value))):
        with pytest.raises(ValueError, match=f"{name} = {value}: must be a finite number above 0"):
            theory.sam_rate(*values, rho=0.0)
    with pytest.raises(ValueError, match="batch_size = 0: must be 1 or more"):
        theory.kappa(1, 1, 0)


# Condition (7)


@pytest.mark.parametrize(("eta", "rho"), [(0.1, 0.01), (0.1, 0.0499), (0.05, 1.0), (1.0, 1e-9), (2e-3, 0.5)])
def test_stability_bounds_meet_their_conditions_with_equality(eta, rho):
    a, s2, s3, s4 = theory.stability_bounds(eta, rho)
    assert a * (1 + rho * a) == pytest.approx(2 / eta, rel=1e-12)
    assert s3**3 == pytest.approx(1 / (2 * eta**2 * rho), rel=1e-12)
    assert s4**4 == pytest.approx(1 / (eta**2 * rho**2), rel=1e-12)
    if eta > 2 * rho:
        assert s2**2 == pytest.approx(1 / (eta * (eta - 2 * rho)), rel=1e-12)
    else:
        assert s2 == math.inf


def test_without_rho_the_bounds_are_those_of_sgd():
    assert theory.stability_bounds(0.1, 0) == pytest.approx((20, 10, math.inf, math.inf))
    assert theory.stability_bounds(0.1, 0.05).s2 == math.inf  # η = 2ρ


def test_a_larger_rho_bounds_the_sharpness_and_s3_s4_more():
    bounds = [theory.stability_bounds(0.1, rho) for rho in (0, 1e-3, 0.01, 0.1, 1)]
    for name in ("a", "s3", "s4"):
        values = [getattr(bound, name) for bound in bounds]
        assert values == sorted(values, reverse=True) and len({*values}) == 5


@pytest.mark.parametrize(("eta", "rho", "message"), [(0, 0.1, "eta = 0"), (-1, 0.1, "eta"), (math.nan, 0, "eta = nan")])
def test_bad_step_sizes_are_refused(eta, rho, message):
    with pytest.raises(ValueError, match=message):
        theory.stability_bounds(eta, rho)


@pytest.mark.parametrize("rho", [-0.1, math.nan, math.inf])
def test_bad_rhos_are_refused(rho):
    with pytest.raises(ValueError, match=f"rho = {rho}: must be a finite number, 0 or more"):
        theory.stability_bounds(0.1, rho)


# Lemmas 5 and 6


def quadratics(beta: float, count: int = 500, d: int = 4):
    """Gradients of random quadratics, convex or not, with curvatures in [−β, β]: g, g½ at ρ = 0.7, any G."""
    random = generator(0, "lemmas")
    q = torch.linalg.qr(torch.randn(count, d, d, generator=random, dtype=torch.float64))[0]
    curvature = beta * (2 * torch.rand(count, d, generator=random, dtype=torch.float64) - 1)
    hessian = q @ torch.diag_embed(curvature) @ q.mT
    g, full = torch.randn(2, count, d, generator=random, dtype=torch.float64)
    return g, g + 0.7 * (hessian @ g.unsqueeze(-1)).squeeze(-1), full


def test_both_lemmas_hold_on_smooth_quadratics():
    g, g_half, full = quadratics(beta=3.0)
    assert (theory.lemma5_margin(g, g_half, full, 3.0, 0.7) >= 0).all()
    assert (theory.lemma6_ratio(g, g_half, 3.0, 0.7) <= 1).all()
    # With a β that is too small they do not, so the above could have failed.
    assert (theory.lemma5_margin(g, g_half, full, 0.5, 0.7) < 0).any()
    assert (theory.lemma6_ratio(g, g_half, 0.5, 0.7) > 1).any()


def test_lemma_5_is_tight_where_the_curvature_is_minus_beta():
    # ∇f_i(x + ρg) = (1 − βρ)g and G = g: the margin is −βρ‖g‖² + βρ‖g‖² = 0.
    g = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    assert theory.lemma5_margin(g, (1 - 0.5 * 0.4) * g, g, 0.5, 0.4).abs() < 1e-14


def test_lemma_6_is_tight_where_the_curvature_is_beta():
    g = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    assert theory.lemma6_ratio(g, (1 + 0.5 * 0.4) * g, 0.5, 0.4).item() == pytest.approx(1, rel=1e-14)


def test_lemma_5_by_hand():
    # ⟨g½ − g, G⟩ + (βρ/2)(‖g‖² + ‖G‖²) = ⟨(0, 1), (1, 2)⟩ + ½(5 + 5) = 7 with β = 2, ρ = ½
    g, g_half, full = (torch.tensor(v, dtype=torch.float64) for v in ([2.0, 1.0], [2.0, 2.0], [1.0, 2.0]))
    assert theory.lemma5_margin(g, g_half, full, 2.0, 0.5).item() == 7
    assert theory.lemma6_ratio(g, g_half, 2.0, 0.5).item() == 8 / (4 * 5)


# Linear rates


def curve(first: float, rate: float, floor: float, epochs: int, wait: int = 0) -> dict:
    """A loss that waits, then falls by `rate` an epoch, then stays at its floor."""
    loss = [max(first * rate ** max(0, epoch - wait), floor) for epoch in range(epochs)]
    return {"epoch": list(range(1, epochs + 1)), "train_loss": loss}


def table(*curves) -> pandas.DataFrame:
    return pandas.DataFrame({"curves": list(curves)})


def test_the_rate_of_an_exact_exponential():
    # Only what lies between a tenth of the first loss and 100 times the floor is fitted, so that neither the wait nor
    # the floor bends the line.
    fit = theory.linear_rate(table(curve(3.0, 0.8, 1e-9, 200, wait=10)))
    assert fit == pytest.approx((0.8, 0, 1, 1), rel=1e-12)


def test_the_range_of_the_fit():
    # Kinks just outside the range do not count, just inside they do.
    exact = curve(1.0, 0.5, 1e-8, 60)
    outside, inside = (dict(exact, train_loss=list(exact["train_loss"])) for _ in range(2))
    outside["train_loss"][3] *= 1.5  # 1/8: above a tenth of the first
    outside["train_loss"][21] *= 0.9  # 2⁻²¹ < 100 · 1e-8
    inside["train_loss"][5] *= 1.5  # 1/32
    assert theory.linear_rate(table(outside)) == pytest.approx((0.5, 0, 1, 1), rel=1e-12)
    assert theory.linear_rate(table(inside)).r2 < 0.9999


def test_several_runs_give_mean_spread_and_the_least_r2():
    rates, bent = [0.7, 0.8, 0.9], curve(1.0, 0.8, 1e-9, 300)
    bent["train_loss"] = [loss ** (1 + 0.002 * k) for k, loss in enumerate(bent["train_loss"])]
    fit = theory.linear_rate(table(*(curve(1.0, rate, 1e-9, 300) for rate in rates)))
    assert fit == pytest.approx((0.8, 0.1, 1, 3), rel=1e-12)
    alone, both = theory.linear_rate(table(bent)), theory.linear_rate(table(curve(1.0, 0.8, 1e-9, 300), bent))
    assert alone.r2 < 1 - 1e-6 and both.r2 == alone.r2 and both.runs == 2


def test_a_loss_of_exactly_zero_is_no_number_to_fit():
    falling = curve(1.0, 0.5, 0.0, 30)
    falling["train_loss"] += [0.0] * 5
    falling["epoch"] += range(31, 36)
    assert theory.linear_rate(table(falling)) == pytest.approx((0.5, 0, 1, 1), rel=1e-12)


def test_runs_that_cannot_be_fitted_are_left_out():
    short, stalled = curve(1.0, 0.05, 1e-7, 40), curve(1.0, 0.99, 0.5, 100)
    empty = {"epoch": [], "train_loss": []}  # diverged in its first epoch
    good = curve(1.0, 0.5, 1e-9, 60)
    assert theory.linear_rate(table(good, None, empty, short, stalled)) == theory.linear_rate(table(good))
    none = theory.linear_rate(table(None, empty, short, stalled))
    assert none.runs == 0 and all(math.isnan(value) for value in none[:3])


def test_a_noisy_line_is_fitted_as_numpy_does():
    random = np.random.default_rng(0)
    log = -0.1 * np.arange(100) + 0.05 * random.standard_normal(100)
    log[0] = 0
    fit = theory.linear_rate(table({"epoch": list(range(100)), "train_loss": list(np.exp(log))}))
    inside = (log <= math.log(0.1)) & (log >= math.log(100) + log.min())
    epochs = np.arange(100)[inside]
    slope = np.cov(epochs, log[inside])[0, 1] / epochs.var(ddof=1)
    assert fit.rate == pytest.approx(math.exp(slope), rel=1e-12)
    assert fit.r2 == pytest.approx(np.corrcoef(epochs, log[inside])[0, 1] ** 2, rel=1e-12)


# What a factorization of too low a rank stalls at


def problem():
    random = generator(0, "factorization test")
    a = torch.randn(5, 4, generator=random, dtype=torch.float64)
    return a, torch.randn(60, 4, generator=random, dtype=torch.float64) * torch.tensor([1, 2, 0.5, 3])


@pytest.mark.parametrize("rank", range(6))
def test_the_truncated_residual_is_that_of_the_outputs(rank):
    # Every map of this rank gives outputs of this rank, and the best approximation Y_r of the outputs Y = XAᵀ is the
    # output of such a map: so the residual is the tail of Y's singular values.
    a, x = problem()
    expected = torch.linalg.svdvals(x @ a.T)[rank:].square().sum().item() / 60
    assert theory.truncated_residual(a, x, rank) == pytest.approx(expected, rel=1e-10, abs=1e-13)


def test_no_factorization_of_that_rank_does_better():
    # Alternating least squares over W₂W₁ from several starts: never below, and the best of them there.
    a, x = problem()
    y, least = x @ a.T, theory.truncated_residual(a, x, 2)
    reached = []
    for start in range(5):
        w1 = torch.randn(2, 4, generator=generator(start, "start"), dtype=torch.float64)
        for _ in range(300):
            w2 = torch.linalg.lstsq(x @ w1.T, y).solution.T
            w1 = torch.linalg.pinv(w2) @ torch.linalg.lstsq(x, y).solution.T
        reached.append((x @ (w2 @ w1).T - y).square().sum(1).mean().item())
    assert min(reached) == pytest.approx(least, rel=1e-8) and min(reached) > least * (1 - 1e-12)
    assert least > 0.01
