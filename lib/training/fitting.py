"""From an engine to records: its epochs, its checkpoints, and what is measured after the last one.

Training curves are means over an epoch's batches of the loss and the accuracy at w, before each step; what `final`
holds is measured after the last epoch.
"""

import math
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from lib.core import files
from lib.runs import Run, meaning, origin, records
from lib.sam import gradient_norm

CHECKPOINT_SECONDS = 15.0  # what a kill may cost at most, beside the epoch under way


class Stopped(Exception):
    """Training stopped before its end, with a checkpoint to go on from."""


def fit(
    engine,
    *,
    checkpoint: Path | None = None,
    stop: Callable[[int, float], bool] | None = None,
    watch: Callable[[int, object], None] | None = None,
) -> list[dict]:
    """Train `engine.runs` to the end and return their records, in order.

    checkpoint: a file to go on from, if it is there, and to write to every CHECKPOINT_SECONDS.
    stop: called before each epoch with its number and the seconds the last one took; if it is true, training is
        checkpointed and Stopped is raised.
    watch: called before each epoch and after the last with how many were trained and the engine. Its `seen`, lists by
        keys, goes with the checkpoint.

    A run whose loss is no longer finite is "diverged": its curves end with the last finite epoch, its final
    numbers are None, and the runs beside it go on.
    """
    state = _load(checkpoint, engine, watch)
    curves, diverged, seconds = state["curves"], state["diverged"], state["seconds"]
    saved = time.monotonic()
    last = 0.0
    for epoch in range(state["epochs"], engine.runs[0].epochs):
        if stop and stop(epoch, last):
            _save(checkpoint, engine, state | {"epochs": epoch, "seconds": seconds})
            raise Stopped
        watching = time.monotonic()
        if watch:
            watch(epoch, engine)
        began = time.monotonic()
        _one_epoch(engine, epoch, curves, diverged)
        last = time.monotonic() - watching
        seconds += time.monotonic() - began
        if checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
            _save(checkpoint, engine, state | {"epochs": epoch + 1, "seconds": seconds})
            saved = time.monotonic()
        if all(diverged):
            break
    if watch:
        watch(engine.runs[0].epochs, engine)
    began = time.monotonic()
    splits = ("train", "test", *_held_out(engine))
    final = [_final(dict(zip(splits, parts, strict=True))) for parts in zip(*map(engine.evaluate, splits), strict=True)]
    seconds += time.monotonic() - began
    return [
        _record(engine, run, kept, c, f, d or not _finite(f), seconds, state["origins"])
        for run, kept, c, f, d in zip(engine.runs, engine.kept, curves, final, diverged, strict=True)
    ]


def _one_epoch(engine, epoch: int, curves: list[dict], diverged: list[bool]) -> None:
    trained = engine.epoch(epoch)
    run = engine.runs[0]
    evaluated = (epoch + 1) % run.eval_every == 0 or epoch + 1 == run.epochs
    rows = [{"epoch": epoch + 1, "train_loss": loss, "train_accuracy": accuracy} for loss, accuracy in trained]
    for split in ("test", *_held_out(engine)):
        measured = engine.evaluate(split) if evaluated else [{"loss": None, "accuracy": None}] * len(curves)
        for row, values in zip(rows, measured, strict=True):
            row |= {f"{split}_loss": _or_none(values["loss"]), f"{split}_accuracy": values["accuracy"]}
    for i, row in enumerate(rows if run.norm_curve else []):
        parameters = [p.detach() for p in engine.network(i).parameters() if p.requires_grad]
        row["weight_norm"] = _or_none(gradient_norm(parameters).item())
    for i, (curve, row) in enumerate(zip(curves, rows, strict=True)):
        diverged[i] = diverged[i] or not math.isfinite(row["train_loss"])
        if not diverged[i]:
            for name, value in row.items():
                curve[name].append(value)


def _held_out(engine) -> tuple[str, ...]:
    """The splits that are evaluated beside the training and the test set."""
    return ("validation",) if engine.runs[0].n_validation else ()


def _curve_names(engine) -> list[str]:
    splits = ("train", "test", *_held_out(engine))
    names = ["epoch", *(f"{split}_{name}" for split in splits for name in ("loss", "accuracy"))]
    return names + ["weight_norm"] * engine.runs[0].norm_curve


def _or_none(value):
    return value if value is not None and math.isfinite(value) else None


def _final(measured: dict[str, dict]) -> dict:
    """Loss and accuracy of each split; of the test set also the accuracies on its halves."""
    return {
        f"{split}_{name}": value
        for split, values in measured.items()
        for name, value in values.items()
        if split == "test" or name in ("loss", "accuracy")
    }


def _finite(final: dict) -> bool:
    return math.isfinite(final["train_loss"]) and math.isfinite(final["test_loss"])


def _record(
    engine, run: Run, kept: dict, curves: dict, final: dict, diverged: bool, seconds: float, origins: list[dict]
) -> dict:
    # Two gradients a SAM step, but one step: the rate is of optimizer steps of the whole group.
    steps = len(engine.runs) * run.epochs * engine.data.steps_per_epoch
    return {
        "run": run.as_dict(),
        "curves": curves,
        "final": dict.fromkeys(final) if diverged else final,
        "status": "diverged" if diverged else "done",
        "provenance": {
            **records.provenance(engine.device),
            **({"begun_by": origins[:-1]} if len(origins) > 1 else {}),
            "data": engine.data.digest,
            **meaning.meaning(run),
            "engine": engine.name,
            **({"processes": engine.processes()} if hasattr(engine, "processes") else {}),
            "group": len(engine.runs),
            "company": [run.key for run in engine.runs],
            "seconds": round(seconds / len(engine.runs), 3),
            "steps_per_second": round(steps / seconds, 1),
            **({"kept": kept, "collapsed": [name for name, count in kept.items() if not count]} if kept else {}),
        },
    }


def _save(checkpoint: Path | None, engine, state: dict) -> None:
    if checkpoint is None:
        return
    of = {"engine": engine.state_dict(), "keys": [run.key for run in engine.runs], "data": engine.data.digest}
    of |= meaning.meaning(engine.runs[0])
    of["digests"] = engine.digests  # a mask that SNIP chose elsewhere may differ in weights of nearly equal score
    save(state | of, checkpoint)


def save(state: dict, file: Path) -> None:
    """Write tensors to a file in one go. Raises StoreError if its folder is read-only or full."""
    try:
        with files.replacing(file) as out:
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


def _load(checkpoint: Path | None, engine, watch=None) -> dict:
    """The state to go on from: the checkpoint's, or a fresh one where there is none, or none that can be read or that
    this code, this torch and these data would have written. origins: of all that trained, this process last."""
    here = origin.origin(engine.device)
    fresh = {
        "epochs": 0,
        "curves": [{name: [] for name in _curve_names(engine)} for _ in engine.runs],
        "diverged": [False] * len(engine.runs),
        "seconds": 0.0,
        "origins": [here],
        "seen": watch.seen if watch else {},
    }
    if checkpoint is None or not checkpoint.exists():
        return fresh
    try:
        state = load(checkpoint, engine.device)
        result = {"seen": {}} | state
        result = {name: result[name] for name in fresh}
        if lacking := fresh["seen"].keys() - result["seen"].keys():
            raise ValueError(f"what is measured during training is not in it ({', '.join(sorted(lacking))})")
        if state["keys"] != [run.key for run in engine.runs]:
            raise ValueError("it is of other runs")
        if other := origin.differing(result["origins"][-1], here) + ["data"] * (state["data"] != engine.data.digest):
            raise ValueError(f"it was written with other {' and '.join(other)}")
        if "network" in state and meaning.differs(state["network"], meaning.meaning(engine.runs[0])["network"]):
            raise ValueError("its network is another one, though of the same name")
        if state.get("digests", engine.digests) != engine.digests:
            raise ValueError("its masks are not those that this machine chooses")
        engine.load_state_dict(state["engine"])
    except Exception as error:  # whatever a damaged file makes torch raise
        warnings.warn(
            f"{checkpoint}: cannot be used ({reason(error)}); its runs start again from epoch 0", stacklevel=2
        )
        engine.__init__(engine.runs, engine.device)
        return fresh
    for key, values in fresh["seen"].items():
        values[:] = result["seen"][key]
    return result | {"seen": fresh["seen"], "origins": [past for past in result["origins"] if past != here] + [here]}
