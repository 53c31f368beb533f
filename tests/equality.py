"""What every engine is tested for: that it trains each of its runs as `lib.training.loop.Loop` trains it alone."""

import functools
import itertools

import pytest
import torch
from torch import nn

from lib.runs import Run
from lib.training.loop import Loop

CPU = torch.device("cpu")
MASKS = {
    "dense": {},
    "random": dict(sparsity=0.5),
    "snip": dict(sparsity=0.8, pruner="snip"),
    "2:4": dict(sparsity=0.5, pruner="2:4"),
}
SCHEDULES = {
    "constant": {},
    "inverse": dict(schedule="inverse"),
    "step": dict(schedule="step"),
    "three_steps": dict(schedule="three_steps"),
    "cosine": dict(schedule="cosine"),
    "warmup_cosine": dict(schedule="warmup_cosine", warmup_steps=4),
}


def every_case(test):
    """Parametrize by mask ("mixed": of every kind in turn), schedule and precision."""
    for name, values in [
        ("precision", ("float32", "float64")),
        ("schedule", tuple(SCHEDULES)),
        ("mask", (*MASKS, "mixed")),
    ]:
        test = pytest.mark.parametrize(name, values)(test)
    return test


def masked(runs: list[Run], mask: str) -> list[Run]:
    """These runs with that mask."""
    kinds = itertools.cycle(MASKS.values() if mask == "mixed" else [MASKS[mask]])
    return [run.but(**kind) for run, kind in zip(runs, kinds, strict=False)]


def second_epoch(engine) -> tuple:
    """Train epoch number 1, in which every schedule has left the initial learning rate behind; give, one row a member,
    all numbers of its network after one step and at the end, and the engine's sums of losses and of hits."""
    steps = engine.data.steps_per_epoch
    for i, (x, y) in enumerate(engine.batches(1)):
        engine.step(steps + i, x, y)
        if i == 0:
            one_step = _networks(engine)
    return one_step, _networks(engine), engine.total.view(-1), engine.hits.view(-1)


def _networks(engine) -> torch.Tensor:
    return torch.stack([_vector(engine.network(i)) for i in range(len(engine.runs))])


def _vector(model: nn.Module) -> torch.Tensor:
    """Weights and statistics of batch norm."""
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


@functools.cache
def alone(run: Run) -> tuple:
    """What `second_epoch` gives for the loop."""
    return second_epoch(Loop([run], CPU))


def differences(result: tuple, runs: list[Run]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `second_epoch` of an engine from that of its runs alone, relative to the size of the network, one a member:
    after one step, and after the epoch. The sums of losses are checked to the same size, and those of hits."""
    expected = [torch.cat(parts) for parts in zip(*map(alone, runs), strict=True)]
    off = [(a - b).norm(dim=1) / b.norm(dim=1) for a, b in zip(result[:2], expected[:2], strict=True)]
    exact = runs[0].precision == "float64"
    # In float32 a member of which a ReLU opened otherwise has losses that are off by as much as its weights.
    turned = torch.maximum(*off).double()
    allowed = 1e-10 if exact else 1e-5 + torch.where(turned > 1e-6, turned, 0.0)
    assert ((result[2] - expected[2]).abs() <= allowed * expected[2].abs()).all()
    assert torch.equal(result[3], expected[3]) or not exact  # in float32 two outputs may tie
    return tuple(off)
