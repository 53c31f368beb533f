"""Products by a recorded gradient: against dense Hessians, within their memory, and left where they are none."""

import pytest
import torch
from test_hessian_modules import OUTPUTS, batch, built
from test_hessian_modules import dense as per_sample
from torch import nn

from lib import hessian
from lib.hessian import operators, recorded
from lib.hessian.samples import Batches, Samples


def network():
    layers = nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.GELU(), nn.Flatten(), nn.Linear(16, OUTPUTS)
    return built(lambda: nn.Sequential(*layers)).eval()


def test_the_mean_hessian_is_the_dense_one_whether_the_graph_is_kept_or_not():
    model, (x, y) = network(), batch()
    x, y = x[:4], y[:4]
    expected = per_sample(model, x, y).mean(0)
    v = torch.randn(len(expected), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    loader = [(x[:2], y[:2]), (x[2:], y[2:])]
    for given, memory, kept in (((x, y), 2**30, True), ((x, y), 2**12, False), ((loader,), 2**30, False)):
        samples = hessian.sample_hessians(model, "cross_entropy", *given, memory=memory)
        assert samples.recorded.kept is kept
        h = operators.mean_hessian(samples)
        for _ in range(2):  # a graph that is kept serves again
            torch.testing.assert_close(h @ v, expected @ v, rtol=1e-9, atol=1e-11)
        assert not any(w.grad is not None for w in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(h @ v, expected @ v, rtol=1e-9, atol=1e-11)


def test_memory_decides_how_many_samples_a_graph_is_of():
    # given exp(w·x), whose graph holds x, the value and a few vectors of the size of w for each sample
    x = torch.randn(64, 1000, generator=torch.Generator().manual_seed(0))
    weights = {"w": torch.full((1000,), 0.01)}

    def made(memory, data=None):
        return recorded.Recorded(
            weights, lambda w, x, y: (x * w["w"]).exp().sum(1), data or Samples(x, x), memory=memory
        )

    each = 2**30 / made(2**30).batch
    assert 4_000 <= each <= 40_000
    assert made(64 * each + 64).kept and not made(32 * each).kept and made(32 * each + 32).batch == 32
    assert not made(2**30, Batches([(x, x)], lambda x, y: (x, y))).kept
    v = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    expected = ((x * 0.01).exp() * x.square()).sum(0) * v
    for memory in (2**30, 5 * each, 1):
        torch.testing.assert_close(made(memory).product(v), expected)


def test_what_the_graph_holds_counts_once_and_not_the_weights():
    w = torch.ones(100, requires_grad=True)
    y = (w * w).exp()
    held = recorded.held([y], [w])
    assert held == y.nbytes  # of the product both factors are w
    assert recorded.held([y, y], [w]) == held and recorded.held([w], []) == 0


def test_parameters_without_a_gradient_have_zeros():
    model, (x, y) = built(lambda: nn.Sequential(nn.Linear(4, OUTPUTS), nn.GELU())), batch((4,))
    model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    samples = hessian.sample_hessians(model, "cross_entropy", x, y)
    product = operators.mean_hessian(samples) @ torch.ones(samples.size, dtype=torch.float64)
    assert samples.recorded and (product == 0).sum() == 2
    linear = recorded.Recorded({"w": torch.ones(3)}, lambda w, x, y: x @ w["w"], Samples(x[:, :3].float(), y), memory=1)
    assert linear.product(torch.ones(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("fault", ["another product", "no second derivatives"])
def test_a_graph_that_does_not_serve_is_not_taken(fault, monkeypatch):
    original = recorded.Recorded.derivative

    def derivative(self, gradient, v):
        if fault == "no second derivatives":
            raise RuntimeError("not implemented")
        return 1.001 * original(self, gradient, v)

    monkeypatch.setattr(recorded.Recorded, "derivative", derivative)
    model, (x, y) = network(), batch()
    expected = per_sample(model, x[:2], y[:2]).mean(0)
    samples = hessian.sample_hessians(model, "cross_entropy", x[:2], y[:2])
    v = torch.ones(len(expected), dtype=torch.float64)
    assert samples.recorded is None
    torch.testing.assert_close(operators.mean_hessian(samples) @ v, expected @ v)


def test_a_million_parameters_in_float32_have_eigenvalues_to_six_digits():
    # given eigenvectors without a zero, whose length a sum in single precision has in four or five digits
    n, values = 1_000_000, torch.tensor([1.0, 0.8, 0.6])
    q = torch.linalg.qr(1 + torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0].T

    def matvec(v):
        return (q.T @ (values.double() * (q @ v.double()))).float()

    operator = operators.Operator((n, n), matvec, dtype=torch.float32, device=torch.device("cpu"))
    pairs = hessian.leading.leading(operator, 2, basis=40)
    assert all(pair.converged for pair in pairs)
    assert [pair.value for pair in pairs] == pytest.approx([1.0, 0.8], rel=2e-6)


def test_one_eigenvalue_takes_the_products_of_one_search():
    values = torch.cat([torch.tensor([1.0, 1.0]), torch.linspace(0, 0.9, 300)]).double()
    operator = operators.Operator.dense(torch.diag(values))
    (one,), alone = hessian.leading.leading(operator, 1), hessian.lanczos.lanczos(operator)
    assert one.iterations == alone.iterations and one.value == alone.value == pytest.approx(1)
