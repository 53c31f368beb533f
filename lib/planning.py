"""What a grid would cost on this device: the expected time and memory of every run, before any of it is trained.

A group of runs is timed by the engine that will train it, on random data of the right shape, so that no data set has
to be there. With t seconds a training sample and e seconds an evaluated one (of the whole group), N training and M
test samples,

    seconds = epochs · N t + (epochs / eval_every) · M e + (N + M) e.
"""

import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas
import torch
from joblib import cpu_count
from PIL import Image

from lib import augment, data, ensemble, records
from lib.groups import Group, choose_device, gather, one_thread, store_of
from lib.runs import Run
from lib.train import Loop

CALIBRATION_SECONDS = 0.2
_SAMPLES = {  # training and test samples
    "factorization": (1000, 1000),
    "digits": (1437, 360),
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar10-jpeg": (50_000, 10_000),
}


def plan(runs: Sequence[Run], *, store: str | Path | None = None, device=None) -> pandas.DataFrame:
    """What a sweep of these runs would find and cost, one row a run: its fields, `key`, and

    status: "done" or "diverged"; "begun" if there is a checkpoint to go on from; else "missing".
    trained: epochs that are trained already, all of them where there is a record.
    seconds: expected time still to spend on the run, its share of its group's; sums are core-seconds, or GPU-seconds.
    group: the runs of one group train together. None where there is a record.
    memory: bytes of the group's weights, gradients, momentum, perturbed weights, masks, and data; without activations,
        and what any process takes that imports torch (some 400 MB).

    Raises DataUnavailable for an image folder that is not there, as its shapes are unknown.
    """
    runs, device = list(runs), choose_device(device)
    found = {run: records.read(store_of(store, run), run) for run in runs}
    rows = {
        run: dict(status=record["status"], trained=run.epochs, seconds=0.0, group=None, memory=0)
        for run, record in found.items()
        if record
    }
    rate = functools.cache(lambda alike: calibrate(alike, device))
    for group in gather([run for run in found if run not in rows], store, device):
        epochs, asked = group.checkpointed(), [run for run in group.runs if run in found and run not in rows]
        row = dict(
            status="begun" if group.file("pt").exists() else "missing",
            trained=epochs,
            seconds=_seconds(group.runs[0], epochs, rate(_alike(group.runs))) / len(asked),
            group=group.name,
            memory=memory(group.runs),
        )
        rows |= dict.fromkeys(asked, row)
    columns = [*Run().as_dict(), "key", "status", "trained", "seconds", "group", "memory"]
    return pandas.DataFrame([{**run.as_dict(), "key": run.key, **rows[run]} for run in runs], columns=columns)


def summary(grids: Mapping[str, Sequence[Run]], *, store: str | Path | None = None, device=None) -> pandas.DataFrame:
    """The plan of several grids, one row a grid and a last one for all together, in which no run counts twice:
    runs, how many are cached (with a record), begun and missing, expected hours, and the peak of memory in GB.

    On a CPU the hours are those of this machine with all its cores to itself, on a GPU they are GPU-hours.
    """
    device = choose_device(device)
    together = list(dict.fromkeys(run for grid in grids.values() for run in grid))
    table = plan(together, store=store, device=device)
    processes = cpu_count() if device.type == "cpu" else 1
    keys = {name: {run.key for run in grid} for name, grid in {**grids, "all": together}.items()}
    rows = [{"grid": name, **_summarize(table[table["key"].isin(keys[name])], processes)} for name in keys]
    return pandas.DataFrame(rows if len(grids) > 1 else rows[:-1]).set_index("grid")


def _summarize(table: pandas.DataFrame, processes: int) -> dict:
    groups = table.dropna(subset="group").groupby("group")
    seconds = groups["seconds"].sum()
    return {
        "runs": len(table),
        "cached": int(table["status"].isin(records.STATUSES).sum()),
        "begun": int((table["status"] == "begun").sum()),
        "missing": int((table["status"] == "missing").sum()),
        # No group is split, so the longest one is the least that it takes.
        "hours": max(seconds.sum() / processes, seconds.max() if len(seconds) else 0.0) / 3600,
        "memory_GB": groups["memory"].first().nlargest(processes).sum() / 1e9,
    }


# ---------------------------------------------------------------------------------------------- time


class Rate(NamedTuple):
    """Seconds that a group takes for one sample."""

    train: float
    evaluate: float


def epoch_seconds(group: Group, device: torch.device) -> float:
    """The expected time of one epoch of the group, with its evaluation."""
    run = group.runs[0]
    n, m = _samples(run)
    rate = calibrate(_alike(group.runs), device)
    return n * rate.train + m * rate.evaluate


def _seconds(run: Run, epochs: int, rate: Rate) -> float:
    n, m = _samples(run)
    evaluations = run.epochs // run.eval_every - epochs // run.eval_every
    return (run.epochs - epochs) * n * rate.train + (evaluations * m + n + m) * rate.evaluate


def _samples(run: Run) -> tuple[int, int]:
    n, m = _SAMPLES.get(run.dataset) or [len(data.load(run.dataset, split).y) for split in data.SPLITS]
    return run.n_train or n, m


def _alike(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The same group without what makes no difference to its speed."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    steady = dict(lr=0.01, schedule="constant", warmup_steps=0, epochs=1, n_train=0, eval_every=1, pruner="random")
    return tuple(
        run.but(rho=float(run.rho > 0), sparsity=(run.sparsity > 0) / 2, seed=seeds.index(run.seed), **steady)
        for run in runs
    )


def calibrate(runs: Sequence[Run], device: torch.device) -> Rate:
    """Time the engine of this group. The number of samples doubles until an epoch of them takes CALIBRATION_SECONDS,
    so that neither a step of microseconds nor one of minutes is timed amiss."""
    with one_thread(device), tempfile.TemporaryDirectory() as folder:
        stand_in = _stand_in(runs[0].dataset, Path(folder))
        kind = ensemble.Stack if ensemble.stackable(runs[0]) else Loop
        engine = kind([run.but(dataset=stand_in) for run in runs], device)
        batch, most = min(runs[0].batch_size, _samples(runs[0])[0]), _samples(runs[0])[0]
        n = min(max(batch // 32, 2), most)  # batch norm needs two
        while True:
            _fill(engine.data, runs[0].dataset, n)
            train = _time(lambda: engine.epoch(0), device)
            if train >= CALIBRATION_SECONDS or n == most:
                break
            n = min(2 * n, batch if n < batch else most)
        return Rate(train / n, _time(lambda: engine.evaluate("test"), device) / n)


def _time(call: Callable, device: torch.device) -> float:
    # On a CPU the time of this thread, which does all the work, so that other programs do not count.
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    began = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def _stand_in(dataset: str, folder: Path) -> str:
    """A data set with the same shapes and one image a class, made in `folder` where the real one may be absent."""
    if dataset not in ("mnist", "cifar10", "cifar10-jpeg"):
        return dataset
    classes, (channels, height, width) = data.shapes(dataset)
    for name in (f"{split}/{label}" for split in data.SPLITS for label in range(classes)):
        (folder / name).mkdir(parents=True)
        Image.new("L" if channels == 1 else "RGB", (width, height)).save(folder / name / "0.png")
    return f"imagefolder:{folder}"


def _fill(batches, dataset: str, n: int) -> None:
    """Put n random samples in the place of an engine's data, treated as those of `dataset` are."""
    x = torch.rand(n, *batches.in_shape, dtype=batches.dtype, device=batches.device)
    y = batches.test[1]
    y = y[torch.arange(n, device=y.device) % len(y)]
    batches.n, batches.steps_per_epoch = n, -(-n // batches.run.batch_size)
    batches.train = batches.test = x, y
    batches.augmented = data.augmented(dataset)
    if batches.augmented:
        batches.padded = augment.pad((255 * x).to(torch.uint8))


# ---------------------------------------------------------------------------------------------- memory


def memory(runs: Sequence[Run]) -> int:
    """Bytes of the state and the data of a group; see `plan`."""
    run = runs[0]
    number = torch.finfo(getattr(torch, run.precision)).bits // 8
    buffers = 2 + (run.momentum > 0) + any(r.rho > 0 for r in runs) + any(r.sparsity > 0 for r in runs)
    (n, m), (_, (channels, height, width)) = _samples(run), data.shapes(run.dataset)
    if data.augmented(run.dataset):  # raw and padded bytes to train on
        margin = 2 * augment.MARGIN
        images = n * channels * (height * width + (height + margin) * (width + margin))
    else:
        images = n * channels * height * width * number
    images += m * channels * height * width * number
    return len(runs) * ensemble.parameters(run) * buffers * number + images
