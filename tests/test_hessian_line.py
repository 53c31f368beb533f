"""The loss on a line between networks, and batch-norm statistics estimated anew, against sums written here."""

import copy

import pytest
import torch
from torch import nn

from lib import hessian
from lib.hessian.batch_norm import mode


def network(seed, norm=True):
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4)] if norm else [nn.Linear(3, 4)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)).double()


def samples(n=20, seed=5):
    torch.manual_seed(seed)
    return torch.randn(n, 3, dtype=torch.float64) + 1, torch.randint(2, (n,))


ALPHAS = [-0.5, 0.0, 0.3, 1.0, 1.5]


def test_the_loss_is_that_of_the_interpolated_weights():
    first, second, (x, y) = network(0, norm=False), network(1, norm=False), samples()
    line = hessian.loss_on_line(first, second, "cross_entropy", x, y, ALPHAS, batch_size=7)
    assert line.alpha.tolist() == ALPHAS
    for alpha, value, error in zip(*line, strict=True):
        a, b = ([p.detach() for p in net.parameters()] for net in (first, second))
        w1, b1, w2, b2 = ((1 - alpha) * p + alpha * q for p, q in zip(a, b, strict=True))
        output = torch.tanh(x @ w1.T + b1) @ w2.T + b2
        assert value.item() == pytest.approx(nn.functional.cross_entropy(output, y).item(), rel=1e-12)
        assert error.item() == pytest.approx((output.argmax(1) != y).double().mean().item(), abs=1e-15)


def test_batch_norm_takes_the_statistics_of_each_point():
    first, second, (x, y), (s, _) = network(0), network(1), samples(), samples(50, seed=6)
    line = hessian.loss_on_line(first, second, "cross_entropy", x, y, ALPHAS, statistics=s, batch_size=50)
    for alpha, value in zip(line.alpha, line.loss, strict=True):
        a, b = ([p.detach() for p in net.parameters()] for net in (first, second))
        w1, b1, scale, shift, w2, b2 = ((1 - alpha) * p + alpha * q for p, q in zip(a, b, strict=True))
        hidden = s @ w1.T + b1  # one batch: its mean and its unbiased variance
        normal = (x @ w1.T + b1 - hidden.mean(0)) / (hidden.var(0) + 1e-5).sqrt() * scale + shift
        output = torch.tanh(normal) @ w2.T + b2
        assert value.item() == pytest.approx(nn.functional.cross_entropy(output, y).item(), rel=1e-12)


def test_both_networks_are_left_as_they_are():
    first, second, (x, y) = network(0), network(1).eval(), samples()
    before = [copy.deepcopy(net.state_dict()) for net in (first, second)]
    hessian.loss_on_line(first, second, "cross_entropy", x, y, ALPHAS, statistics=x)
    for net, state in zip((first, second), before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(m.training for m in first.modules()) and not any(m.training for m in second.modules())


def test_a_squared_loss_along_a_line_of_linear_networks_is_a_parabola():
    torch.manual_seed(0)
    first, second, (x, _) = nn.Linear(3, 1).double(), nn.Linear(3, 1).double(), samples()
    line = hessian.loss_on_line(first, second, "squared", x, x[:, :1], [0, 1, 2, 3]).loss
    assert line.diff().diff().diff().abs().max() < 1e-12 * line.max()
    assert hessian.loss_on_line(first, second, "squared", x, x[:, :1], [0]).error.isnan().all()


# Statistics


def test_statistics_are_the_average_of_those_of_the_batches_weighted_by_samples():
    model, (x, _) = network(0), samples(20)
    hidden = model[0](x).detach()
    model[1].running_mean.fill_(9.0)
    hessian.reestimate(model, x, batch_size=8)  # of 8, 8 and 4
    parts = hidden.split(8)
    for name, statistic in (("running_mean", lambda h: h.mean(0)), ("running_var", lambda h: h.var(0))):
        exact = sum(len(part) * statistic(part) for part in parts) / 20
        torch.testing.assert_close(getattr(model[1], name), exact, rtol=1e-12, atol=1e-12)
    assert model[1].momentum == 0.1 and model.training


def test_later_layers_see_what_the_earlier_normalize_by_the_batch():
    torch.manual_seed(0)
    model, (x, _) = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2)).double().eval(), samples()
    hessian.reestimate(model, x, batch_size=20)
    normal = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(model[2].running_mean, model[1](normal).mean(0).detach())
    assert not model.training


def test_dropout_stays_off_while_statistics_are_taken():
    torch.manual_seed(0)
    model, (x, _) = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).double(), samples()
    hessian.reestimate(model, x)
    torch.testing.assert_close(model[1].running_mean, x.mean(0))


def test_a_mode_ends_also_by_an_error():
    model = network(0)
    with pytest.raises(KeyError), mode(model, "eval"):
        assert not model[1].training
        raise KeyError
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(statistics=None), "batch norm: give statistics=inputs"),
        (dict(second=network(0, norm=False)), "differ in their parameters"),
        (dict(loss="hinge"), "loss = 'hinge'"),
        (dict(y=torch.zeros(3).long()), "x has 20 samples and y has 3"),
        (dict(statistics=torch.zeros(0, 3).double()), "0 samples in batches of 128"),
        (dict(batch_size=19), "batch_size = 19 of 20 samples: Expected more than 1 value per channel"),
    ],
)
def test_bad_input_is_refused(options, message):
    x, y = samples()
    options = dict(first=network(0), second=network(1), loss="cross_entropy", x=x, y=y, statistics=x) | options
    with pytest.raises(ValueError, match=message):
        hessian.loss_on_line(**options, alphas=[0.5])
