"""The drift of SAM: third derivatives against finite differences, the theorem on cubics and quartics."""

import pytest
import torch
from torch import nn

from lib.theory import drift

SETTING = dict(eta=0.1, rho=0.1)


def valley(w):
    return (1 + w[1]) * w[0] ** 2 / 2


def test_a_step_in_a_valley_is_the_one_that_was_computed_independently():
    e1, gradient = torch.eye(2, dtype=torch.float64)
    start = drift.bounce(e1, 1.0, **SETTING)
    moved = drift.sam_step(drift.gradient_of(valley), start, **SETTING) - start
    assert moved.tolist() == pytest.approx([-1.052905e-2, -5.54014e-4], rel=2e-6)  # printed to six digits
    predicted = -2 * start + drift.drift(gradient, 1.0, **SETTING)
    assert predicted.tolist() == pytest.approx([-1.052632e-2, -5.54017e-4], rel=1e-6)
    error = (moved - predicted).norm().item()
    assert error == pytest.approx(2.7e-6, rel=0.02)
    assert drift.error_bound(1.0, 0.0, **SETTING) == 0 < error < drift.error_bound(1.0, 1.0, **SETTING)
    assert drift.error_bound(1.0, 1.0, **SETTING) == pytest.approx(4.4e-4, rel=0.01)


def test_the_gradient_of_curvature_is_that_of_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(w):
        parts = w.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return (torch.func.functional_call(model, state, x) - y).square().sum(1).mean() / 2

    w = torch.cat([p.detach().flatten() for p in model.parameters()])

    def top(w):
        values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, w))
        return values[-1], vectors[:, -1]

    e1 = top(w)[1]
    result = drift.curvature_gradient(loss, w, e1)
    h = 1e-4
    for direction in torch.randn(5, len(w), dtype=torch.float64):
        expected = (top(w + h * direction)[0] - top(w - h * direction)[0]) / (2 * h)
        assert (result @ direction).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-8)


def test_outside_the_domain():
    with pytest.raises(ValueError, match=r"B = 200\.0: the theorem holds for B ≥ 0 and B·eta·rho ≤ 1, here 2"):
        drift.error_bound(1.0, 200.0, **SETTING)
    with pytest.raises(ValueError, match=r"eta = 0\.6"):
        drift.drift(torch.ones(2), 1.0, eta=0.6, rho=0.1)


def test_without_radius_or_gradient_a_step_is_that_of_gradient_descent():
    gradient = drift.gradient_of(valley)
    w = torch.tensor([0.3, -0.2], dtype=torch.float64)
    assert torch.equal(drift.sam_step(gradient, w, 0.1, 0.0), w - 0.1 * gradient(w))
    still = torch.tensor([0.0, 4.0], dtype=torch.float64)
    assert torch.equal(drift.sam_step(gradient, still, 0.1, 0.1), still)
