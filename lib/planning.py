"""What a grid would cost on this device: the expected time and memory of every run, before any of it is trained.

A group of runs is timed by the engine that will train it, on random data of the right shape, so that no data set has
to be there. With t seconds a training sample and e seconds an evaluated one (of the whole group), N training and M
test samples,

    seconds = epochs · N t + (epochs / eval_every) · M e + (N + M) e.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas
import torch
from joblib import cpu_count
from PIL import Image
from torchvision.transforms import v2

from lib import augment, data, ensemble, records, streams
from lib.groups import Group, choose_device, exactly, gather, store_of, wanting
from lib.measurement import Measurement
from lib.runs import Run
from lib.seeds import generator
from lib.train import StreamedBatches

CALIBRATION_SECONDS = 0.2
_SAMPLES = {  # training and test samples
    "factorization": (1000, 1000),
    "digits": (1437, 360),
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar10-jpeg": (50_000, 10_000),
    "imagenet": (streams.IMAGENET["train"], streams.IMAGENET["test"]),
}
_PHOTOGRAPH = (375, 500)  # pixels of a typical image of ImageNet


def plan(runs: Sequence[Run | Measurement], *, store: str | Path | None = None, device=None) -> pandas.DataFrame:
    """What a sweep of these runs, or of those that these measurements are on, would find and cost, one row each: the
    fields of the run, its `key`, and

    status: "done" or "diverged"; "begun" if there is a checkpoint to go on from; else "missing".
    trained: epochs that are trained already, all of them where there is a record.
    seconds: expected time still to spend on training the run, its share of its group's; sums are core-seconds, or
        GPU-seconds. A run with a record is trained again if something is to be measured on it and it left no weights.
    group: the runs of one group train together. None where there is a record.
    memory: bytes of the group's weights, gradients, momentum, perturbed weights, masks, frozen copy, and data; without
        activations, and what any process takes that imports torch (some 400 MB).

    Raises DataUnavailable for an image folder that is not there, as its shapes are unknown.
    """
    wanted, device = list(runs), choose_device(device)
    runs = [what.run if isinstance(what, Measurement) else what for what in wanted]
    left = [what for what in wanted if wanting(store_of(store, what), what, warn=True)]
    groups = gather(left, store, device)
    untrained = {run for group in groups for run in group.missing()}
    found = {run: None if run in untrained else records.read(store_of(store, run), run) for run in runs}
    rows = {
        run: dict(status=record["status"], trained=run.epochs, seconds=0.0, group=None, memory=0)
        for run, record in found.items()
        if record
    }
    rate = functools.cache(lambda alike: calibrate(alike, device))
    for group in (group for group in groups if group.missing()):
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


def summary(
    grids: Mapping[str, Sequence[Run | Measurement]], *, store: str | Path | None = None, device=None
) -> pandas.DataFrame:
    """The plan of several grids, one row a grid and a last one for all together, in which no run counts twice:
    runs, how many are cached (with a record), begun and missing, expected hours, and the peak of memory in GB.

    On a CPU the hours are those of this machine with all its cores to itself, on a GPU they are GPU-hours.
    """
    device = choose_device(device)
    together = list(dict.fromkeys(what for grid in grids.values() for what in grid))
    table = plan(together, store=store, device=device).drop_duplicates("key")
    processes = cpu_count() if device.type == "cpu" else 1
    keys = {
        name: {(what.run if isinstance(what, Measurement) else what).key for what in grid}
        for name, grid in {**grids, "all": together}.items()
    }
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
    load = streams.listing if data.streamed(run.dataset) else data.load
    n, m = _SAMPLES.get(run.dataset) or [len(load(run.dataset, split).y) for split in data.SPLITS]
    return run.n_train or n, m


def _alike(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The same group without what makes no difference to its speed."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    steady = dict(lr=0.01, schedule="constant", warmup_steps=0, epochs=1, n_train=0, eval_every=1, pruner="random")
    steady |= dict(alpha=1.0)
    return tuple(
        run.but(rho=float(run.rho > 0), sparsity=(run.sparsity > 0) / 2, seed=seeds.index(run.seed), **steady)
        for run in runs
    )


def calibrate(runs: Sequence[Run], device: torch.device) -> Rate:
    """Time the engine of this group. The number of samples doubles until an epoch of them takes CALIBRATION_SECONDS,
    so that neither a step of microseconds nor one of minutes is timed amiss."""
    with exactly(device), tempfile.TemporaryDirectory() as folder:
        stand_in = _stand_in(runs[0].dataset, Path(folder))
        engine = ensemble.engine_class(runs)([run.but(dataset=stand_in) for run in runs], device)
        batch, most = min(runs[0].batch_size, _samples(runs[0])[0]), _samples(runs[0])[0]
        n = min(2 if data.streamed(runs[0].dataset) else max(batch // 32, 2), most)  # batch norm needs two
        while True:
            _fill(engine.data, runs[0].dataset, n)
            train = _time(lambda: engine.epoch(0), device)
            if train >= CALIBRATION_SECONDS or n == most:
                break
            n = min(2 * n, batch if n < batch else most)
        rate = Rate(train / n, _time(lambda: engine.evaluate("test"), device) / n)
        return _beside_workers(rate, engine.data, device) if data.streamed(runs[0].dataset) else rate


def _beside_workers(rate: Rate, batches: StreamedBatches, device: torch.device) -> Rate:
    """A rate that was measured with the images decoded in turn, as it is where workers decode beside a GPU: whichever
    takes longer sets the pace."""
    processes = streams.workers(device)
    if not processes:
        return rate
    images, index = batches.images["train"], [torch.arange(batches.n)]
    cpu = torch.device("cpu")
    drawn = _time(lambda: list(streams.stream(images, index, cpu, seed=0)), cpu) / batches.n
    centres = _time(lambda: list(streams.stream(images, index, cpu)), cpu) / batches.n
    return Rate(*(max(all_ - d, d / processes) for all_, d in zip(rate, (drawn, centres), strict=True)))


def _time(call: Callable, device: torch.device) -> float:
    # On a CPU the time of this thread, which does all the work, so that other programs do not count.
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    began = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def _stand_in(dataset: str, folder: Path) -> str:
    """A data set with the same shapes and one image a class, made in `folder` where the real one may be absent.

    Of a stream it has two classes: a thousand folders take longer to make than to train on, and a larger head takes
    nothing beside a network for images of that size."""
    if dataset not in ("mnist", "cifar10", "cifar10-jpeg", "imagenet"):
        return dataset
    classes, (channels, height, width) = data.shapes(dataset)
    if data.streamed(dataset):
        classes, tops, kind, image = 2, ("train", "val"), "jpg", _photograph()
    else:
        tops, kind, image = data.SPLITS, "png", Image.new("L" if channels == 1 else "RGB", (width, height))
    image.save(folder / f"image.{kind}")
    for name in (f"{top}/{label}" for top in tops for label in range(classes)):
        (folder / name).mkdir(parents=True)
        os.link(folder / f"image.{kind}", folder / name / f"0.{kind}")
    return f"{'imagestream' if data.streamed(dataset) else 'imagefolder'}:{folder}"


def _photograph() -> Image.Image:
    """Smooth noise, about as large a JPEG file, and so as slow to decode, as an image of ImageNet."""
    coarse = torch.randint(0, 256, (3, 150, 200), generator=generator(0, "photograph"), dtype=torch.uint8)
    return v2.functional.to_pil_image(v2.functional.resize(coarse, (375, 500)))


def _fill(batches, dataset: str, n: int) -> None:
    """Put n random samples in the place of an engine's data, treated as those of `dataset` are; or of a stream take n,
    decoded in turn."""
    y = batches.test[1]
    y = y[torch.arange(n, device=y.device) % len(y)]
    batches.n, batches.steps_per_epoch = n, -(-n // batches.run.batch_size)
    if data.streamed(dataset):
        batches.train = batches.test = None, y
        files = batches.images["train"].files
        repeated = streams.Listing([files[i % len(files)] for i in range(n)], y.cpu(), batches.classes)
        batches.images, batches.processes = dict.fromkeys(data.SPLITS, repeated), 0
        return
    x = torch.rand(n, *batches.in_shape, dtype=batches.dtype, device=batches.device)
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
    buffers += run.linearize != "none"  # the frozen copy
    (n, m), (_, (channels, height, width)) = _samples(run), data.shapes(run.dataset)
    if data.streamed(run.dataset):
        n, m = run.batch_size, 0  # at a time
    if data.augmented(run.dataset):  # raw and padded bytes to train on
        margin = 2 * augment.MARGIN
        images = n * channels * (height * width + (height + margin) * (width + margin))
    else:
        images = n * channels * height * width * number
    images += m * channels * height * width * number
    return len(runs) * ensemble.parameters(run) * buffers * number + images
