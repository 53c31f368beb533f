"""A process of two that train together; apart from the tests, so that it imports little."""

import contextlib

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from lib.sam import SAM

SGD = torch.optim.SGD


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def weights(model) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def batch():
    draws = torch.Generator().manual_seed(0)
    return torch.randn(16, 5, generator=draws), torch.randint(3, (16,), generator=draws)


WAYS = ({}, dict(normalized=False, clip=True), dict(steps=3), dict(rho=0.0))


def sharded_steps(rank: int, file: str, out) -> None:
    """Steps of process `rank` of two, on weights that are sharded over both, for each of the WAYS to climb; and what
    SAM says of FullyShardedDataParallel."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    (x, y), results = batch(), []
    half = slice(8 * rank, 8 * rank + 8)
    mesh = init_device_mesh("cpu", (2,))
    for way in WAYS:
        model = network()
        fully_shard(model, mesh=mesh)
        optimizer = SAM(model.parameters(), SGD, **{"rho": 1.0, "lr": 0.1, "momentum": 0.9} | way)

        def closure():
            optimizer.zero_grad()  # noqa: B023
            loss = nn.functional.cross_entropy(model(x[half]), y[half])  # noqa: B023
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        results.append(torch.cat([p.full_tensor().flatten() for p in model.parameters()]).tolist())
    old = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=True)
    try:
        SAM(old.parameters(), SGD, rho=1.0, lr=0.1)
    except TypeError as error:
        results.append(str(error))
    out.put((rank, results))
    torch.distributed.destroy_process_group()


def steps(rank: int, file: str, out) -> None:
    """Steps of process `rank` of two, with ε of the global batch and with its own."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    (x, y), results = batch(), []
    for own in (False, True):
        model = nn.parallel.DistributedDataParallel(network())
        optimizer = SAM(model.parameters(), SGD, rho=1.0, lr=0.1, momentum=0.9, model=model)
        for _ in range(2):
            passes = iter([model.no_sync() if own else contextlib.nullcontext(), contextlib.nullcontext()])

            def closure():
                with next(passes):  # noqa: B023
                    optimizer.zero_grad()  # noqa: B023
                    loss = nn.functional.cross_entropy(model(x[8 * rank : 8 * rank + 8]), y[8 * rank : 8 * rank + 8])  # noqa: B023
                    loss.backward()
                    return loss

            optimizer.step(closure)
        results.append(weights(model).tolist())
    out.put((rank, results))
    torch.distributed.destroy_process_group()
