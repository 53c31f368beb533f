"""A grid whose every run is trained by all processes that torchrun has started (`lib.training.distributed`).

`torchrun --nproc-per-node 8 -m lib.sweep EXPERIMENT --preset P`: process 0 is the command as ever, with its claims,
checkpoints, records and progress; the others do what it does until it ends.
"""

import contextlib
import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist

from lib.core import paths
from lib.sweep.clusters import Cluster
from lib.training import distributed

# How long a process waits for another one, such as process 0 while it measures. Of one that died torchrun ends all.
PATIENCE = datetime.timedelta(days=7)


class Team(ThreadPoolExecutor):
    """An executor for `sweep`: what is submitted is trained one after the other, by all processes together."""

    def __init__(self):
        super().__init__(max_workers=1)

    def submit(self, function, /, *given, **named):
        return super().submit(function, *given, engine=distributed.Leading, **named)


@contextlib.contextmanager
def lead(device: torch.device) -> Iterator[Cluster]:
    """In process 0: the team of all processes. They part when the context ends without an error."""
    with _joined(device) as place:
        with Team() as team:
            yield Cluster(team, str(place), f"{dist.get_world_size()} processes train each run together, on {place}")
        distributed.dismiss()


def follow(device: torch.device) -> None:
    """In every other process: train with process 0 until it is done."""
    with _joined(device) as place:
        distributed.follow(place)


def follows() -> bool:
    """Whether this is a process of torchrun's that follows another one."""
    return paths.torchrun_rank() not in (None, 0)


def launched() -> bool:
    """Whether torchrun has started this process."""
    return paths.torchrun_rank() is not None


@contextlib.contextmanager
def _joined(device: torch.device) -> Iterator[torch.device]:
    """Within this context the processes of torchrun are a group; gives the device of this one."""
    gpu = device.type == "cuda"
    place = torch.device("cuda", dist.get_node_local_rank()) if gpu else device
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, device_id=place if gpu else None)
    yield place
    dist.destroy_process_group()
