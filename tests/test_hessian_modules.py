"""Modules whose Hessian is not what a plain product gives: the right value, or a refusal by name."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from lib import hessian

P = nn.utils.parametrizations
N, OUTPUTS = 6, 3


def built(make, dtype=torch.float64):
    torch.manual_seed(0)
    return make().to(dtype)


def batch(shape=(3, 4), dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(N, *shape, dtype=dtype), torch.randint(OUTPUTS, (N,))


def dense(model, x, y, frozen=True):
    """The Hessians of every sample by two backward passes of plain autograd: N×P×P."""
    weights = [p for p in model.parameters() if frozen or p.requires_grad]
    result = []
    with torch.backends.mkldnn.flags(enabled=False):
        for i in range(len(x)):
            loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
            first = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            flat = torch.cat([g.flatten() for g in first])
            rows = [
                torch.autograd.grad(g, weights, retain_graph=True, materialize_grads=True)
                if g.requires_grad
                else [torch.zeros_like(w) for w in weights]
                for g in flat
            ]
            result.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]))
    return torch.stack(result).detach()


def differences(model, x, y, step=1e-5):
    """The same by central differences of one backward pass, for modules whose second one is wrong or absent."""
    weights = list(model.parameters())
    start, result = nn.utils.parameters_to_vector(weights).detach(), []

    def gradient(at, i):
        nn.utils.vector_to_parameters(at, weights)
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, materialize_grads=True)])

    for i in range(len(x)):
        rows = [gradient(start + step * e, i) - gradient(start - step * e, i) for e in torch.eye(len(start)).to(start)]
        result.append(torch.stack(rows) / (2 * step))
    return torch.stack(result)


def values(h):
    """λ_max(H) and s₂ of dense per-sample Hessians."""
    mean = h.mean(0)
    central = torch.linalg.matrix_power(h, 2).mean(0) - mean @ mean
    return torch.linalg.eigvalsh(mean)[-1].item(), torch.linalg.eigvalsh(central)[-1].item() ** 0.5


def agrees(model, x, y, rel=1e-6, expected=None, **options):
    a, s2 = values(dense(model, x, y, **options) if expected is None else expected)
    found = hessian.moments(model, "cross_entropy", x, y, ks=(2,), **options)
    assert found["a"].converged and found["a"].value == pytest.approx(a, rel=rel)
    assert found["s2"].converged and found["s2"].value == pytest.approx(s2, rel=rel)
    return found


def refused(match, model, x, y):
    with pytest.raises(ValueError, match=match):
        hessian.sharpness(model, "cross_entropy", x, y)


# Chance


class Stochastic(nn.Module):
    """A residual block that is skipped with a small chance, for the whole batch, as in stochastic depth."""

    def __init__(self, draw, chance=0.05):
        super().__init__()
        self.draw, self.chance = draw, chance
        self.block, self.head = nn.Linear(4, 4), nn.Linear(4, OUTPUTS)

    def forward(self, x):
        return self.head(x if self.draw() < self.chance else x + self.block(x).tanh())


class Dropped(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.01)


class OwnGenerator(Stochastic):
    def __init__(self, generator, draw):
        super().__init__(lambda: draw(generator))
        self.generator = generator


DRAWS = {
    "torch": lambda: Stochastic(lambda: torch.rand(()).item()),
    "python": lambda: Stochastic(random.random),
    "numpy": lambda: Stochastic(np.random.random),
    "F.dropout": lambda: Dropped(4, OUTPUTS),
    "its own of torch": lambda: OwnGenerator(torch.Generator(), lambda g: torch.rand((), generator=g).item()),
    "its own of numpy": lambda: OwnGenerator(np.random.default_rng(0), lambda g: g.random()),
}


@pytest.mark.parametrize("make", DRAWS.values(), ids=DRAWS)
def test_a_network_with_chance_is_refused_whatever_it_happens_to_draw(make):
    x, y = batch((4,))
    model = built(make)
    for seed in range(10):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        refused("model draws random numbers, so that the loss is random", model, x, y)


def test_a_chance_that_no_generator_shows_is_found_by_passes():
    hidden = random.Random(0)
    model = built(lambda: Stochastic(hidden.random, chance=0.5))
    for _ in range(10):
        refused("depends on the other samples or on chance", model, *batch((4,)))


def test_no_chance_is_no_refusal_and_nothing_is_drawn():
    state = torch.get_rng_state()
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.GELU(), nn.Linear(4, OUTPUTS)).double().eval()
    torch.set_rng_state(state)
    x, y = torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    assert hessian.sharpness(model, "cross_entropy", x, y).converged
    assert torch.equal(torch.get_rng_state(), state)


# What has no forward mode


class Frozen(nn.Module):
    """A body under no_grad, or detached, and a head."""

    def __init__(self, detach):
        super().__init__()
        self.detach = detach
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, OUTPUTS)

    def forward(self, x):
        if self.detach:
            return self.head(self.body(x).tanh().detach())
        with torch.no_grad():
            features = self.body(x).tanh()
        return self.head(features)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_body_under_no_grad_is_a_constant(detach, dtype):
    # given that only the head has a gradient, then H is the head's, symmetric, with zeros elsewhere.
    model = built(lambda: Frozen(detach), dtype)
    x, y = batch((4,), dtype)
    found = agrees(model, x, y, rel=1e-4 if dtype == torch.float32 else 1e-6)
    with torch.no_grad():
        features = model.body(x).tanh()
    head = hessian.sharpness(model.head, "cross_entropy", features, y)
    assert found["a"].value == pytest.approx(head.value, rel=1e-5)
    assert found["a"].vector[: 4 * 5 + 5].norm() < 1e-6


class Twisted(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].roll(1, -1)  # the gradient of no function

    generate_vmap_rule = True


class WithTwist(nn.Sequential):
    def forward(self, x):
        return self[1](Twisted.apply(self[0](x)).tanh())


def test_derivatives_that_do_not_fit_are_refused():
    model = built(lambda: WithTwist(nn.Linear(4, 5), nn.Linear(5, OUTPUTS)))
    refused("not symmetric, so they are no Hessian.*autograd functions", model, *batch((4,)))


class Last(nn.Module):
    """A recurrent layer whose last output is classified."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.head = kind(4, 2, batch_first=True), nn.Linear(2, OUTPUTS)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def normed(norm):
    def make():
        return nn.Sequential(nn.Flatten(), norm(nn.Linear(12, 4)), nn.Tanh(), norm(nn.Linear(4, OUTPUTS)))

    return make


MODULES = {
    "LSTM": lambda: Last(nn.LSTM),
    "GRU": lambda: Last(nn.GRU),
    "RNN": lambda: Last(nn.RNN),
    "weight norm": normed(P.weight_norm),
    "old weight norm": normed(nn.utils.weight_norm),
    "spectral norm": normed(lambda layer: P.spectral_norm(layer).eval()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_recurrent_and_normed_layers(make, dtype):
    # given float64 weights that are those of float32, then the values agree with differences of gradients.
    x, y = batch(dtype=torch.float32)
    expected = differences(built(make).eval(), x.double(), y)
    agrees(built(make, dtype).eval(), x.to(dtype), y, rel=1e-3 if dtype == torch.float32 else 1e-6, expected=expected)


def test_what_a_pass_changes_is_refused_and_left():
    model = built(normed(P.spectral_norm)).train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    refused("buffer '1.parametrizations.weight.0._u' changes with every pass.*model.eval", model, *batch())
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())


class Unsmooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class Once(nn.Linear):
    def forward(self, x):
        return Unsmooth.apply(super().forward(x))


def test_what_cannot_be_differentiated_twice_is_named():
    refused("model has no second derivatives in torch: .*autograd.Function", built(lambda: Once(4, 3)), *batch((4,)))


# Frozen parameters and tokens


@pytest.mark.parametrize("frozen", ["0.weight", "2.bias"])
def test_frozen_parameters_are_left_out_on_request(frozen):
    model, (x, y) = built(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, OUTPUTS))), batch((4,))
    whole = agrees(model, x, y)
    model.get_parameter(frozen).requires_grad_(False)
    assert hessian.sharpness(model, "cross_entropy", x, y).value == whole["a"].value  # they count unless told otherwise
    part = agrees(model, x, y, frozen=False)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert part["a"].vector.shape == (trained,) and part["a"].value < whole["a"].value
    for ask in (hessian.nonuniformity, hessian.stability, hessian.spectral_density):
        options = {hessian.nonuniformity: dict(k=2), hessian.stability: dict(eta=0.1, rho=0.1)}.get(ask, {})
        ask(model, "cross_entropy", x, y, frozen=False, **options)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters that are not frozen: there is no Hessian"):
        hessian.sharpness(model, "cross_entropy", x, y, frozen=False)


class Tokens(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4, **options), nn.Linear(4, OUTPUTS)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1).tanh())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_an_embedding_takes_whole_numbers(dtype):
    model, x = built(Tokens), torch.randint(7, (N, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    agrees(model, x, batch()[1])


def test_whole_numbers_without_an_embedding_are_refused_as_before():
    refused("x is torch.int64 .*standardize x", built(lambda: nn.Linear(4, 3)), torch.ones(N, 4).long(), batch()[1])
