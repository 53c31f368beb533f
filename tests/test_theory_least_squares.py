"""Least squares with known constants: the constants against their definitions, the simulation against the theorem."""

import itertools

import pytest
import torch
from torch import nn

from lib import theory
from lib.core.seeds import generator
from lib.sam import SAM
from lib.theory.least_squares import LeastSquares, simulate

PROBLEMS = {
    "overdetermined": LeastSquares.gaussian(30, 5),
    "underdetermined": LeastSquares.gaussian(6, 15, seed=1),
    "noisy": LeastSquares.gaussian(30, 5, noise=0.5, seed=2),
}
each = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def points(count: int, d: int) -> torch.Tensor:
    return 3 * torch.randn(count, d, generator=generator(0, "points"), dtype=torch.float64)


# The problem


@each
def test_loss_and_gradients_are_those_of_the_definition(problem):
    w = points(1, problem.x.shape[1])[0].requires_grad_()
    losses = torch.stack([(x @ w - y) ** 2 / 2 for x, y in zip(problem.x, problem.y, strict=True)])
    assert problem.loss(w).item() == pytest.approx(losses.mean().item(), rel=1e-12)
    jacobian = torch.stack([torch.autograd.grad(loss, w, retain_graph=True)[0] for loss in losses])
    torch.testing.assert_close(problem.gradients(w.detach()), jacobian)
    batch = torch.tensor([[0, 3, 3], [5, 1, 2]])
    result = problem.gradient_on(w.detach().expand(2, -1), batch)
    torch.testing.assert_close(result, jacobian[batch].mean(1))
    hessian = torch.autograd.functional.hessian(problem.loss, w.detach())
    torch.testing.assert_close(problem.hessian, hessian)


@each
def test_beta_is_the_smoothness_of_the_samples(problem):
    # ‖∇f_i(v) − ∇f_i(w)‖ ≤ β‖v − w‖ for every i, and for one i with equality along x_i.
    _, beta, _ = problem.constants
    v, w = points(2, problem.x.shape[1])
    ratio = (problem.gradients(v) - problem.gradients(w)).norm(dim=1) / (v - w).norm()
    assert (ratio <= beta).all()
    attained = [
        (problem.gradients(w + x)[i] - problem.gradients(w)[i]).norm() / x.norm() for i, x in enumerate(problem.x)
    ]
    assert max(attained).item() == pytest.approx(beta, rel=1e-10)


@each
def test_lambda_is_the_smoothness_of_the_mean(problem):
    *_, lam = problem.constants
    gradient = lambda w: problem.gradients(w).mean(0)  # noqa: E731
    v, w = points(2, problem.x.shape[1])
    assert (gradient(v) - gradient(w)).norm() <= lam * (v - w).norm()
    top = torch.linalg.svd(problem.x).Vh[0]
    assert (gradient(w + top) - gradient(w)).norm().item() == pytest.approx(lam, rel=1e-10)


@each
def test_alpha_is_the_pl_constant_without_the_half(problem):
    # ‖∇f(w)‖² ≥ α(f(w) − f*) everywhere, with equality along the flattest direction that has curvature at all.
    alpha, *_ = problem.constants
    least = problem.loss(problem.minimizer)
    rank = torch.linalg.matrix_rank(problem.x)
    flattest = problem.minimizer + torch.linalg.svd(problem.x).Vh[rank - 1]
    ratios = [
        (problem.gradients(w).mean(0).square().sum() / (problem.loss(w) - least)).item()
        for w in (*points(100, len(flattest)), flattest)
    ]
    assert min(ratios) == ratios[-1] == pytest.approx(alpha, rel=1e-10)


def test_without_noise_every_sample_is_fitted():
    for name in ("overdetermined", "underdetermined"):
        problem = PROBLEMS[name]
        assert problem.loss(problem.minimizer) < 1e-28  # (1e-15 · ‖w‖)², with room
        assert problem.gradients(problem.minimizer).norm() < 1e-13


def test_with_noise_the_mean_is_at_rest_but_no_sample_is():
    problem = PROBLEMS["noisy"]
    assert problem.loss(problem.minimizer) > 0.01
    assert problem.gradients(problem.minimizer).mean(0).norm() < 1e-13
    assert problem.gradients(problem.minimizer).norm(dim=1).max() > 0.1


def test_a_problem_is_its_seeds():
    one, same, other = (LeastSquares.gaussian(8, 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.x, same.x) and torch.equal(one.y, same.y) and not torch.equal(one.x, other.x)
    assert one.x.dtype == torch.float64
    torch.testing.assert_close(one.x.norm(dim=1), torch.ones(8, dtype=torch.float64))


# The simulation


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_simulation_is_unnormalized_sam_on_the_same_batches(batch_size):
    problem, random = PROBLEMS["overdetermined"], generator(3, "simulate", batch_size)
    losses = simulate(problem, eta=0.3, rho=0.2, batch_size=batch_size, steps=8, repetitions=3, seed=3)
    ws = [nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(3)]
    optimizers = [SAM([w], torch.optim.SGD, rho=0.2, normalized=False, lr=0.3) for w in ws]
    assert losses.shape == (3, 9) and (losses[:, 0] == problem.y.square().mean() / 2).all()
    for t in range(1, 9):
        batches = torch.randint(30, (3, batch_size), generator=random)
        for r, (w, optimizer) in enumerate(zip(ws, optimizers, strict=True)):

            def closure(w=w, batch=batches[r], optimizer=optimizer):
                optimizer.zero_grad()
                loss = (problem.x[batch] @ w - problem.y[batch]).square().mean() / 2
                loss.backward()
                return loss

            optimizer.step(closure)
            assert losses[r, t].item() == pytest.approx(problem.loss(w).item(), rel=1e-10)


def expected_after_a_step(problem, w, eta, rho, batch_size) -> float:
    """E f(x₁) from x₀ = w: the mean over all nᴮ batches, which are equally likely."""
    n = len(problem.x)
    batches = torch.tensor(list(itertools.product(range(n), repeat=batch_size)))
    at = w.expand(len(batches), -1)
    step = problem.gradient_on(at + rho * problem.gradient_on(at, batches), batches)
    return problem.loss(at - eta * step).mean().item()


@pytest.mark.parametrize(("batch_size", "part"), list(itertools.product([1, 2], [0, 0.5, 0.95])))
def test_theorem_12_holds_for_one_step_from_any_point(batch_size, part):
    # No sampling: the expectation is taken over all batches. It contracts by at least the theorem's factor.
    problem = PROBLEMS["overdetermined"]
    alpha, beta, lam = problem.constants
    rho = part * theory.rho_max(alpha, beta)
    eta, rate = (form(alpha, beta, lam, rho, batch_size) for form in (theory.sam_step_size, theory.sam_rate))
    for w in points(20, 5):
        assert expected_after_a_step(problem, w, eta, rho, batch_size) <= rate * problem.loss(w).item()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_are_drawn_with_replacement_and_evenly(batch_size):
    # The mean of R repetitions is within five standard errors of the mean over all batches.
    problem = PROBLEMS["overdetermined"]
    losses = simulate(problem, eta=0.5, rho=0.3, batch_size=batch_size, steps=1, repetitions=4000)[:, 1]
    exact = expected_after_a_step(problem, torch.zeros(5, dtype=torch.float64), 0.5, 0.3, batch_size)
    assert abs(losses.mean() - exact) < 5 * losses.std() / 4000**0.5


@pytest.mark.parametrize(("batch_size", "part"), list(itertools.product([1, 8], [0, 0.5, 1])))
def test_the_mean_loss_stays_below_the_bound(batch_size, part):
    problem, repetitions = PROBLEMS["overdetermined"], 300
    alpha, beta, lam = problem.constants
    rho = part * theory.rho_max(alpha, beta)
    eta, rate = (form(alpha, beta, lam, rho, batch_size) for form in (theory.sam_step_size, theory.sam_rate))
    losses = simulate(problem, eta=eta, rho=rho, batch_size=batch_size, steps=200, repetitions=repetitions)
    bound = losses[0, 0] * rate ** torch.arange(201)
    error = losses.std(0) / repetitions**0.5
    # Where the step is 0 nothing moves and the bound is met with equality, up to rounding.
    assert (losses.mean(0) <= bound * (1 + 1e-12) + 5 * error).all()
    if eta > 1e-12:
        assert losses[:, -1].mean() < losses[0, 0] / 2  # it did move


def test_the_simulation_repeats_itself():
    problem = PROBLEMS["noisy"]
    options = dict(eta=0.1, rho=0.1, batch_size=2, steps=5, repetitions=4)
    one, same, other = (simulate(problem, **options, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
