"""A process of two that train the same runs together; apart from the tests, so that it imports little."""

import os

import torch
import torch.distributed as dist

from lib.paper import experiments
from lib.sweep import __main__ as command
from lib.training import distributed, fitting
from lib.training.loop import Loop

CPU = torch.device("cpu")


def outcome(engine: Loop) -> tuple[list, list]:
    """What training and evaluation of two epochs give, and all numbers of the network."""
    numbers = [value for epoch in range(2) for value in engine.epoch(epoch)[0]]
    splits = ("train", "test", *fitting._held_out(engine))
    numbers += [value for split in splits for value in engine.evaluate(split)[0].values()]
    return numbers, [value.double().flatten().tolist() for value in engine.network(0).state_dict().values()]


def refusal(run) -> str:
    try:
        distributed.Distributed([run], CPU)
    except ValueError as error:
        return str(error)


def fitted(run, folder, rank: int) -> list[dict] | None:
    """The records of the run, uninterrupted and stopped after an epoch; of process 0."""
    if rank:
        distributed.follow(CPU)
        return None
    (whole,) = fitting.fit(distributed.Leading([run], CPU))
    file = folder / "checkpoint.pt"
    try:
        fitting.fit(distributed.Leading([run], CPU), checkpoint=file, stop=lambda epoch, last: epoch == 1)
    except fitting.Stopped:
        (resumed,) = fitting.fit(distributed.Leading([run], CPU), checkpoint=file)
    distributed.dismiss()
    return [whole, resumed]


def train(rank: int, folder, port: int, runs, refused, arguments, out) -> None:
    """Process `rank` of two: the outcome of each of the runs, what is said of those refused, the records of the first
    run, and what the command returns for these arguments."""
    torch.set_num_threads(1)
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", TORCHELASTIC_RUN_ID="test", CI="true")
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    experiments.EXPERIMENTS["pair"] = lambda preset: runs[:1]
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    result = {
        "outcomes": [outcome(distributed.Distributed([run], CPU)) for run in runs],
        "refused": [refusal(run) for run in refused],
        "records": fitted(runs[0], folder, rank),
    }
    dist.destroy_process_group()
    out.put((rank, result | {"command": command.main(arguments)}))
