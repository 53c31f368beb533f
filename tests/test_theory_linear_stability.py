"""Linearized SAM against closed forms: one dimension, equal Hessians, and the recursion of the second moment itself."""

import itertools

import pytest
import torch

from lib import theory
from lib.theory import linear_stability as ls

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
    result, values, bounds = ls.conditions(h, 3.0, 0.5), ls.moments(h), theory.stability_bounds(3.0, 0.5)
    assert result == {name: values[name] / getattr(bounds, name) for name in values}
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
    conditions = ls.conditions(h, eta, rho)
    assert conditions["s4"] == pytest.approx((eta**2 * rho**2 * (share - share**4)) ** 0.25)
    assert (conditions["s4"] > 1) == (share == 0.63)
    assert conditions["a"] < 1 and conditions["s3"] < 1


def scalar(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def test_the_edges_of_one_sample_in_one_dimension():
    """Given H_i = h, then SAM is stable and promised to be so up to ηh(1 + ρh) = 2, which is also the bound on a."""
    h, rho = 1.5, 0.4
    limit = 2 / (h * (1 + rho * h))
    for measure in (ls.growth, ls.theorem9, ls.strictest):
        assert ls.edge(scalar(h), rho, measure) == pytest.approx(limit, rel=1e-10)


def test_the_edges_of_sgd():
    """Given h in {0, 2}: mean (1 − ηh)² ≤ 1 up to η = 1, and a = s₂ = 1, so that SGD's conditions say 1 as well."""
    edges = ls.edges(scalar(0.0, 2.0), [0.0, 3.0])
    assert edges.loc[0.0, ["exact", "Theorem 9", "conditions (7)"]].tolist() == pytest.approx([1, 1, 1], rel=1e-10)
    assert edges["strictest of (7)"][0.0] == "s2"
    assert (edges.loc[3.0, ["exact", "Theorem 9"]] < 0.5).all()


def test_the_edge_separates_what_is_stable_from_what_is_not():
    h = ls.random_hessians(8, 4, rank=2, seed=3)
    for rho in (0.0, 0.3, 5.0):
        limit = ls.edge(h, rho)
        assert ls.growth(h, limit * (1 - 1e-6), rho) <= 1 < ls.growth(h, limit * (1 + 1e-6), rho)
        assert ls.edge(h, rho, ls.theorem9) <= limit * (1 + 1e-9)


def test_there_is_no_edge_where_no_step_is_stable():
    with pytest.raises(ValueError, match="not stable at any step size"):
        ls.edge(scalar(-1.0), 0.0)


def test_a_scan_is_what_its_measures_say():
    h = ls.random_hessians(6, 3, seed=1)
    result, simulated = ls.scan(h, [0.1, 1.0], [0.2, 2.0]), ls.simulated_scan(h, [0.1, 1.0], [0.2, 2.0])
    assert result[["eta", "rho"]].to_numpy().tolist() == [[0.1, 0.2], [0.1, 2.0], [1.0, 0.2], [1.0, 2.0]]
    assert result.loc[2, ["growth", "theorem9", "conditions"]].tolist() == [
        ls.growth(h, 1.0, 0.2),
        ls.theorem9(h, 1.0, 0.2),
        max(ls.conditions(h, 1.0, 0.2).values()),
    ]
    assert simulated["growth"][3] == ls.simulated_growth(h, 1.0, 2.0)


def test_simulated_growth_is_exact_where_all_samples_are_alike_and_too_low_where_growth_is_rare():
    assert ls.simulated_growth(scalar(0.5, 0.5), 1.0, 1.0) == pytest.approx((1 - 0.5 - 0.25) ** 2)
    rare = scalar(0.0, *[1.0] * 199, 40.0)  # a step of 1 multiplies x by 0, but at one sample of 201 by 39
    assert ls.simulated_growth(0.5 * rare, 1.0, 0.0, paths=100) < 0.5 < 1 < ls.growth(0.5 * rare, 1.0, 0.0)


def test_walks_about_the_edge_grow_only_beyond_it():
    h = ls.random_hessians(n=5, d=2, rank=1)
    walks = ls.about_edge(h, 0.5, length=200, paths=2, shown=1)
    exact = walks[walks["kind"] == "exact"].groupby("panel", sort=False)["square"].last()
    assert [panel.split(":")[0] for panel in exact.index] == ["below the edge", "at the edge", "beyond the edge"]
    below, at, beyond = exact
    assert below < 1e-3 and 0.01 < at < 2 and beyond > 10


def test_walks_hold_paths_their_mean_and_the_exact_second_moment():
    h = ls.random_hessians(6, 3, seed=1)
    walks = ls.walks(h, 1.0, 0.5, length=4, paths=50, shown=2)
    squares = ls.simulate(h, eta=1.0, rho=0.5, length=4, paths=50)
    of = {kind: part.pivot_table(index="path", columns="step", values="square") for kind, part in walks.groupby("kind")}
    assert of["path"].to_numpy() == pytest.approx(squares[:2].numpy())
    assert of["mean"].to_numpy()[0] == pytest.approx(squares.mean(0).numpy())
    b = ls.steps(h, 1.0, 0.5)
    assert of["exact"][1].item() == pytest.approx((b @ b).mean(0).trace().item() / 3) and of["exact"][0].item() == 1
