"""Smooth losses: their constants against their definitions, their simulation against SAM."""

import math

import pytest
import torch
from torch import nn

from lib.core.seeds import generator
from lib.sam import SAM
from lib.theory.smooth_losses import SmoothLoss, simulate

PROBLEMS = [
    SmoothLoss.random(3, wobble=wobble, condition=8.0, noise=0.7, pairs=3, seed=seed)
    for seed, wobble in enumerate((0.0, 0.3, 0.5, 1.0, 2.0, 3.0))
]
each = pytest.mark.parametrize("problem", PROBLEMS, ids=[str(p.wobble) for p in PROBLEMS])


def points(count=400, seed=0):
    random = generator(seed, "points")
    radius = torch.logspace(-2, 1.5, count, dtype=torch.float64)[:, None]
    return radius * torch.randn(count, 3, generator=random, dtype=torch.float64)


def sample_loss(problem, w, i):
    sign = 1 if i % 2 == 0 else -1
    wave = torch.cos(problem.directions[i // 2] @ w + problem.phases[i // 2])
    return problem.loss(w) + sign * problem.noise * wave


@each
def test_gradients_are_those_of_the_losses(problem):
    w = points()[200].requires_grad_()
    losses = torch.stack([sample_loss(problem, w, i) for i in range(6)])
    assert losses.mean().item() == pytest.approx(problem.loss(w).item(), rel=1e-12)
    each_gradient = torch.stack([torch.autograd.grad(one, w, retain_graph=True)[0] for one in losses])
    batch = torch.tensor([[0, 3, 3], [5, 1, 2]])
    at = w.detach().expand(2, -1)
    torch.testing.assert_close(problem.gradient_on(at, batch), each_gradient[batch].mean(1))
    torch.testing.assert_close(problem.gradient(w.detach()), each_gradient.mean(0))


@each
def test_the_constants_hold_everywhere(problem):
    for w in points(60):
        h = torch.autograd.functional.hessian(problem.loss, w)
        values = torch.linalg.eigvalsh(h)
        assert values.abs().max() <= problem.beta * (1 + 1e-12) and values[0] >= problem.convexity - 1e-12
        samples = [torch.autograd.functional.hessian(lambda v, i=i: sample_loss(problem, v, i), w) for i in (0, 1)]
        assert max(torch.linalg.matrix_norm(s, 2) for s in samples) <= problem.sample_beta * (1 + 1e-12)
    w = points()
    noise = [problem.gradient_on(w, torch.full((len(w), 1), i)) - problem.gradient(w) for i in range(6)]
    variance = torch.stack(noise).square().sum(-1).mean(0)
    assert (variance <= problem.sigma**2).all() and variance.max() > 0.5 * problem.sigma**2
    ratio = problem.gradient(w).square().sum(1) / (2 * problem.loss(w))
    assert (ratio >= problem.mu).all() and (problem.loss(w) >= 0).all()


@each
def test_the_constants_are_attained(problem):
    flattest, steepest = problem.rotation[0], problem.rotation[-1]  # scales 1/8 and 1
    top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(problem.loss, torch.zeros(3).double()))[-1]
    assert top.item() == pytest.approx(problem.beta, rel=1e-12)
    bottom = torch.autograd.functional.hessian(problem.loss, math.pi / 2 * (steepest + flattest))
    least = 1 - 2 * problem.wobble
    assert torch.linalg.eigvalsh(bottom)[0].item() == pytest.approx(min(least, least / 8), rel=1e-9)
    u = torch.linspace(1e-3, 40, 20001, dtype=torch.float64)[:, None]
    ratio = (problem.gradient(u * flattest).square().sum(1) / (2 * problem.loss(u * flattest))).min()
    if problem.wobble < 2.3:
        assert ratio.item() == pytest.approx(problem.mu, rel=1e-3)
    else:
        assert problem.mu == 0 and ratio < 1e-3  # another point at rest


@pytest.mark.parametrize(("ascent", "batch_size"), [("same", 1), ("same", 3), ("full", 1)])
def test_the_simulation_is_unnormalized_sam_on_the_same_batches(ascent, batch_size):
    problem, w0 = PROBLEMS[3], points()[[200, 300]]
    gamma, rho = [0.1, 0.2, 0.05], [0.3, 0.1, 0.2]
    runs = simulate(problem, w0, gamma=gamma, rho=rho, steps=3, ascent=ascent, batch_size=batch_size, seed=4)
    assert runs.loss.shape == runs.squared_gradient.shape == (2, 4)
    random = generator(4, "smooth loss", ascent, batch_size)
    ws = [nn.Parameter(w.clone()) for w in w0]
    visited = [[] for _ in ws]
    for t in range(3):
        batches = torch.randint(6, (2, batch_size), generator=random) if ascent == "same" else [range(6)] * 2
        for w, batch, path in zip(ws, batches, visited, strict=True):
            path.append(w.detach().clone())
            optimizer = SAM([w], torch.optim.SGD, rho=rho[t], normalized=False, lr=gamma[t])

            def closure(w=w, batch=batch, optimizer=optimizer):
                optimizer.zero_grad()
                loss = torch.stack([sample_loss(problem, w, int(i)) for i in batch]).mean()
                loss.backward()
                return loss

            optimizer.step(closure)
    torch.testing.assert_close(runs.last, torch.stack([w.detach() for w in ws]))
    torch.testing.assert_close(runs.mean, torch.stack([torch.stack(path).mean(0) for path in visited]))
    torch.testing.assert_close(runs.loss[:, -1], problem.loss(runs.last))
    torch.testing.assert_close(runs.squared_gradient[:, 0], problem.gradient(w0).square().sum(1))


def test_the_other_batch_is_independent_of_the_batch():
    # E over both batches after one step from any point, within five standard errors of the mean over all pairs.
    problem, w = PROBLEMS[3], points()[250]
    at = w.expand(36, -1)
    i, j = (side.reshape(-1, 1) for side in torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"))
    exact = problem.loss(at - 0.2 * problem.gradient_on(at + 1.5 * problem.gradient_on(at, j), i)).mean()
    options = dict(gamma=0.2, rho=1.5, steps=1, batch_size=1)
    runs = simulate(problem, w.expand(4000, -1), ascent="other", **options).loss[:, 1]
    same = simulate(problem, w.expand(4000, -1), ascent="same", **options).loss[:, 1]
    assert abs(runs.mean() - exact) < 5 * runs.std() / 4000**0.5
    assert abs(same.mean() - exact) > 5 * same.std() / 4000**0.5


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="ascent = 'all': must be one of full, same, other"):
        simulate(PROBLEMS[0], points(), gamma=0.1, rho=0.1, steps=1, ascent="all")
    for name, value in (("wobble", -0.1), ("condition", 0.5), ("noise", math.nan)):
        with pytest.raises(ValueError, match=f"{name} = {value}: must be a finite number"):
            SmoothLoss.random(2, **{name: value})
