"""How long this device takes for a sample of a group of runs, found out in a moment by the engine that will train it.

It is timed on random data of the right shape, so that no data set has to be there.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from lib import data
from lib.core import interruption
from lib.core.ambient import exactly
from lib.core.seeds import generator
from lib.data import augment, streaming
from lib.runs import Run
from lib.training import cuda_graph, engines
from lib.training.batches import StreamedBatches

CALIBRATION_SECONDS = 0.2
_PHOTOGRAPH = (375, 500)  # pixels of a typical image of ImageNet


class Rate(NamedTuple):
    """Seconds that a group takes for one sample."""

    train: float
    evaluate: float


def n_samples(run: Run) -> tuple[int, int]:
    """How many the run trains on, and how many it is tested on. Raises DataUnavailable for an absent image folder."""
    n, m = data.sample_counts(run.dataset)
    return run.n_train or n - run.n_validation, m


def alike(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The same group without what makes no difference to its speed."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    steady = dict(lr=0.01, schedule="constant", warmup_steps=0, epochs=1, n_train=0, eval_every=1, pruner="random")
    steady |= dict(alpha=1.0, digest="", snip_samples=Run.snip_samples, switch=0.0, n_validation=0)
    return tuple(
        run.but(
            optimizer="sam" if run.rho else run.optimizer,  # one that switches as if it climbed all the time
            rho=float(run.rho > 0),
            sparsity=(run.sparsity > 0) / 2,
            seed=seeds.index(run.seed),
            **steady,
        )
        for run in runs
    )


def calibrate(runs: Sequence[Run], device: torch.device, plain: bool = False) -> Rate:
    """Time the engine of this group, the usual one or the plainest. The number of samples doubles until an epoch of
    them takes CALIBRATION_SECONDS, so that neither a step of microseconds nor one of minutes is timed amiss. Given up
    (`lib.core.interruption`) on a CPU between any two operations until an epoch has shown itself to be short."""
    with exactly(device), tempfile.TemporaryDirectory() as folder:
        stand_in = _stand_in(runs[0].dataset, Path(folder))
        kind = engines.PlainLoop if plain else engines.engine_class(runs)
        with _watched(device):
            engine = kind([run.but(dataset=stand_in) for run in runs], device)
        batch, most = min(runs[0].batch_size, n_samples(runs[0])[0]), n_samples(runs[0])[0]
        n = min(
            2 if data.streamed(runs[0].dataset) else max(batch // 32, 2 * runs[0].parts), most
        )  # batch norm needs two
        if device.type == "cuda":
            n = min((cuda_graph.WARM_UP + 2) * batch, most)
        _fill(engine.data, runs[0].dataset, n)
        with _watched(
            device
        ):  # the first steps of a process load libraries, and on a GPU those of a shape make a graph
            train = _time(lambda: engine.epoch(0), device)
        long = device.type == "cpu" and train >= CALIBRATION_SECONDS
        while not long:
            train = _time(lambda: engine.epoch(0), device)
            if train >= CALIBRATION_SECONDS or n == most:
                break
            n = min(2 * n, batch if n < batch else most)
            _fill(engine.data, runs[0].dataset, n)
        with _watched(device) if long else contextlib.nullcontext():
            rate = Rate(train / n, _time(lambda: engine.evaluate("test"), device) / n)
        return _beside_workers(rate, engine.data, device) if data.streamed(runs[0].dataset) else rate


def _watched(device: torch.device):
    return interruption.BetweenOperations() if device.type == "cpu" else contextlib.nullcontext()


def _beside_workers(rate: Rate, batches: StreamedBatches, device: torch.device) -> Rate:
    """A rate that was measured with the images decoded in turn, as it is where workers decode beside a GPU: whichever
    takes longer sets the pace."""
    processes = streaming.workers(device)
    if not processes:
        return rate
    images, index = batches.images["train"], [torch.arange(batches.n)]
    cpu = torch.device("cpu")
    drawn = _time(lambda: list(streaming.stream(images, index, cpu, seed=0)), cpu) / batches.n
    centres = _time(lambda: list(streaming.stream(images, index, cpu)), cpu) / batches.n
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
    if not (dataset in data.DATASETS and data.DATASETS[dataset].location):
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
    from torchvision.transforms import v2

    coarse = torch.randint(0, 256, (3, 150, 200), generator=generator(0, "photograph"), dtype=torch.uint8)
    return v2.functional.to_pil_image(v2.functional.resize(coarse, _PHOTOGRAPH))


def _fill(batches, dataset: str, n: int) -> None:
    """Put n random samples in the place of an engine's data, treated as those of `dataset` are; or of a stream take n,
    decoded in turn."""
    y = batches.test[1]
    y = y[torch.arange(n, device=y.device) % len(y)]
    batches.n, batches.steps_per_epoch = n, -(-n // batches.run.batch_size)
    if data.streamed(dataset):
        batches.train = batches.test = None, y
        files = batches.images["train"].files
        repeated = streaming.Listing([files[i % len(files)] for i in range(n)], y.cpu(), batches.classes)
        batches.images, batches.processes = dict.fromkeys(data.SPLITS, repeated), 0
        return
    x = torch.rand(n, *batches.in_shape, dtype=batches.dtype, device=batches.device)
    batches.train = batches.test = x, y
    batches.augmented = data.augmented(dataset)
    if batches.augmented:
        batches.padded = augment.pad((255 * x).to(torch.uint8))
