"""SAM in the loops that people have: clipping, micro-batches, compiled losses, two devices, sparse gradients, bases
that work on lists, schedulers; each beside what it must equal."""

import copy
import multiprocessing

import pytest
import torch
import two_devices
from closures import closure_of
from test_sam_bases import network, weights
from torch import nn

from lib.sam import SAM, gradient_norm

SGD = torch.optim.SGD
CROSS_ENTROPY = nn.functional.cross_entropy


def batch(n=16, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=draws), torch.randint(3, (n,), generator=draws)


def sam(model, base=SGD, rho=0.1, **options):
    return SAM(model.parameters(), base, rho=rho, model=model, **{"lr": 0.1} | options)


def gradient_at(model, x, y, rho):
    """∇f(w + ρ g/‖g‖), by hand."""
    moved = copy.deepcopy(model)
    parameters = list(moved.parameters())
    g = torch.autograd.grad(CROSS_ENTROPY(moved(x), y), parameters)
    with torch.no_grad():
        for p, d in zip(parameters, g, strict=True):
            p.add_(d, alpha=rho / gradient_norm(g).item())
    return torch.autograd.grad(CROSS_ENTROPY(moved(x), y), parameters)


# Clipping and micro-batches


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_clipping_in_the_closure_clips_the_gradient_of_the_step(most):
    model, (x, y) = network(), batch()
    expected = weights(model)
    g = torch.cat([d.flatten() for d in gradient_at(model, x, y, 0.1)])
    expected -= 0.1 * g * min(1, most / g.norm().item())
    optimizer = sam(model)

    def closure():
        optimizer.zero_grad()
        loss = CROSS_ENTROPY(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), most)
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(weights(model), expected)


def accumulated(optimizer, model, parts):
    def closure():
        optimizer.zero_grad()
        total = 0.0
        for x, y in parts:
            loss = CROSS_ENTROPY(model(x), y) / len(parts)
            loss.backward()
            total += loss.detach()
        return total

    return closure


def test_a_closure_over_micro_batches_is_the_whole_batch_and_a_list_of_closures_is_not():
    x, y = batch()
    parts = list(zip(x.chunk(4), y.chunk(4), strict=True))
    models = [network() for _ in range(3)]
    optimizers = [sam(model, rho=1.0) for model in models]
    whole, loop, apart = zip(optimizers, models, strict=True)
    losses = [
        whole[0].step(closure_of(whole[0], lambda: CROSS_ENTROPY(whole[1](x), y))),
        loop[0].step(accumulated(*loop, parts)),
        apart[0].step(
            [closure_of(apart[0], lambda part=part: CROSS_ENTROPY(apart[1](part[0]), part[1])) for part in parts]
        ),
    ]
    assert losses[0].item() == pytest.approx(losses[1].item()) == pytest.approx(losses[2].item())
    torch.testing.assert_close(weights(models[0]), weights(models[1]))
    start = network()
    mean = sum(torch.cat([g.flatten() for g in gradient_at(start, *part, 1.0)]) for part in parts) / 4
    torch.testing.assert_close(weights(models[2]), weights(start) - 0.1 * mean)
    assert (weights(models[2]) - weights(models[0])).norm() > 1e-3


# Compiled


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_loss(backend):
    one, two = network(), network()
    optimizers = sam(one), sam(two)
    compiled = torch.compile(lambda x, y: CROSS_ENTROPY(one(x), y), backend=backend)
    for step in range(3):
        x, y = batch(seed=step)
        optimizers[0].step(closure_of(optimizers[0], lambda: compiled(x, y)))  # noqa: B023
        optimizers[1].step(closure_of(optimizers[1], lambda: CROSS_ENTROPY(two(x), y)))  # noqa: B023
    torch.testing.assert_close(weights(one), weights(two))


# Two devices


def on_two_devices(steps, tmp_path) -> list:
    """What both of two processes give, which must be the same to the last bit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["two_devices"])
    out = context.Queue()
    processes = [context.Process(target=steps, args=(rank, str(tmp_path / "group"), out)) for rank in range(2)]
    for process in processes:
        process.start()
    results = dict(out.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert results[0] == results[1]
    return results[0]


def on_one(parts, rho=1.0, **options) -> torch.Tensor:
    """The weights after two steps, each part of the batch climbing by itself."""
    model = two_devices.network()
    optimizer = sam(model, rho=rho, momentum=0.9, **options)
    closures = [closure_of(optimizer, lambda part=part: CROSS_ENTROPY(model(part[0]), part[1])) for part in parts]
    for _ in range(2):
        optimizer.step(closures)
    return weights(model)


def test_on_two_processes_epsilon_is_global_or_of_each_device(tmp_path):
    # given halves of a batch on two devices, then synchronized passes are SAM on the whole batch, and a first pass
    # without synchronization is m-SAM with m = 8.
    (x, y), results = two_devices.batch(), on_two_devices(two_devices.steps, tmp_path)
    expected = [on_one(parts) for parts in ([(x, y)], [(x[:8], y[:8]), (x[8:], y[8:])])]
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(torch.tensor(result), wanted)
    assert (expected[0] - expected[1]).norm() > 1e-3


def test_weights_that_are_sharded_over_two_processes(tmp_path):
    # given shards of each weight on two devices, then the norm is that of all, and each way to climb is as on one
    *results, refused = on_two_devices(two_devices.sharded_steps, tmp_path)
    for result, way in zip(results, two_devices.WAYS, strict=True):
        torch.testing.assert_close(torch.tensor(result), on_one([two_devices.batch()], **way))
    # and the older kind, which hides the other shards, is refused
    assert refused == "FullyShardedDataParallel hides the norm over all shards: use fully_shard instead"


# Bases


@pytest.mark.parametrize("base", [SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("how", [{"foreach": True}, {"fused": True}], ids=["foreach", "fused"])
def test_bases_that_work_on_lists_give_what_the_plain_one_gives(base, how):
    models = [network(), network()]
    for model, options in zip(models, ({"foreach": False}, how), strict=True):
        optimizer = sam(model, base, lr=0.01, weight_decay=1e-2, **options)
        for step in range(3):
            x, y = batch(seed=step)
            optimizer.step(closure_of(optimizer, lambda: CROSS_ENTROPY(model(x), y)))  # noqa: B023
    torch.testing.assert_close(*map(weights, models))


class Bag(nn.Module):
    def __init__(self, sparse):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


@pytest.mark.parametrize("normalized", [True, False])
def test_sparse_gradients_are_those_of_the_dense_embedding(normalized):
    x, (_, y) = torch.randint(6, (16, 2), generator=torch.Generator().manual_seed(0)), batch()  # 6, 7, 8 unused
    models = [Bag(sparse) for sparse in (False, True)]
    for model in models:
        optimizer = sam(model, rho=1.0, normalized=normalized)
        for _ in range(3):
            optimizer.step(closure_of(optimizer, lambda: CROSS_ENTROPY(model(x), y)))  # noqa: B023
    torch.testing.assert_close(*map(weights, models))
    assert models[1].embedding.weight.grad.is_sparse


def test_sparse_adam():
    embedding, x = nn.Embedding(9, 4, sparse=True), torch.tensor([1, 1, 3])
    before = embedding.weight.detach().clone()
    optimizer = SAM(embedding.parameters(), torch.optim.SparseAdam, rho=0.1, lr=0.1)
    optimizer.step(closure_of(optimizer, lambda: embedding(x).square().sum()))
    moved = (embedding.weight - before).abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [1, 3]


SCHEDULERS = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=6),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2), torch.optim.lr_scheduler.StepLR(o, 1)], [2]
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_sets_the_rate_of_the_base(make):
    models, rates = [network(), network()], [[], []]
    optimizers = [sam(models[0], rho=0.0, momentum=0.9), SGD(models[1].parameters(), lr=0.1, momentum=0.9)]
    for model, optimizer, seen in zip(models, optimizers, rates, strict=True):
        scheduler = make(optimizer)
        for step in range(5):
            x, y = batch(seed=step)
            optimizer.step(closure_of(optimizer, lambda: CROSS_ENTROPY(model(x), y)))  # noqa: B023
            scheduler.step()
            seen.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1] and len(set(rates[0])) > 2
    assert torch.equal(*map(weights, models))
