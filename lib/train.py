"""One training run from its specification to its record: the reference that every faster engine must agree with.

`Loop` trains one run of any network with autograd and `lib.sam.SAM`; `fit` drives an engine over the epochs,
checkpoints it, and turns it into records. Training curves are means over an epoch's batches of the loss and the
accuracy at w, before each step; what `final` holds is measured after the last epoch.
"""

import math
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from lib import augment, data, linearize, losses, models, records, sparsity, streams
from lib.runs import Run
from lib.sam import SAM
from lib.seeds import generator

CHECKPOINT_SECONDS = 15.0  # what a kill may cost at most, beside the epoch under way
EVALUATION_BATCH = 2000
CONVOLUTIONAL = ("resnet18", "resnet50", "vgg11")
WIDE = 8  # filters from which on these are faster on a CPU, by a third or more, with channels last


def learning_rate(run: Run, step: int, steps_per_epoch: int) -> float:
    """The learning rate of the step with number `step`, counted from 0 over the whole run (Appendix A).

    constant; inverse: lr/(1 + epoch/3) (Appendix C, after Chizat et al.); step: ×0.1 after 50% and 75% of the
    epochs; cosine: lr(1 + cos(π step/steps))/2; warmup_cosine: linear over `warmup_steps`, then the cosine.
    """
    epoch, steps = step // steps_per_epoch, run.epochs * steps_per_epoch
    if run.schedule == "inverse":
        return run.lr / (1 + epoch / 3)
    if run.schedule == "step":
        return run.lr * 0.1 ** ((2 * epoch >= run.epochs) + (4 * epoch >= 3 * run.epochs))
    if run.schedule == "cosine":
        return run.lr * (1 + math.cos(math.pi * step / steps)) / 2
    if run.schedule == "warmup_cosine":
        if step < run.warmup_steps:
            return run.lr * (step + 1) / run.warmup_steps
        return run.lr * (1 + math.cos(math.pi * (step - run.warmup_steps) / (steps - run.warmup_steps))) / 2
    return run.lr


class Batches:
    """A run's data on a device: standardized once, or padded once and augmented a batch at a time.

    train, test: pairs of inputs and labels (or regression targets), in the run's precision.
    """

    def __init__(self, run: Run, device: torch.device):
        train, test = data.load(run.dataset, "train"), data.load(run.dataset, "test")
        n = self._describe(run, device, train, tuple(train.x.shape[1:]))
        self.augmented = data.augmented(run.dataset)
        self.test = self._place(test.x), self._targets(test.y)
        if self.augmented:
            self.padded, self._raw = augment.pad(train.x[:n].to(device)), train.x[:n]
            self.train = None, self._targets(train.y[:n])
        else:
            self.train = self._place(train.x[:n]), self._targets(train.y[:n])

    def _describe(self, run: Run, device: torch.device, train, in_shape: tuple[int, ...]) -> int:
        """Take down what is known before any input is read; how many samples to train on."""
        self.run, self.device, self.dtype = run, device, getattr(torch, run.precision)
        n = run.n_train or len(train.y)
        if n > len(train.y):
            raise ValueError(f"n_train = {n}: {run.dataset} has {len(train.y)} training samples")
        self.n, self.classes, self.in_shape = n, train.classes, in_shape
        self.steps_per_epoch = -(-n // run.batch_size)
        return n

    def _place(self, x):
        return data.standardize(x.to(self.device), self.run.dataset, dtype=self.dtype)

    def _targets(self, y):
        return y.to(self.device, self.dtype if y.is_floating_point() else torch.int64)

    def loss_target(self, y: torch.Tensor) -> torch.Tensor:
        """What the run's loss compares the output with (`losses.target`), divided by its α (Appendix C)."""
        target = losses.target(self.run.loss, y, self.classes, self.dtype)
        return target if self.run.alpha == 1 else target / self.run.alpha

    def network(self, run: Run) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        """The run's network at initialization, on the device, and its mask; what the mask removes is 0."""
        shape = dict(width=run.width, in_shape=self.in_shape, classes=self.classes)
        model = models.build(run.model, **shape, seed=run.seed, **run.options)
        model = model.to(self.device, self.dtype)
        masks = sparsity.masks_of(run, model, self)
        return linearize.wrap(sparsity.apply(model, masks), run.linearize), masks

    def balanced(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `count`/classes training samples of each class, as they are evaluated."""
        index = self._first_of_each(count)
        x = self._place(self._raw[index]) if self.train[0] is None else self.train[0][index.to(self.device)]
        return x, self.train[1][index.to(self.device)]

    def _first_of_each(self, count: int) -> torch.Tensor:
        y = self.train[1].cpu()
        return torch.cat([(y == label).nonzero().flatten()[: count // self.classes] for label in range(self.classes)])

    def epoch(self, seed: int, epoch: int):
        """Yield the batches (x, y) of an epoch in the order, and with the augmentation, of `seed`."""
        order = self.order(seed, epoch)
        if self.augmented:
            draws = augment.draw(self.n, generator(seed, "augmentation", epoch))
            offsets, flips = (d.to(self.device) for d in draws)
        for start in range(0, self.n, self.run.batch_size):
            index = order[start : start + self.run.batch_size]
            if self.augmented:
                batch = slice(start, start + len(index))
                x = augment.apply(self.padded, index, offsets[batch], flips[batch])
                x = data.standardize(x, self.run.dataset, dtype=self.dtype)
            else:
                x = self.train[0][index]
            yield x, self.train[1][index]

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """The permutation of the training samples in which `seed` sees them in `epoch`."""
        return torch.randperm(self.n, generator=generator(seed, "order", epoch)).to(self.device)

    def chunks(self, split: str):
        """Yield the samples of a split as they are evaluated: in order, not augmented."""
        x, y = self.test if split == "test" else self.train
        for start in range(0, len(y), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            yield (self._place(self._raw[part]) if x is None else x[part]), y[part]


class StreamedBatches(Batches):
    """A run's data where no memory holds it: batches of images that are decoded as they are needed (`lib.streams`).

    processes: how many decode, by default `streams.workers`.
    """

    def __init__(self, run: Run, device: torch.device, processes: int | None = None):
        self.images = {split: streams.listing(run.dataset, split) for split in data.SPLITS}
        train, test = self.images["train"], self.images["test"]
        n = self._describe(run, device, train, streams.SHAPE)
        self.train, self.test = (None, self._targets(train.y[:n])), (None, self._targets(test.y))
        self.processes = streams.workers(device) if processes is None else processes

    def balanced(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        index = self._first_of_each(count)
        return next(self._stream("train", [index])), self.train[1][index.to(self.device)]

    def epoch(self, seed: int, epoch: int):
        batches = self.order(seed, epoch).split(self.run.batch_size)
        images = self._stream("train", batches, seed=seed, epoch=epoch)
        yield from zip(images, (self.train[1][index] for index in batches), strict=True)

    def chunks(self, split: str):
        y = (self.test if split == "test" else self.train)[1]
        # As many as to train on: EVALUATION_BATCH images of this size, with their activations, fill most GPUs.
        batches = torch.arange(len(y)).split(self.run.batch_size)
        yield from zip(self._stream(split, batches), y.split(self.run.batch_size), strict=True)

    def _stream(self, split: str, batches: Sequence[torch.Tensor], **drawn: int):
        for x in streams.stream(self.images[split], batches, self.device, processes=self.processes, **drawn):
            yield self._place(x)


class Loop:
    """One run, any network: autograd and the SAM optimizer, a step at a time."""

    name = "loop"

    def __init__(self, runs: Sequence[Run], device: torch.device):
        (self.run,) = self.runs = list(runs)
        run, self.device = self.run, device
        self.data = (StreamedBatches if data.streamed(run.dataset) else Batches)(run, device)
        self.model, masks = self.data.network(run)
        if device.type == "cpu" and run.model in CONVOLUTIONAL and run.width >= WIDE:
            self.model.to(memory_format=torch.channels_last)
        parameters = dict(self.model.named_parameters())
        self.masked = [(parameters[name], mask) for name, mask in masks.items()]
        self.kept = [sparsity.kept(masks)]
        self.optimizer = SAM(
            self.model.parameters(),
            torch.optim.SGD,
            rho=run.rho,
            normalized=run.normalized,
            model=self.model,
            lr=run.lr,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
        )
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)

    def epoch(self, epoch: int) -> list[tuple[float, float | None]]:
        """Train one epoch; for each run the mean loss and the accuracy at w."""
        self.model.train()
        self.total.zero_()
        self.hits.zero_()
        for i, (x, y) in enumerate(self.batches(epoch)):
            self.step(epoch * self.data.steps_per_epoch + i, x, y)
        regression = self.data.train[1].is_floating_point()
        return [(self.total.item() / self.data.n, None if regression else self.hits.item() / self.data.n)]

    def batches(self, epoch: int):
        """Yield the batches of an epoch."""
        return self.data.epoch(self.run.seed, epoch)

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step`, on the batch (x, y), adding its loss and its hits at w to `total` and `hits`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.run, step, self.data.steps_per_epoch)
        outputs, target = [], self.data.loss_target(y)

        def closure():
            self.optimizer.zero_grad()
            outputs.append(self.model(x))
            loss = losses.per_sample(self.run.loss, outputs[-1], target).mean()
            loss.backward()
            for weight, mask in self.masked:
                weight.grad.mul_(mask)
            return loss

        self.total += self.optimizer.step(closure).detach().double() * len(y)
        if not y.is_floating_point():
            self.hits += (outputs[0].argmax(1) == y).sum()

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies over a whole split, in evaluation mode."""
        self.model.eval()
        values, hits, labels = [], [], False
        for x, y in self.data.chunks(split):
            output = self.model(x)
            values.append(losses.per_sample(self.run.loss, output, self.data.loss_target(y)).double())
            labels = not y.is_floating_point()
            hits += [(output.argmax(1) == y).double()] if labels else []
        return [summary(torch.cat(values), torch.cat(hits) if labels else None)]

    def network(self, member: int) -> nn.Module:
        """The run's network as it is now."""
        return self.model

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def summary(losses: torch.Tensor, hits: torch.Tensor | None) -> dict:
    """Mean loss, accuracy, and accuracy on even and on odd indices (None for regression), from N values each."""
    rates = [None] * 3 if hits is None else [h.mean().item() for h in (hits, hits[::2], hits[1::2])]
    return {"loss": losses.mean().item()} | dict(zip(("accuracy", "accuracy_even", "accuracy_odd"), rates, strict=True))


class Stopped(Exception):
    """Training stopped before its end, with a checkpoint to go on from."""


def fit(engine, *, checkpoint: Path | None = None, stop: Callable[[int, float], bool] | None = None) -> list[dict]:
    """Train `engine.runs` to the end and return their records, in order.

    checkpoint: a file to go on from, if it is there, and to write to every CHECKPOINT_SECONDS.
    stop: called before each epoch with its number and the seconds the last one took; if it is true, training is
        checkpointed and Stopped is raised.

    A run whose loss is no longer finite is "diverged": its curves end with the last finite epoch, its final
    numbers are None, and the runs beside it go on.
    """
    state = _load(checkpoint, engine)
    curves, diverged, seconds = state["curves"], state["diverged"], state["seconds"]
    saved = time.monotonic()
    last = 0.0
    for epoch in range(state["epochs"], engine.runs[0].epochs):
        if stop and stop(epoch, last):
            _save(checkpoint, engine, epoch, curves, diverged, seconds)
            raise Stopped
        began = time.monotonic()
        _one_epoch(engine, epoch, curves, diverged)
        last = time.monotonic() - began
        seconds += last
        if checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
            _save(checkpoint, engine, epoch + 1, curves, diverged, seconds)
            saved = time.monotonic()
        if all(diverged):
            break
    began = time.monotonic()
    final = [_final(*parts) for parts in zip(engine.evaluate("train"), engine.evaluate("test"), strict=True)]
    seconds += time.monotonic() - began
    return [
        _record(engine, run, kept, c, f, d or not _finite(f), seconds)
        for run, kept, c, f, d in zip(engine.runs, engine.kept, curves, final, diverged, strict=True)
    ]


def _one_epoch(engine, epoch: int, curves: list[dict], diverged: list[bool]) -> None:
    trained = engine.epoch(epoch)
    run = engine.runs[0]
    evaluated = (epoch + 1) % run.eval_every == 0 or epoch + 1 == run.epochs
    tested = engine.evaluate("test") if evaluated else [{"loss": None, "accuracy": None}] * len(curves)
    for i, (curve, (loss, accuracy), test) in enumerate(zip(curves, trained, tested, strict=True)):
        diverged[i] = diverged[i] or not math.isfinite(loss)
        if not diverged[i]:
            row = (epoch + 1, loss, accuracy, _or_none(test["loss"]), test["accuracy"])
            for name, value in zip(CURVES, row, strict=True):
                curve[name].append(value)


CURVES = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def _or_none(value):
    return value if value is not None and math.isfinite(value) else None


def _final(train: dict, test: dict) -> dict:
    return {"train_loss": train["loss"], "train_accuracy": train["accuracy"]} | {
        f"test_{name}": value for name, value in test.items()
    }


def _finite(final: dict) -> bool:
    return math.isfinite(final["train_loss"]) and math.isfinite(final["test_loss"])


def _record(engine, run: Run, kept: dict, curves: dict, final: dict, diverged: bool, seconds: float) -> dict:
    # Two gradients a SAM step, but one step: the rate is of optimizer steps of the whole group.
    steps = len(engine.runs) * run.epochs * engine.data.steps_per_epoch
    return {
        "run": run.as_dict(),
        "curves": curves,
        "final": dict.fromkeys(final) if diverged else final,
        "status": "diverged" if diverged else "done",
        "provenance": {
            **records.provenance(engine.device),
            "engine": engine.name,
            "group": len(engine.runs),
            "seconds": round(seconds / len(engine.runs), 3),
            "steps_per_second": round(steps / seconds, 1),
            **({"kept": kept, "collapsed": [name for name, count in kept.items() if not count]} if kept else {}),
        },
    }


def _save(checkpoint: Path | None, engine, epochs: int, curves, diverged, seconds: float) -> None:
    if checkpoint is None:
        return
    state = {"engine": engine.state_dict(), "keys": [run.key for run in engine.runs], "epochs": epochs}
    save({**state, "curves": curves, "diverged": diverged, "seconds": seconds}, checkpoint)


def save(state: dict, file: Path) -> None:
    """Write tensors to a file in one go. Raises StoreError if its folder is read-only or full."""
    try:
        with records.replacing(file) as out:
            torch.save(state, out)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        raise records.cannot_write(file.parent, error) from error


def load(file: Path, device: torch.device) -> dict:
    """What `save` wrote, on the device. Raises whatever a damaged file makes torch raise."""
    with zipfile.ZipFile(file) as archive:  # torch.load ignores the checksums that torch.save writes
        if archive.testzip():
            raise ValueError("a checksum is wrong")
    return torch.load(file, map_location=device, weights_only=True)


def reason(error: Exception) -> str:
    """The first line of what an error says, or else its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _load(checkpoint: Path | None, engine) -> dict:
    """The state to go on from: the checkpoint's, or a fresh one where there is none or none that can be read."""
    fresh = {
        "epochs": 0,
        "curves": [{name: [] for name in CURVES} for _ in engine.runs],
        "diverged": [False] * len(engine.runs),
        "seconds": 0.0,
    }
    if checkpoint is None or not checkpoint.exists():
        return fresh
    try:
        state = load(checkpoint, engine.device)
        found = {name: state[name] for name in fresh}
        if state["keys"] != [run.key for run in engine.runs]:
            raise ValueError("it is of other runs")
        engine.load_state_dict(state["engine"])
    except Exception as error:  # whatever a damaged file makes torch raise
        warnings.warn(
            f"{checkpoint}: cannot be read ({reason(error)}); its runs start again from epoch 0", stacklevel=2
        )
        engine.__init__(engine.runs, engine.device)
        return fresh
    return found
