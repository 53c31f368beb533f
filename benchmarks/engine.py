"""How fast the engine trains one width of the MNIST grid, beside the ways it is usually done.

Five settings of SAM and one of SGD, three seeds each: 18 runs. Compared are optimizer steps per second summed over all
of them, as ratios within one run because machines are noisy: medians over rounds in which the contenders take turns.

(a) the usual loop: torchvision's dataset and DataLoader, eager autograd, SAM with two calls; one process, all threads
(b) the same loop on tensors that are indexed, as two processes of one thread
(c) this project: the groups of `engines.partition` on two processes of one thread, as `sweep` starts them
floor: what (c) would reach if only the matrix products took time, at the rate measured in the same round

`python -m benchmarks.engine [WIDTH …]` prints the table and writes benchmarks/engine.json.
"""

import functools
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas
import torch
import torchvision
from torch import nn

from lib import data, models
from lib.core import paths
from lib.paper import experiments
from lib.runs import Run, parameter_count, records
from lib.training import engines

BATCH, ROUNDS = 128, 5
STEPS = {0.25: 400, 1.0: 120, 5.0: 24, 10.0: 10}  # a timed piece takes some tenths of a second
TARGETS = {0.25: (25, 2.8), 1.0: (7, 1.5), 5.0: (2.2, 1.25), 10.0: (1.6, 1.3)}  # wanted ratios to (a) and (b)
CPU = torch.device("cpu")


class TwoCallSAM:
    """SAM as it is usually written: `first_step` climbs, `second_step` goes back and updates."""

    def __init__(self, params, rho: float, **options):
        self.params, self.rho, self.old = list(params), rho, {}
        self.base = torch.optim.SGD(self.params, **options)

    @torch.no_grad()
    def first_step(self):
        norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in self.params]), p=2)
        for p in self.params:
            self.old[p] = p.data.clone()
            p.add_(p.grad * (self.rho / (norm + 1e-12)))
        self.base.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p in self.params:
            p.data = self.old[p]
        self.base.step()
        self.base.zero_grad()


def usual_loop(width: float, rho: float, batches, steps: int) -> float:
    """Seconds per step of the eager loop over `batches`; two calls a step if ρ > 0."""
    model = models.build("mlp", width=width, in_shape=(1, 28, 28), classes=10, seed=0)
    optimizer = TwoCallSAM(model.parameters(), rho, lr=0.1, momentum=0.9, weight_decay=1e-4)
    loss, warm_up = nn.CrossEntropyLoss(), 3
    for i, (x, y) in enumerate(batches):
        if i == warm_up:
            began = time.perf_counter()
        elif i == warm_up + steps:
            break
        loss(model(x), y).backward()
        if rho:
            optimizer.first_step()
            loss(model(x), y).backward()
            optimizer.second_step()
        else:
            optimizer.base.step()
            optimizer.base.zero_grad()
    return (time.perf_counter() - began) / steps


def loader():
    """The batches of (a)."""
    normalize = torchvision.transforms.Normalize((0.1307,), (0.3081,))
    transform = torchvision.transforms.Compose([torchvision.transforms.ToTensor(), normalize])
    dataset = torchvision.datasets.MNIST(str(paths.data()), train=True, transform=transform)
    return torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)


def indexed():
    """The batches of (b)."""
    train = data.load("mnist", "train")
    x, y = data.standardize(train.x, "mnist"), train.y
    while True:
        for index in torch.randperm(len(x)).split(BATCH):
            yield x[index], y[index]


def loop_in_worker(width: float, rho: float, steps: int) -> float:
    """(b) in one of two processes: seconds per step."""
    torch.set_num_threads(1)
    return usual_loop(width, rho, indexed(), steps)


def groups_in_worker(groups: list[list[Run]], steps: int, meet: int = 0) -> float:
    """(c) in one of two processes: seconds for each of the groups to take `steps` steps.

    meet: how often to wait for the other process before steps are timed, so that both are at it while they are."""
    torch.set_num_threads(1)
    return sum(time_group(group, steps, i < meet) for i, group in enumerate(groups))


_engine, _barrier = {}, None


def time_group(group: list[Run], steps: int, together: bool) -> float:
    """Seconds that the engine of a group needs for `steps` steps, data included, set-up excluded."""
    if list(_engine) != [tuple(group)]:
        _engine.clear()  # one at a time: the widest have a gigabyte
        _engine[tuple(group)] = engines.engine(group, CPU)
    engine = _engine[tuple(group)]
    batches = engine.batches(0)
    for i in range(3):
        engine.step(i, *next(batches))
    if together:
        _barrier.wait(timeout=120)
    began = time.perf_counter()
    for i in range(steps):
        engine.step(i, *next(batches))
    return time.perf_counter() - began


def product_rate(width: float) -> float:
    """Floating-point operations per second of the first layer's product on one thread, of two at once."""
    torch.set_num_threads(1)
    a, b = torch.randn(BATCH, 784), torch.randn(784, round(300 * width))
    out, times = torch.empty(BATCH, b.shape[1]), []
    for _ in range(60):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - began)
    return 2 * a.numel() * b.shape[1] / statistics.median(times)


def in_both(function, *arguments: tuple) -> list:
    """The results of `function` in two processes at once, one for each tuple of arguments."""
    return [future.result() for future in [_pool().submit(function, *args) for args in arguments]]


@functools.cache
def _pool() -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=spawn, initializer=_meet, initargs=(spawn.Barrier(2),))


def _meet(barrier) -> None:
    global _barrier
    _barrier = barrier


def deal(groups: list[list[Run]]) -> tuple[list, list]:
    """Groups dealt to two processes as an executor does: the most expensive first, each to who is free first."""
    loads, hands = [0, 0], ([], [])
    for group in sorted(groups, key=gradients, reverse=True):
        free = loads.index(min(loads))
        loads[free] += gradients(group)
        hands[free].append(group)
    return hands


def gradients(group: list[Run]) -> int:
    return sum(1 + (run.rho > 0) for run in group)


def measure(width: float) -> dict:
    """One row of the table."""
    runs, steps = [run for run in experiments.mnist_mlp("lite") if run.width == width], STEPS[width]
    groups = engines.partition(runs, CPU)
    hands = deal(groups)
    sam, sgd = (sum(run.optimizer == name for run in runs) for name in ("sam", "sgd"))
    rounds = []
    for _ in range(ROUNDS):
        a = [usual_loop(width, rho, loader(), max(8, steps // 8)) for rho in (0.05, 0)]
        b = [statistics.mean(in_both(loop_in_worker, *[(width, rho, steps)] * 2)) for rho in (0.05, 0)]
        # Set-up (reading MNIST, initial weights) is left out: it is seconds in a run of minutes.
        c = max(in_both(groups_in_worker, *[(hand, steps, min(map(len, hands))) for hand in hands]))
        rate = min(in_both(product_rate, (width,), (width,)))
        rounds.append(
            {
                "a": len(runs) / (sam * a[0] + sgd * a[1]),
                "b": 2 * len(runs) / (sam * b[0] + sgd * b[1]),
                "c": len(runs) * steps / c,
                "floor": 2 * rate / statistics.mean(operations(width, run.rho) for run in runs),
            }
        )
    frame = pandas.DataFrame(rounds)
    alone = [statistics.median(time_alone(group, steps) for _ in range(ROUNDS)) for group in one_of_each(groups)]
    return {
        "hidden": "–".join(str(round(n * width)) for n in (300, 100)),
        **{f"{name} steps/s": round(frame[name].median(), 1) for name in ("a", "b", "c", "floor")},
        "c/a": round((frame["c"] / frame["a"]).median(), 2),
        "wanted c/a": TARGETS[width][0],
        "c/b": round((frame["c"] / frame["b"]).median(), 2),
        "wanted c/b": TARGETS[width][1],
        "SAM/SGD": round(alone[0] / alone[1], 2),
        "state MiB of a group": round(max(map(state_bytes, groups)) / 2**20, 1),
        "state/needed": round(sum(map(state_bytes, groups)) / sum(map(needed_bytes, groups)), 2),
    }


def operations(width: float, rho: float) -> float:
    """Floating-point operations of the products of a step on one batch. A gradient: two a weight forward, two for the
    gradient of the weights, two for that of the layer's input, which the first layer does not need. SAM: two gradients,
    without two products of the first layer, but with one of the batch's Gram matrix (`lib.training.engines`)."""
    units = [784, round(300 * width), round(100 * width), 10]
    weights = [a * b for a, b in itertools.pairwise(units)]
    gradient = BATCH * (6 * sum(weights) - 2 * weights[0])
    return 2 * gradient - BATCH * (4 * weights[0] - 2 * BATCH * units[1]) if rho else gradient


def one_of_each(groups: list[list[Run]]) -> tuple[list[Run], list[Run]]:
    """Two groups of the same size, one all SAM and one all SGD, to compare a SAM step with an SGD step."""
    size = min(max(map(len, groups)), len(experiments.RHOS))
    sam = next(run for group in groups for run in group if run.rho > 0)
    sams = [sam.but(rho=rho) for rho in experiments.RHOS[:size]]
    return sams, [run.but(optimizer="sgd", rho=0, lr=0.1 + 0.01 * i) for i, run in enumerate(sams)][:1] * size


def time_alone(group: list[Run], steps: int) -> float:
    (seconds,) = in_both(groups_in_worker, ([group], steps))
    return seconds


def state_bytes(group: list[Run]) -> int:
    """Bytes of the tensors that the engine of this group keeps from step to step, without data."""
    parts = vars(engines.engine(group, CPU)).values()
    return sum(part.flat.nbytes for part in parts if isinstance(part, engines.Parameters))


def needed_bytes(group: list[Run]) -> int:
    """Parameters × runs × (weights + momentum + gradients + perturbation), in float32."""
    return 4 * parameter_count.parameters(group[0]) * (3 * len(group) + sum(run.rho > 0 for run in group))


def main(widths: list[float]) -> None:
    """Print the table, and write it with the machine and the versions that it was measured on."""
    rows = []
    for width in widths:
        rows.append(measure(width))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    table = pandas.DataFrame(rows)
    print(table.to_string(index=False))
    report = {"provenance": {**records.provenance(CPU), "cores": os.cpu_count(), "rounds": ROUNDS}, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main([float(width) for width in sys.argv[1:]] or list(STEPS))
