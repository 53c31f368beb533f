"""m-sharpness against closed forms and the exact maximum of quadratics, and the released evaluation beside it."""

import copy
import math

import pytest
import torch
from torch import nn

from lib import hessian
from lib.core.seeds import generator
from lib.sam import SAM


def linear(d=4, outputs=1, seed=0, bias=False):
    torch.manual_seed(seed)
    return nn.Linear(d, outputs, bias=bias).double()


def samples(n=12, d=4, classes=2, seed=1):
    random = generator(seed, "samples")
    x = torch.randn(n, d, generator=random, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=random)


def convolutional(seed=0):
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3)).double()
    images = torch.randn(64, 1, 4, 4, dtype=torch.float64)
    model(3 * images + 1)  # statistics that differ from those of the samples below
    return model, images[:8], torch.arange(8) % 3


# Closed forms


@pytest.mark.parametrize("rho", [1e-6, 0.1, 3.0])
@pytest.mark.parametrize("bias", [False, True])
def test_the_1_sharpness_of_a_linear_classifier_is_the_margin_less_rho_times_the_input(rho, bias):
    # The loss is softplus(−margin), margin = (w_y − w_o)·x. Moving both rows, a ball of radius ρ lowers the margin by
    # √2 ρ‖x‖ (with a bias, x has one more entry, 1), and the gradient has that direction at every δ.
    model, (x, y) = linear(outputs=2, bias=bias), samples()
    f = model(x).detach()
    margin = f.gather(1, y[:, None])[:, 0] - f.gather(1, 1 - y[:, None])[:, 0]
    length = (x.square().sum(1) + bias).sqrt()
    softplus = nn.functional.softplus
    exact = (softplus(2**0.5 * rho * length - margin) - softplus(-margin)).mean().item()
    result = hessian.m_sharpness(model, "cross_entropy", x, y, rho=rho, m=1)
    assert result == pytest.approx(exact, rel=1e-9 if rho > 1e-3 else 1e-7)  # a rise of 1e-6 has ten digits left


@pytest.mark.parametrize(("loss", "factor"), [("mse", 0.5), ("squared", 1.0)])
def test_the_1_sharpness_of_a_linear_regression(loss, factor):
    model, (x, _) = linear(), samples()
    y = model(x).detach() + torch.linspace(-1, 2, 12, dtype=torch.float64)[:, None]
    r, length = (model(x) - y).detach().abs()[:, 0], x.norm(dim=1)
    exact = factor * ((r + 0.3 * length) ** 2 - r**2)
    result = hessian.m_sharpness_details(model, loss, x, y, rho=0.3, m=1)
    torch.testing.assert_close(result.groups, exact, rtol=1e-12, atol=0)
    assert result.value == result.last == pytest.approx(exact.mean().item(), rel=1e-12)
    assert math.isnan(result.released)  # there is no error rate without labels


def maximum_on_the_ball(g, h, rho):
    """max g·δ + ½ δᵀHδ over ‖δ‖ ≤ ρ for H ⪰ 0, g ≠ 0: by bisection on μ ≥ λ_max, (μI − H)δ = g, ‖δ‖ = ρ."""
    values, vectors = torch.linalg.eigh(h)
    b = vectors.T @ g
    low, high = values[-1].item(), values[-1].item() + g.norm().item() / rho
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (b / (middle - values)).norm() > rho else (low, middle)
    delta = vectors @ (b / (high - values))
    return (g @ delta + delta @ h @ delta / 2).item()


@pytest.mark.parametrize("step", [1.0, 0.1])
@pytest.mark.parametrize("rho", [0.05, 0.5, 5.0])
def test_ascent_finds_the_maximum_of_a_quadratic(rho, step):
    model, (x, _) = linear(), samples()
    y = torch.randn(12, 1, generator=generator(2, "y"), dtype=torch.float64)
    exact = []
    for a, b in zip(x.split(4), y.split(4), strict=True):
        g = a.T @ (model(a) - b).detach()[:, 0] / 4
        exact.append(maximum_on_the_ball(g, a.T @ a / 4, rho))
    result = hessian.m_sharpness_details(model, "mse", x, y, rho=rho, m=4, steps=400, step_size=step * rho)
    torch.testing.assert_close(result.groups, torch.tensor(exact, dtype=torch.float64), rtol=1e-9, atol=0)
    once = hessian.m_sharpness(model, "mse", x, y, rho=rho, m=4)
    assert once <= result.value * (1 + 1e-12)


def test_at_a_minimum_only_other_starts_find_the_rise_of_half_rho_squared_lambda_max():
    model, (x, _) = linear(), samples()
    y = model(x).detach()
    at_w = hessian.m_sharpness_details(model, "mse", x, y, rho=0.2, m=12, steps=300)
    assert at_w.value == at_w.last == 0.0
    result = hessian.m_sharpness(model, "mse", x, y, rho=0.2, m=12, steps=300, starts=3)
    options = dict(rho=0.2, m=12, starts=2)  # too few steps to arrive: the value depends on the start
    one, same, other = (hessian.m_sharpness(model, "mse", x, y, **options, seed=seed) for seed in (0, 0, 1))
    assert one == same != other and 0 < one < result
    exact = 0.02 * torch.linalg.eigvalsh(x.T @ x / 12)[-1].item()
    assert result == pytest.approx(exact, rel=1e-9)


# One step is SAM's


def test_one_step_is_the_rise_at_the_point_that_sam_climbs_to():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x, y = samples()
    optimizer, values = SAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.1), []

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        values.append(loss.item())
        return loss

    result = hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.1, m=12)
    optimizer.step(closure)
    assert result == pytest.approx(values[1] - values[0], rel=1e-10)


def test_more_steps_of_rho_and_more_starts_never_find_less():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double(), samples()
    grid = [(1, 1), (5, 1), (20, 1), (20, 2), (20, 5)]
    values = [
        hessian.m_sharpness(model, "cross_entropy", x, y, rho=1.0, m=3, steps=steps, starts=starts)
        for steps, starts in grid
    ]
    assert values == sorted(values) and values[-1] > values[0]


def test_smaller_groups_are_sharper():
    # One δ for all is a δ for each, so exact m-sharpness falls with m. In a linear classifier ascent finds it.
    model, (x, y) = linear(outputs=2), samples()
    values = [
        hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.5, m=m, steps=300, step_size=0.05) for m in (1, 3, 12)
    ]
    assert values == sorted(values, reverse=True) and values[0] > 1.2 * values[-1]


def test_the_last_group_may_be_smaller_and_counts_as_the_others():
    model, (x, y) = linear(outputs=2), samples()
    result = hessian.m_sharpness_details(model, "cross_entropy", x, y, rho=0.5, m=5)
    parts = [
        hessian.m_sharpness(model, "cross_entropy", a, b, rho=0.5, m=len(a))
        for a, b in zip(x.split(5), y.split(5), strict=True)
    ]
    assert result.groups.tolist() == parts and result.value == pytest.approx(sum(parts) / 3, rel=1e-14)


# What the released code returns


def test_the_released_evaluation_returns_minus_the_loss_where_nothing_is_misclassified():
    model = linear(d=2, outputs=2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
    x = torch.tensor([[1.0, 0.5], [-1.0, 0.2], [0.9, 0.0], [-0.05, 0.3]], dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1])
    loss = [nn.functional.cross_entropy(model(a), b).item() for a, b in zip(x.split(2), y.split(2), strict=True)]
    small = hessian.m_sharpness_details(model, "cross_entropy", x, y, rho=0.01, m=2)
    assert small.released == pytest.approx(-sum(loss) / 2, rel=1e-12) and small.value == small.last > 0
    # Of two groups, only the last is driven to an error by ρ = 1: one rise, one −loss.
    large = hessian.m_sharpness_details(model, "cross_entropy", x, y, rho=1.0, m=2)
    assert (large.released - (large.groups[1].item() - loss[0]) / 2) == pytest.approx(0, abs=1e-12)
    assert large.released < large.value


# Batch norm


def test_batch_norm_in_training_mode_normalizes_by_the_group():
    model, x, y = convolutional()
    model.eval()
    model[1].train()
    w = [p.detach().clone() for p in model.parameters()]
    rises = []
    for a, b in zip(x.split(4), y.split(4), strict=True):
        loss = nn.functional.cross_entropy(model(a), b)
        g = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([part.flatten() for part in g]).norm()
        with torch.no_grad():
            for p, part in zip(model.parameters(), g, strict=True):
                p.add_(0.3 * part / norm)
            rises.append((nn.functional.cross_entropy(model(a), b) - loss).item())
            for p, start in zip(model.parameters(), w, strict=True):
                p.copy_(start)
    result = hessian.m_sharpness_details(model, "cross_entropy", x, y, rho=0.3, m=4, batch_norm="train")
    assert result.groups.tolist() == pytest.approx(rises, rel=1e-9)
    other = hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.3, m=4)
    assert abs(other - result.value) > 0.01 * result.value


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_is_and_the_value_repeats(batch_norm, training):
    model, x, y = convolutional()
    model.train(training)
    model[2].train(not training)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    options = dict(rho=0.3, m=4, steps=3, starts=2, batch_norm=batch_norm)
    one = hessian.m_sharpness(model, "cross_entropy", x, y, **options)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert modes == [m.training for m in model.modules()] and all(p.grad is None for p in model.parameters())
    assert one == hessian.m_sharpness(model, "cross_entropy", x, y, **options)


def test_the_samples_of_a_pass_make_no_difference():
    model, x, y = convolutional()
    whole = hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.3, m=8, steps=3)
    assert hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.3, m=8, steps=3, memory=1) == pytest.approx(whole)


def test_parameters_that_need_no_gradient_stay():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).double(), samples()
    model[0].requires_grad_(False)
    result = hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.3, m=1)
    inputs = model[0](x).detach()
    assert result == pytest.approx(hessian.m_sharpness(model[1], "cross_entropy", inputs, y, rho=0.3, m=1), rel=1e-12)


def test_in_float32_a_small_radius_keeps_its_digits():
    model, (x, y) = linear(outputs=2), samples()
    exact = hessian.m_sharpness(model, "cross_entropy", x, y, rho=1e-3, m=4)
    result = hessian.m_sharpness(model.float(), "cross_entropy", x.float(), y, rho=1e-3, m=4)
    assert result == pytest.approx(exact, rel=1e-3)  # losses near 1 carry 6e-8, rises are 1e-3: 6e-5, with room


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rho=-0.1), "rho = -0.1: the radius must be"),
        (dict(rho=math.nan), "rho = nan"),
        (dict(m=0), "m = 0: must be an integer, 1 or more"),
        (dict(m=2.0), "m = 2.0: must be an integer"),
        (dict(m=13), "m = 13: x has 12 samples"),
        (dict(steps=0), "steps = 0"),
        (dict(starts=0), "starts = 0"),
        (dict(step_size=0.0), "step_size = 0.0: must be a finite number above 0"),
        (dict(batch_norm="test"), "batch_norm = 'test': must be one of eval, train"),
        (dict(loss="hinge"), "loss = 'hinge'"),
        (dict(y=torch.zeros(12)), "cross_entropy takes class indices"),
        (dict(x=torch.zeros(12, 5).double()), r"model cannot take 4 samples of shape \(5,\)"),
    ],
)
def test_bad_input_is_refused(options, message):
    x, y = samples()
    options = dict(loss="cross_entropy", x=x, y=y, rho=0.1, m=4) | options
    with pytest.raises(ValueError, match=message):
        hessian.m_sharpness(linear(outputs=2), **options)


def test_models_that_cannot_be_measured_are_refused():
    x, y = samples()
    norm = nn.BatchNorm1d(2, track_running_stats=False).double()
    with pytest.raises(ValueError, match="a layer keeps no running statistics"):
        hessian.m_sharpness(nn.Sequential(linear(outputs=2), norm), "cross_entropy", x, y, rho=0.1, m=4)
    with pytest.raises(ValueError, match=r"1 samples of shape .* more than 1 value per channel"):
        model = nn.Sequential(linear(outputs=2), nn.BatchNorm1d(2).double())
        hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.1, m=1, batch_norm="train")
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        hessian.m_sharpness(linear(outputs=2).requires_grad_(False), "cross_entropy", x, y, rho=0.1, m=4)
    with pytest.raises(ValueError, match="loss at the weights is NaN or infinite"):
        model = linear(outputs=2)
        model.weight.data.fill_(1e308)
        hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.1, m=4)


def test_without_a_radius_nothing_rises():
    model, (x, y) = linear(outputs=2), samples()
    assert hessian.m_sharpness(model, "cross_entropy", x, y, rho=0.0, m=4, steps=2, starts=2) == 0.0
