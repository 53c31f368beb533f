"""SAM around every optimizer: that optimizer at radius 0, or a refusal by name; checkpoints; gradient scaling."""

import copy
import io
import pickle
import random

import numpy as np
import pytest
import pytorch_optimizer
import torch
from closures import closure_of
from torch import nn

from lib.sam import SAM

SGD, Adam = torch.optim.SGD, torch.optim.Adam

KINDS = {f"torch.{name}": kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)} | {
    name: pytorch_optimizer.load_optimizer(name) for name in pytorch_optimizer.get_supported_optimizers()
}
del KINDS["torch.Optimizer"]


def network(seed=0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def weights(model) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def train(model, optimizer, steps=range(4)):
    """Steps on batches that depend on the step alone, as do the numbers that the optimizer draws."""
    for step in steps:
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step)  # noqa: NPY002
        x, y = torch.randn(16, 5), torch.randint(3, (16,))
        closure = closure_of(optimizer, lambda: nn.functional.cross_entropy(model(x), y))  # noqa: B023
        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return weights(model)


# Every base


def test_at_radius_zero_it_is_the_base_or_refused():
    def outcome(make):
        torch.manual_seed(0)
        model = network()
        return train(model, make(model.parameters()))

    same, other, refused = [], [], []
    for name, kind in KINDS.items():
        try:
            expected = outcome(lambda params: kind(params, lr=1e-2))  # noqa: B023
        except Exception:
            continue  # by itself it cannot train this network with these arguments either
        try:
            found = outcome(lambda params: SAM(params, kind, rho=0.0, lr=1e-2))  # noqa: B023
        except ValueError as error:
            assert str(error).startswith(f"{kind.__name__} has an option 'rho' of its own")
            refused.append(name)
        else:
            (same if torch.equal(found, expected) else other).append(name)
    assert (other, refused) == ([], ["torch.Adadelta", "adadelta"])
    assert len(same) > 100 and {"torch.SGD", "torch.AdamW", "spam", "sara", "magma"} <= set(same)


def test_a_base_that_evaluates_the_loss_itself_is_refused():
    with pytest.raises(ValueError, match=r"LBFGS\.step needs a closure, for it evaluates the loss itself"):
        SAM(network().parameters(), torch.optim.LBFGS, rho=0.1, lr=0.1)


@pytest.mark.parametrize("name", ["torch.Adam", "spam", "sara", "magma"])
def test_a_group_added_later_and_a_copy_step_as_the_base_does(name):
    kind = KINDS[name]

    def grown(make):
        torch.manual_seed(0)
        model = network()
        optimizer = make(model[0].parameters())
        optimizer.add_param_group({"params": list(model[2].parameters())})
        return train(model, optimizer)

    if name in ("spam", "sara"):  # these make state in the constructor only
        assert SAM(network().parameters(), kind, rho=0.1).state
    else:
        expected = grown(lambda params: kind(params, lr=1e-2))
        assert torch.equal(grown(lambda params: SAM(params, kind, rho=0.0, lr=1e-2)), expected)
    if name == "magma":
        return  # it cannot be copied by itself either
    model = network()
    optimizer = SAM(model.parameters(), kind, rho=0.1, lr=1e-2)
    other, copied = copy.deepcopy((model, optimizer))
    for one in (copied, pickle.loads(pickle.dumps(optimizer))):
        assert one.state is one.base_optimizer.state and one.param_groups is one.base_optimizer.param_groups
    if name == "torch.Adam":
        assert torch.equal(train(other, copied), train(model, optimizer))


# The sign


@pytest.mark.parametrize("normalized", [True, False])
def test_maximizing_is_minimizing_the_negative(normalized):
    one, two = network(), network()
    options = dict(rho=0.1, normalized=normalized, lr=0.1, momentum=0.9)
    upward = SAM(one.parameters(), SGD, maximize=True, **options)
    downward = SAM(two.parameters(), SGD, **options)
    for step in range(5):
        x = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
        upward.step(closure_of(upward, lambda: -one(x).square().mean()))  # noqa: B023
        downward.step(closure_of(downward, lambda: two(x).square().mean()))  # noqa: B023
    assert torch.equal(weights(one), weights(two))


def test_a_base_that_maximizes_as_a_whole_climbs_down():
    # f = −½w² at w = 1 with ρ = ½ is maximized as ½w² is minimized: at w + ε = 3/2, not at ½.
    class Upward(SGD):
        maximize = True

        def step(self, closure=None):
            for p in (p for group in self.param_groups for p in group["params"]):
                p.grad.neg_()
            super().step()

    w = nn.Parameter(torch.tensor([1.0]))
    optimizer = SAM([w], Upward, rho=0.5, lr=0.1)
    optimizer.step(closure_of(optimizer, lambda: -(w.square() / 2).sum()))
    assert w.item() == pytest.approx(1 - 0.1 * 1.5)


# Checkpoints


@pytest.mark.parametrize("kind", [SGD, Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam])
def test_an_older_checkpoint_and_one_of_the_base_go_on(kind):
    # given a checkpoint of the base alone, without the options that came with later versions of torch, when SAM loads
    # it, then it goes on as the base alone would.
    model = network()
    base = kind(model.parameters(), lr=1e-2)
    train(model, base)
    saved = copy.deepcopy((model.state_dict(), base.state_dict()))
    for group in saved[1]["param_groups"]:
        for newer in ("maximize", "foreach", "differentiable", "fused", "capturable", "decoupled_weight_decay"):
            group.pop(newer, None)

    def resumed(optimizer_of):
        again = network(1)
        optimizer = optimizer_of(again.parameters())
        again.load_state_dict(saved[0])
        optimizer.load_state_dict(copy.deepcopy(saved[1]))
        return train(again, optimizer, range(4, 8)), optimizer

    expected, _ = resumed(lambda params: kind(params, lr=0.5))
    found, _ = resumed(lambda params: SAM(params, kind, rho=0.0, lr=0.5))
    assert torch.equal(found, expected)
    climbed, optimizer = resumed(lambda params: SAM(params, kind, rho=0.3, normalized=False, lr=0.5))
    assert not torch.equal(climbed, expected)
    assert optimizer.param_groups[0]["rho"] == 0.3 and optimizer.param_groups[0]["normalized"] is False
    assert optimizer.base_optimizer.param_groups is optimizer.param_groups


def test_a_checkpoint_of_a_base_with_one_of_its_own_form():
    model, kind = network(), KINDS["magma"]
    optimizer = SAM(model.parameters(), kind, rho=0.1, lr=1e-2)
    train(model, optimizer)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    expected = train(model, optimizer, range(4, 8))
    file.seek(0)
    again = network(1)
    other = SAM(again.parameters(), kind, rho=0.7, lr=0.5)
    for part, state in zip((again, other), torch.load(file, weights_only=False), strict=True):
        part.load_state_dict(state)
    assert torch.equal(train(again, other, range(4, 8)), expected)


# Gradient scaling


def scaled_closure(optimizer, scaler, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        scaler.scale(value).backward()
        return value

    return closure


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_with_a_gradient_scaler_the_step_is_the_same(normalized, enabled):
    # given a scale that is a power of two, then scaling and unscaling are exact, and so is the step.
    one, two = network(), network()
    options = dict(rho=0.1, normalized=normalized, lr=0.1, momentum=0.9)
    plain, optimizer = SAM(one.parameters(), SGD, **options), SAM(two.parameters(), SGD, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
    for step in range(5):
        x = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
        expected = plain.step(closure_of(plain, lambda: one(x).square().mean()))  # noqa: B023
        found = optimizer.step(scaled_closure(optimizer, scaler, lambda: two(x).square().mean()), scaler=scaler)  # noqa: B023
        scaler.update()
        assert found == expected
    assert torch.equal(weights(one), weights(two))


@pytest.mark.parametrize("at", [1, 2])
def test_a_scaled_gradient_that_overflows_skips_the_step(at):
    # given a gradient that is infinite at w (at = 1) or at w + ε (at = 2), then the weights and the momentum stay, no
    # pass at a point that is not finite is made, and the scaler backs off.
    model = network()
    optimizer = SAM(model.parameters(), SGD, rho=0.1, lr=0.1, momentum=0.9, model=model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    x, calls = torch.ones(2, 5), []

    def loss():
        calls.append(weights(model))
        return model(x).square().mean() * (torch.inf if len(calls) == at else 1.0)

    before = weights(model)
    optimizer.step(scaled_closure(optimizer, scaler, loss), scaler=scaler)
    scaler.update()
    assert torch.equal(weights(model), before) and not optimizer.state
    assert len(calls) == at and all(point.isfinite().all() for point in calls)
    assert scaler.get_scale() == 2.0
    optimizer.step(scaled_closure(optimizer, scaler, loss), scaler=scaler)
    assert not torch.equal(weights(model), before)


def test_the_scaler_alone_is_told_how():
    model = network()
    optimizer = SAM(model.parameters(), SGD, rho=0.1, lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(2, 5)).square().mean()).backward()
    with pytest.raises(TypeError, match=r"With a GradScaler: optimizer.step\(closure, scaler=scaler\)"):
        scaler.step(optimizer)
