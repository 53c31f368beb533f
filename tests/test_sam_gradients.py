"""SAM where gradients are complex, in half precision or extreme, and where modules have buffers that move."""

import copy
import io
import math

import pytest
import torch
from closures import closure_of
from torch import nn

from lib.sam import SAM, gradient_norm

SGD = torch.optim.SGD


def climb(gradients, rho=0.5, **options) -> list[torch.Tensor]:
    """ε at parameters that are 0, whose gradients are these."""
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    optimizer, seen = SAM(parameters, SGD, rho=rho, lr=0.0, **options), []

    def closure():
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g.clone()
        seen.append([p.detach().clone() for p in parameters])
        return torch.zeros(())

    optimizer.step(closure)
    assert all(not p.any() for p in parameters)
    return seen[1]


def length(tensors) -> float:
    values = torch.cat([torch.view_as_real(t).flatten() if t.is_complex() else t.flatten() for t in tensors]).double()
    return (values / values.abs().max()).norm().item() * values.abs().max().item()


EXTREME = {
    torch.float16: (1e-7, 1e-4, 1.0, 6e4),
    torch.bfloat16: (1e-38, 1e-25, 1.0, 1e25, 3e38),
    torch.float32: (1e-45, 1e-40, 1e-30, 1e-20, 1.0, 1e20, 1e30, 3e38),
    torch.float64: (5e-324, 1e-310, 1e-200, 1.0, 1e200, 1.7e308),
    torch.complex64: (1e-40, 1e-20, 1.0, 1e20, 3e38),
    torch.complex128: (1e-310, 1.0, 1e300),
}


@pytest.mark.parametrize(("dtype", "size"), [(dtype, size) for dtype, sizes in EXTREME.items() for size in sizes])
def test_the_perturbation_has_its_length_for_every_finite_gradient(dtype, size):
    signs = torch.tensor([1.0, -1.0, 1.0] * 40, dtype=torch.float64)
    gradients = [(size * signs).to(dtype), (size * signs[:7]).to(dtype)]
    found = climb(gradients)
    tolerance = 3 * torch.finfo(dtype).eps  # of the rounding of ε itself
    assert length(found) == pytest.approx(0.5, rel=tolerance)
    along = torch.cat(found) / torch.cat([signs, signs[:7]]).to(dtype)
    assert torch.allclose(along, along[:1].expand_as(along), rtol=tolerance)


def test_extremes_of_several_precisions_and_sparse_ones():
    found = climb([torch.tensor([3e-40]), torch.tensor([4e-40], dtype=torch.float64)])
    assert [t.item() for t in found] == pytest.approx([0.3, 0.4], rel=1e-5)  # 3e-40 has 18 binary digits in float32
    table = nn.Parameter(torch.zeros(4, 2))
    optimizer, seen = SAM([table], SGD, rho=0.5, lr=0.0), []

    def closure():
        rows, values = [[1, 3, 1]], [[1e-30, 0.0], [0.0, 4e-30], [2e-30, 0.0]]
        table.grad = torch.sparse_coo_tensor(rows, values, (4, 2), check_invariants=True)
        seen.append(table.detach().clone())
        return torch.zeros(())

    optimizer.step(closure)
    assert torch.allclose(seen[1], torch.tensor([[0, 0], [0.3, 0], [0, 0], [0, 0.4]]))


def test_the_norm_of_extremes_and_of_what_is_not_finite():
    assert gradient_norm([torch.full((4,), 1e30), torch.zeros(2)]).item() == pytest.approx(2e30, rel=1e-6)
    assert gradient_norm([torch.full((4,), 1e-42)]).item() == pytest.approx(2e-42, rel=1e-3)
    assert gradient_norm([torch.tensor([3 + 4j])]).item() == pytest.approx(5)
    assert gradient_norm([torch.ones(3), torch.tensor([-math.inf])]).item() == math.inf
    assert gradient_norm([torch.tensor([math.inf, math.nan])]).isnan()
    assert gradient_norm([torch.zeros(3), torch.zeros(0)]) == gradient_norm([torch.zeros(0)]) == 0


def test_complex_parameters_are_pairs_of_real_ones():
    target = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    pairs, numbers = nn.Parameter(torch.zeros(6, 2)), nn.Parameter(torch.zeros(6, dtype=torch.complex64))
    for parameter, view in ((pairs, lambda: pairs), (numbers, lambda: torch.view_as_real(numbers))):
        optimizer = SAM([parameter], SGD, rho=0.3, lr=0.05)
        for _ in range(5):
            optimizer.step(closure_of(optimizer, lambda: (view() - target).pow(4).sum()))  # noqa: B023
    assert torch.allclose(torch.view_as_real(numbers), pairs, rtol=1e-6)


# Buffers


class Average(nn.Module):
    """Subtracts a mean over all batches so far, which it keeps in a buffer, changed in place or bound anew."""

    def __init__(self, rebind):
        super().__init__()
        self.rebind = rebind
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("constant", torch.ones(4))

    def forward(self, x):
        new = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2))
        if self.rebind:
            self.mean = new
        else:
            self.mean.copy_(new)
        return (x - self.mean[:, None]) * self.constant[:, None]


MOVING = {
    "batch norm": lambda: nn.BatchNorm1d(4),
    "cumulative batch norm": lambda: nn.BatchNorm1d(4, momentum=None),
    "instance norm": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
    "in place": lambda: Average(False),
    "bound anew": lambda: Average(True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv1d(4, 4, 1)),
}


def blocks(make, seed=0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv1d(2, 4, 1), make(), nn.Conv1d(4, 3, 1))


def batch(step) -> torch.Tensor:
    return torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("make", MOVING.values(), ids=MOVING)
def test_buffers_move_in_the_pass_at_w_only(make):
    # given any module with state of its own, then its buffers are after each step what a plain pass at w leaves, and
    # the tensors are those that it left.
    model = blocks(make)
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.05)
    for step in range(4):
        x, plain = batch(step), copy.deepcopy(model)
        plain(x)
        optimizer.step(closure_of(optimizer, lambda: model(x).square().mean()))  # noqa: B023
        expected = dict(plain.named_buffers())
        assert expected and all(torch.equal(b, expected[name]) for name, b in model.named_buffers())


def test_buffers_come_back_when_the_pass_at_the_perturbed_weights_raises():
    model, calls = blocks(lambda: nn.InstanceNorm1d(4, track_running_stats=True)), []
    plain = copy.deepcopy(model)
    plain(batch(0))
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.05)

    def loss():
        value = model(batch(0)).square().mean()
        calls.append(value)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return value

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure_of(optimizer, loss))
    assert torch.equal(model[1].running_mean, plain[1].running_mean)


def added(model):
    model[1] = nn.BatchNorm1d(4)
    return model[1]


def converted(model):
    model[1] = nn.BatchNorm1d(4)
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model[1]


@pytest.mark.parametrize("change", [added, converted])
def test_modules_that_come_after_the_optimizer_are_seen(change):
    model = blocks(nn.Identity if change is added else lambda: nn.BatchNorm1d(4))
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.05)
    layer = change(model).train()
    optimizer.step(closure_of(optimizer, lambda: model(batch(0)).square().mean()))
    assert layer.num_batches_tracked == 1


def test_a_copy_keeps_the_buffers_of_its_own_model():
    model = blocks(lambda: nn.BatchNorm1d(4))
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.05)
    file = io.BytesIO()
    torch.save((model, optimizer), file)
    file.seek(0)
    for net, other in (copy.deepcopy((model, optimizer)), torch.load(file, weights_only=False)):
        other.step(closure_of(other, lambda: net(batch(0)).square().mean()))  # noqa: B023
        assert net[1].num_batches_tracked == 1
    assert model[1].num_batches_tracked == 0
