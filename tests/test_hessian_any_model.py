"""Hessians of transformers, of nested inputs, of losses that are functions, and of batches, against dense ones."""

import collections
import math

import pytest
import torch
from test_hessian_modules import OUTPUTS, N, batch, built
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib import hessian
from lib.hessian import operators

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


def objective(model, loss, x, y):
    """(function of flat weights that gives the N losses, the weights)."""
    named = dict(model.named_parameters())
    args, options = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})

    def values(v):
        parts = v.split([p.numel() for p in named.values()])
        weights = {n: part.view_as(p) for (n, p), part in zip(named.items(), parts, strict=True)}
        return loss(torch.func.functional_call(model, weights, args, options), y)

    return values, nn.utils.parameters_to_vector(model.parameters()).detach()


def dense(model, loss, x, y):
    """Per-sample Hessians N×P×P, by two backward passes of every loss."""
    function, w = objective(model, loss, x, y)
    n = len(function(w))
    batched = not any(isinstance(m, nn.GroupNorm) for m in model.modules())  # whose rows torch does not batch
    with sdpa_kernel(SDPBackend.MATH):  # the only attention that torch differentiates twice
        return torch.stack(
            [torch.autograd.functional.hessian(lambda v, i=i: function(v)[i], w, vectorize=batched) for i in range(n)]
        )


def agrees(model, loss, x, y):
    h = dense(model, loss if callable(loss) else CROSS_ENTROPY, x, y)
    mean, samples = h.mean(0), hessian.sample_hessians(model, loss, x, y)
    v = torch.randn(len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for operator, expected in (
        (operators.mean_hessian(samples), mean),
        (operators.central_moment(samples, 2), (h @ h).mean(0) - mean @ mean),
    ):
        torch.testing.assert_close(operator @ v, expected @ v, rtol=1e-7, atol=1e-9)


# Transformers


class Encoder(nn.Module):
    """Token or vector sequences through a transformer encoder; a class, or with `each` one for every position."""

    def __init__(self, tokens=True, each=False, tied=False):
        super().__init__()
        self.enter = nn.Embedding(5, 4) if tokens else nn.Linear(3, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(4, 5 if tied else OUTPUTS, bias=not tied)
        self.each = each
        if tied:
            self.head.weight = self.enter.weight

    def forward(self, x, mask=None):
        z = self.encoder(self.enter(x), src_key_padding_mask=mask)
        return self.head(z if self.each else z.mean(1))


def tokens(length=2):
    return torch.randint(5, (N, length), generator=torch.Generator().manual_seed(0)), batch()[1]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_transformer_encoder(frozen):
    model = built(lambda: Encoder(tokens=False)).eval()
    model.enter.requires_grad_(not frozen)  # without a gradient in sight torch takes a path that has no derivatives
    model.encoder.requires_grad_(not frozen)
    agrees(model, "cross_entropy", batch((2, 3))[0], batch()[1])
    assert torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ValueError, match=r"dropout is on.*model\.eval"):
        hessian.sharpness(model.train(), "cross_entropy", *batch((2, 3)))


def test_tokens_with_a_mask_as_a_tuple_and_by_names():
    model, (x, y) = built(Encoder).eval(), tokens()
    mask = torch.zeros(N, 2, dtype=torch.bool)
    mask[::2, 1] = True
    agrees(model, "cross_entropy", (x, mask), y)
    inputs = ((x, mask), collections.UserDict(mask=mask, x=x), x)
    one, two, other = (hessian.sample_hessians(model, "cross_entropy", given, y) for given in inputs)
    v = torch.ones(one.size, dtype=torch.float64)
    product = operators.mean_hessian(one) @ v
    assert torch.equal(product, operators.mean_hessian(two) @ v)
    assert not torch.allclose(product, operators.mean_hessian(other) @ v)


def test_a_language_model_with_tied_weights_and_a_loss_of_its_own():
    model, (x, _) = built(lambda: Encoder(each=True, tied=True)).eval(), tokens()

    def loss(outputs, targets):
        return CROSS_ENTROPY(outputs.transpose(1, 2), targets).mean(1)

    agrees(model, loss, x, x.roll(1, 1))
    size = sum(p.numel() for p in model.parameters())
    assert hessian.sample_hessians(model, loss, x, x).size == size  # tied weights count once
    with pytest.raises(ValueError, match=r"one row of outputs for each; give another loss as a function"):
        hessian.sharpness(model, "cross_entropy", x, x)


# Losses and outputs


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mean, self.scale = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        z = self.body(x).tanh()
        return {"mean": self.mean(z)[:, 0], "scale": self.scale(z)[:, 0]}


def gaussian(outputs, y):
    return outputs["scale"] + 0.5 * ((y["value"] - outputs["mean"]) * (-outputs["scale"]).exp()).square() * y["weight"]


def test_outputs_and_targets_by_names():
    x, y = batch((4,))[0], {"value": torch.arange(N).double(), "weight": torch.ones(N).double()}
    agrees(built(TwoHeads), gaussian, x, y)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "squared"])
def test_a_named_loss_and_the_same_as_a_function(name):
    # given a perceptron, which has a recursion of its own for named losses.
    model = built(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, OUTPUTS)))
    x, y = batch((4,))
    hot = nn.functional.one_hot(y, OUTPUTS).double()
    factor = {"mse": 0.5, "squared": 1.0}.get(name)
    loss = (lambda f, y: factor * (f - y).square().sum(1)) if factor else CROSS_ENTROPY
    one, two = hessian.moments(model, name, x, y), hessian.moments(model, loss, x, hot if factor else y)
    for key in one:
        assert two[key].converged and two[key].value == pytest.approx(one[key].value, rel=1e-6)
    for matrix in operators.MATRICES:
        expected = hessian.trace(model, name, x, y, matrix=matrix, products=100)
        found = hessian.trace(model, loss, x, hot if factor else y, matrix=matrix, products=100)
        assert found.error == 0 and found.value == pytest.approx(expected.value, rel=1e-6)


class Detached(nn.Module):
    """A loss with a weight that is held constant, as focal losses have."""

    def forward(self, outputs, y):
        values = CROSS_ENTROPY(outputs, y)
        return (1 - (-values).exp().detach()).square() * values


def test_a_loss_with_a_constant_weight_is_differentiated_as_backward_does():
    model, (x, y) = built(lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, OUTPUTS))), batch((4,))
    agrees(model, Detached(), x, y)


def refused(match, model, loss, x, y=None):
    with pytest.raises(ValueError, match=match):
        hessian.sharpness(model, loss, x, y)


def test_what_is_no_loss_for_each_sample_is_refused():
    model, (x, y) = built(lambda: nn.Linear(4, OUTPUTS)), batch((4,))
    refused(r"loss gives \(\) for 2 samples: .*reduction='none'", model, nn.CrossEntropyLoss(), x, y)
    refused("depends on the other samples", model, lambda f, y: CROSS_ENTROPY(f - f.mean(0), y), x, y)
    refused("draws random numbers", model, lambda f, y: CROSS_ENTROPY(f + torch.randn_like(f), y), x, y)
    refused("loss gives NaN", model, lambda f, y: CROSS_ENTROPY(f, y) / 0, x, y)
    refused("x has 6 and 5 samples and y has 6", model, CROSS_ENTROPY, (x, x[:5]), y)
    refused("cannot take x of shape", model, CROSS_ENTROPY, (x, x), y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_with_the_remedy(dtype):
    model, (x, y) = built(lambda: nn.Linear(4, OUTPUTS), dtype), batch((4,))
    refused(rf"model is in {dtype}: convert it with model.float\(\) or", model, "cross_entropy", x.to(dtype), y)
    mixed = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, OUTPUTS).to(dtype))
    refused(rf"model is in torch.float32 and {dtype}: convert", mixed, "cross_entropy", x.float(), y)


# Batches


def loader(x, y, **options):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, **options)


@pytest.mark.parametrize("loss", ["cross_entropy", CROSS_ENTROPY], ids=["named", "function"])
def test_batches_are_the_samples_together(loss):
    model, (x, y) = built(lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, OUTPUTS))), batch((4,))
    whole, v = hessian.sample_hessians(model, loss, x, y), torch.ones(43).double()
    for batches in (loader(x, y), [[x[:1], y[:1]], (x[1:], y[1:])]):
        parts = hessian.sample_hessians(model, loss, batches)
        assert parts.n == N
        for operator in (*operators.MATRICES.values(), lambda s: operators.central_moment(s, 2)):
            torch.testing.assert_close(operator(parts) @ v, operator(whole) @ v)
        if isinstance(loss, str):
            torch.testing.assert_close(parts.jacobian_t(parts.jacobian(v)), whole.jacobian_t(whole.jacobian(v)))
    found, expected = hessian.sharpness(model, loss, loader(x, y)), hessian.sharpness(model, loss, x, y)
    assert found.converged and found.value == pytest.approx(expected.value, rel=1e-7)


def test_batches_that_are_not_the_same_again_are_refused():
    model, (x, y) = built(lambda: nn.Linear(4, OUTPUTS)), batch((4,))
    refused("other batches in a second pass.*shuffle=False", model, "cross_entropy", loader(x, y, shuffle=True))
    refused("x is an iterator, which ends after one pass", model, "cross_entropy", iter([(x, y)]))
    refused("x has no batches", model, "cross_entropy", [])
    refused(r"batch 0 of x is a Tensor: must be a pair", model, "cross_entropy", [x])
    refused("y is missing", model, "cross_entropy", x)
    refused("y has entries|labels must be", model, "cross_entropy", [(x, y), (x, y + OUTPUTS)])


# Several eigenvalues, the trace, other matrices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_eigenvalues_with_multiplicity(dtype):
    # given a spectrum with a triple top, a pair, a cluster and a null space.
    values = torch.cat([torch.tensor([7.0, 7.0, 7.0, 3.0, 3.0, 1.001, 1.0, -9.0]), torch.zeros(60)]).double()
    q = torch.linalg.qr(torch.randn(68, 68, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    a = (q * values @ q.T).to(dtype)
    for k in (1, 3, 4, 7, 9):
        pairs = hessian.leading.leading(operators.Operator.dense(a), k)
        tol = 3e-5 if dtype == torch.float32 else 1e-8
        assert all(pair.converged and pair.residual <= tol for pair in pairs)
        expected = values.sort(descending=True).values[:k]
        assert [p.value for p in pairs] == pytest.approx(expected.tolist(), abs=10 * tol)
        vectors = torch.stack([pair.vector for pair in pairs])
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(k, dtype=dtype), atol=1e-5, rtol=0)
        residuals = (a @ vectors.T - vectors.T * vectors.new_tensor([p.value for p in pairs])).norm(dim=0) / 9
        assert residuals.max() <= 2 * tol
    plain = torch.diag(torch.tensor([5.0] * 4 + [1.0] * 4, dtype=dtype))  # a start that is used up has nothing left
    assert [p.value for p in hessian.leading.leading(operators.Operator.dense(plain), 4)] == pytest.approx([5.0] * 4)
    short = hessian.leading.leading(
        operators.Operator.dense(torch.diag(torch.arange(200.0).to(dtype))), 4, max_iterations=9
    )
    assert len(short) == 4 and not any(pair.converged for pair in short)


@pytest.mark.parametrize("plain", [True, False], ids=["perceptron", "general"])
@pytest.mark.parametrize("matrix", operators.MATRICES)
def test_top_and_trace_of_a_network(matrix, plain):
    activation = nn.Tanh if plain else nn.GELU
    model = built(lambda: nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, OUTPUTS)))
    x, y = batch((4,))
    function, w = objective(model, CROSS_ENTROPY, x, y)
    if matrix == "hessian":
        expected = dense(model, CROSS_ENTROPY, x, y).mean(0)
    elif matrix == "empirical_fisher":
        g = torch.autograd.functional.jacobian(function, w)
        expected = g.T @ g / N
    else:  # the Fisher information: over labels drawn from the network's distribution
        expected, chance = torch.zeros(len(w), len(w)).double(), model(x).softmax(1).detach()
        for label in range(OUTPUTS):
            of_label = objective(model, CROSS_ENTROPY, x, torch.full((N,), label))[0]
            g = torch.autograd.functional.jacobian(of_label, w)
            expected += torch.einsum("n,np,nq->pq", chance[:, label], g, g) / N
    values = torch.linalg.eigvalsh(expected).flip(0)
    pairs = hessian.top(model, "cross_entropy", x, y, k=5, matrix=matrix)
    assert all(pair.converged for pair in pairs)
    assert [pair.value for pair in pairs] == pytest.approx(values[:5].tolist(), rel=1e-6)
    estimate = hessian.trace(model, "cross_entropy", x, y, matrix=matrix, products=30)
    assert estimate.products == 30
    assert estimate.value == pytest.approx(expected.trace().item(), abs=4 * estimate.error, rel=1e-9)
    assert hessian.trace(model, "cross_entropy", x, y, matrix=matrix, products=len(w)).error == 0
    with pytest.raises(ValueError, match="matrix = 'kfac': must be one of hessian, gauss_newton"):
        hessian.top(model, "cross_entropy", x, y, matrix="kfac")


def test_the_trace_is_unbiased_and_its_error_honest():
    values = 1 / torch.arange(1, 301, dtype=torch.float64)
    operator = operators.Operator.dense(torch.diag(values))
    # A basis in which the operator is not diagonal, of which random signs would give the trace exactly.
    q = torch.linalg.qr(torch.randn(300, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    operator = operators.Operator.dense(q * values @ q.T)
    estimates = [hessian.hutchinson.hutch(operator, products=30, seed=seed) for seed in range(40)]
    off = [(e.value - values.sum().item()) / e.error for e in estimates]
    assert abs(sum(off)) / 40 < 4 / math.sqrt(40) and 0.5 < (sum(z * z for z in off) / 40) ** 0.5 < 2
    with pytest.raises(ValueError, match="products = 5: must be a whole number, 6 or more"):
        hessian.hutchinson.hutch(operator, products=5)
