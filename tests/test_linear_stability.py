"""Linearized SAM against closed forms: one dimension, equal Hessians, and the recursion of the second moment itself."""

import itertools

import pytest
import torch

from lib import linear_stability as ls
from lib import theory

GRID = list(itertools.product((0.1, 1.0, 3.0, 10.0), (0.0, 0.1, 1.0, 4.0)))


@pytest.mark.parametrize(("eta", "rho"), GRID)
def test_in_one_dimension_growth_and_theorem_are_the_mean_square(eta, rho):
    h = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64).view(-1, 1, 1)
    b = 1 - eta * h - eta * rho * h**2
    expected = b.square().mean().item()
    assert ls.growth(h, eta, rho) == pytest.approx(expected)
    assert ls.theorem9(h, eta, rho) == pytest.approx(expected)


@pytest.mark.parametrize(("eta", "rho"), GRID)
def test_with_equal_hessians_it_is_gradient_descent_on_the_top_eigenvalue(eta, rho):
    values = torch.tensor([0.3, 0.7, 1.5], dtype=torch.float64)
    h = torch.diag(values).expand(4, 3, 3)
    expected = (1 - eta * values - eta * rho * values**2).square().max().item()
    assert ls.growth(h, eta, rho) == pytest.approx(expected)
    assert ls.theorem9(h, eta, rho) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("eta", "rho"), GRID)
def test_the_theorem_never_promises_less_growth_than_there_is(eta, rho, seed):
    h = ls.random_hessians(8, 4, rank=2, seed=seed)
    b = ls.steps(h, eta, rho)
    assert ls.theorem9(h, eta, rho) == pytest.approx(torch.linalg.eigvalsh((b @ b).mean(0))[-1].item())
    assert ls.growth(h, eta, rho) <= ls.theorem9(h, eta, rho) * (1 + 1e-9)


def test_growth_is_that_of_the_recursion():
    h = ls.random_hessians(6, 3, seed=1)
    b = ls.steps(h, 2.0, 0.5)
    sigma, before = torch.eye(3, dtype=torch.float64), 1.0
    for _ in range(400):
        sigma = (b @ sigma @ b).mean(0)
        ratio = sigma.trace().item() / before
        before = 1.0
        sigma /= sigma.trace()
    assert ratio == pytest.approx(ls.growth(h, 2.0, 0.5), rel=1e-9)


def test_simulated_paths_have_the_second_moment_of_the_recursion():
    h = ls.random_hessians(6, 3, seed=1)
    paths = ls.simulate(h, eta=1.0, rho=0.5, length=3, paths=200_000)
    b = ls.steps(h, 1.0, 0.5)
    sigma = torch.eye(3, dtype=torch.float64) / 3
    for t in range(4):
        error = paths[:, t].std() / 200_000**0.5
        assert paths[:, t].mean().item() == pytest.approx(sigma.trace().item(), abs=5 * error.item() + 1e-12)
        sigma = (b @ sigma @ b).mean(0)


def test_moments_of_a_hand_made_pair():
    """Given H_1 = 2e₁e₁ᵀ and H_2 = 0: H = e₁e₁ᵀ, M_k = 2^{k−1} e₁e₁ᵀ."""
    h = torch.zeros(2, 2, 2, dtype=torch.float64)
    h[0, 0, 0] = 2
    expected = {"a": 1.0, "s2": 1.0, "s3": 3 ** (1 / 3), "s4": 7 ** (1 / 4)}
    assert ls.moments(h) == pytest.approx(expected)


def test_the_conditions_are_those_of_the_theory():
    h = ls.random_hessians(6, 3, seed=1)
    found, values, bounds = ls.conditions(h, 3.0, 0.5), ls.moments(h), theory.stability_bounds(3.0, 0.5)
    assert found == {name: values[name] / getattr(bounds, name) for name in values}
    assert max(ls.conditions(h, 1e-3, 1.0).values()) < 1
    assert ls.conditions(h, 0.1, 1.0)["s2"] == 0  # η ≤ 2ρ: nothing is said


@pytest.mark.parametrize("share", [0.2, 0.63, 0.9])
def test_the_condition_on_s4_is_not_necessary_for_large_rho(share):
    """Given H_i = 1 for a share p of the samples, 0 for the rest, and η + ηρ ≤ 2, then Theorem 9's matrix is
    p(1 − η − ηρ)² + 1 − p ≤ 1, while the share of s₄ of its bound is (η²ρ²(p − p⁴))^¼, above 1 for p = 0.63."""
    h = torch.zeros(100, 1, 1, dtype=torch.float64)
    h[: round(100 * share)] = 1
    eta, rho = 0.01, 190.0
    assert ls.theorem9(h, eta, rho) == pytest.approx(share * (1 - eta - eta * rho) ** 2 + 1 - share)
    found = ls.conditions(h, eta, rho)
    assert found["s4"] == pytest.approx((eta**2 * rho**2 * (share - share**4)) ** 0.25)
    assert (found["s4"] > 1) == (share == 0.63)
    assert found["a"] < 1 and found["s3"] < 1
