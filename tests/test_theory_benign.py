"""Stacks trained through Gram matrices against the same networks trained one by one by autograd on their weights."""

import pytest
import torch
from torch.nn.functional import softplus

from lib.sam import SAM
from lib.theory import benign

SETTING = dict(mu=2.0, flip=0.25, omega=0.05)


def problems(dimensions=(6, 30), n=8, m=5):
    return benign.stack([benign.draw(n, m, p=p, **SETTING, seed=seed) for seed, p in enumerate(dimensions)])


def by_autograd(x, y, w0, a, alpha, rho, epsilon, steps):
    """W after SAM, by the project's optimizer, stopped at the first loss of at most ε; and the steps taken."""
    w = w0.clone().requires_grad_()
    optimizer = SAM([w], torch.optim.SGD, rho=rho, lr=alpha)

    def loss():
        z = x @ w.T
        return softplus(-y * ((0.1 * z + 0.9 * torch.log1p(z.exp())) @ a)).mean()

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for step in range(steps):
        if loss() <= epsilon:
            return w.detach(), step
        optimizer.step(closure)
    return w.detach(), steps


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_a_stack_is_what_autograd_trains_one_by_one(rho):
    stack, alpha = problems(), torch.tensor([0.2, 0.05])
    trained = benign.train(stack, alpha=alpha, epsilon=0.25, steps=1000, rho=rho)
    for i, w in enumerate(stack.weights(trained.coefficients)):
        expected, steps = by_autograd(stack.x[i], stack.y[i], stack.w0[i], stack.a[i], alpha[i].item(), rho, 0.25, 1000)
        assert trained.steps[i] == steps and torch.allclose(w, expected, rtol=1e-6, atol=1e-8)
        outputs = benign.activation(stack.x[i] @ w.T) @ stack.a[i]
        assert torch.allclose(trained.outputs[i], outputs, rtol=1e-8)
        assert trained.loss[i].item() == pytest.approx(softplus(-stack.y[i] * outputs).mean().item())
    assert len(set(trained.steps.tolist())) == 2  # one left the stack before the other


def test_a_run_does_not_depend_on_those_beside_it():
    together = benign.train(problems((6, 30, 50)), alpha=torch.full((3,), 0.1), epsilon=0.25, steps=1000)
    alone = benign.train(problems((6,)), alpha=torch.full((1,), 0.1), epsilon=0.25, steps=1000)
    assert torch.allclose(together.coefficients[:1], alone.coefficients, rtol=1e-9)
    assert together.steps[0] == alone.steps[0] and bool(alone.done)


def test_levels_are_kept_at_the_first_step_that_reaches_them():
    stack, alpha = problems(), torch.tensor([0.2, 0.05])
    trained = benign.train(stack, alpha=alpha, epsilon=0.25, steps=1000, levels=[0.5, 0.4, 0.25])
    for level, kept in zip([0.5, 0.4, 0.25], trained.path, strict=True):
        until = benign.train(stack, alpha=alpha, epsilon=level, steps=1000)
        assert torch.allclose(kept, until.coefficients, rtol=1e-9)
    short = benign.train(stack, alpha=alpha, epsilon=1e-9, steps=3, levels=[1e-9])
    assert not short.done.any() and torch.equal(short.path[0], short.coefficients)


def test_the_activation_is_leaky_and_smooth():
    z = torch.linspace(-9, 9, 500, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(benign.activation(z).sum(), z)
    assert torch.allclose(derivative, benign.slope(z.detach()), rtol=1e-12)
    assert derivative.min() > 0.1 and derivative.max() < 1


def test_a_problem_has_the_flips_the_separation_and_the_pairing_that_are_asked_for():
    one = benign.draw(400, 3, p=5, mu=3.0, flip=0.1, omega=0.2, seed=1)
    assert (one["y"] != one["clean"]).sum() == 40
    assert (one["x"] * one["clean"][:, None]).mean(0)[0].item() == pytest.approx(3, abs=0.2)
    wider = benign.draw(400, 9, p=5, mu=3.0, flip=0.1, omega=0.4, seed=1)
    assert torch.equal(one["x"], wider["x"]) and wider["w0"].shape == (9, 5)
    scaled = benign.draw(400, 3, p=5, mu=3.0, flip=0.1, omega=0.4, seed=1)
    assert torch.allclose(scaled["w0"], 2 * one["w0"])


@pytest.mark.parametrize("m", [2, 40])
def test_the_error_on_clean_points_is_that_of_points_drawn_in_all_dimensions(m):
    one = benign.draw(10, m, p=12, mu=0.7, flip=0.0, omega=0.5, seed=3)
    error, margin = benign.on_clean_points(one["w0"], one["a"], 0.7, draws=100_000)
    random = torch.Generator().manual_seed(9)
    clean = 2.0 * torch.randint(2, (100_000, 1), generator=random).double() - 1
    x = torch.randn(100_000, 12, generator=random, dtype=torch.float64)
    x[:, 0] += 0.7
    products = clean[:, 0] * (benign.activation(clean * x @ one["w0"].T) @ one["a"])
    assert error == pytest.approx((products <= 0).double().mean().item(), abs=5 * (0.5 / 100_000**0.5))
    assert margin == pytest.approx(products.mean().item(), abs=5 * products.std().item() / 100_000**0.5)


@pytest.mark.parametrize("wrong", [dict(flip=1.0), dict(flip=-0.1), dict(mu=-1.0), dict(omega=-1.0)])
def test_what_is_out_of_range_is_named(wrong):
    with pytest.raises(ValueError, match="out of range"):
        benign.draw(4, 3, p=5, **SETTING | wrong, seed=0)
    with pytest.raises(ValueError, match="n, m, p = 0, 3, 5"):
        benign.draw(0, 3, p=5, **SETTING, seed=0)
