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

from lib import data, losses, records, sparsity
from lib.batches import Batches, StreamedBatches
from lib.runs import Run
from lib.sam import SAM

CHECKPOINT_SECONDS = 15.0  # what a kill may cost at most, beside the epoch under way
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


class Loop:
    """One run, any network: autograd and the SAM optimizer, a step at a time."""

    name = "loop"
    channels_last = True  # where that is faster

    def __init__(self, runs: Sequence[Run], device: torch.device):
        (self.run,) = self.runs = list(runs)
        run, self.device = self.run, device
        self.data = (StreamedBatches if data.streamed(run.dataset) else Batches)(run, device)
        self.model, masks = self.data.network(run)
        if self.channels_last and device.type == "cpu" and run.model in CONVOLUTIONAL and run.width >= WIDE:
            self.model.to(memory_format=torch.channels_last)
        parameters = dict(self.model.named_parameters())
        self.masked = [(parameters[name], mask) for name, mask in masks.items()]
        self.kept, self.digests = [sparsity.kept(masks)], [sparsity.digest(masks)]
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


class PlainLoop(Loop):
    """The plainest engine there is, for where another one fails: all tensors are contiguous."""

    name = "plain loop"
    channels_last = False


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
    state["digests"] = engine.digests  # a mask that SNIP chose elsewhere may differ in weights of nearly equal score
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
        if state.get("digests", engine.digests) != engine.digests:
            raise ValueError("its masks are not those that this machine chooses")
        engine.load_state_dict(state["engine"])
    except Exception as error:  # whatever a damaged file makes torch raise
        warnings.warn(
            f"{checkpoint}: cannot be read ({reason(error)}); its runs start again from epoch 0", stacklevel=2
        )
        engine.__init__(engine.runs, engine.device)
        return fresh
    return found
