"""One group of runs, in whatever process of whatever machine: claim it, train it, measure it, file the records.

A claim is a lock on a file, which the kernel drops when its process dies, so that it never outlives its owner.
"""

import contextlib
import gc
import json
import os
import platform
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lib.core import ambient, files, interruption
from lib.data import DataUnavailable
from lib.runs import Run, course, origin, records, schema
from lib.runs.measurement import KINDS, Measurement
from lib.sweep import groups, selfcheck
from lib.sweep.groups import Group
from lib.sweep.planning import epoch_seconds
from lib.training import engines, fitting
from lib.training.batches import Batches

DONE, BUSY, STOPPED = "done", "busy", "stopped"
SPARE = 1.5  # an epoch may take longer than the one before, and evaluations follow the last
PROMPT = 1.0  # seconds that a step of a measurement may take, between which it is given up


def work(
    group: Group,
    device: torch.device,
    deadline: float | None,
    parent: int | None = None,
    tick: Callable[[], None] = lambda: None,
    engine: Callable | None = None,
) -> str:
    """Train and measure one group and file its records: "done"; or "busy", as another process is at it, or "stopped"
    in time.

    An engine that fails its self-check on this machine (`lib.sweep.selfcheck`) is not used: every run is then trained
    by itself with the plainest one. A group for which there is no memory on a GPU is halved.

    deadline: by `time.time()`; training stops, checkpointed, when there is no time for another epoch. A measurement
        that is under way then is given up; the weights that it needs stay.
    parent: stop also once the process of this number is no longer this one's parent.
    tick: called before each epoch.
    engine: in place of the one that `engines.engine` chooses.

    Raises StoreError, DataUnavailable.
    """
    records.commit()  # of the code that trains, which may have been edited when it has
    try:
        with interruption.stopping(lambda: is_past(deadline)):
            trusted = group.plain or not group.missing() or selfcheck.passed(group.runs, device, group.folder)
    except interruption.Interrupted:
        return STOPPED
    if not trusted:
        outcomes = [work(member, device, deadline, parent, tick, engine) for member in group.members()]
        group.clear()
        return _worst(outcomes)
    here, too_large = group.file("here"), False
    with contextlib.ExitStack() as claims:
        with records.writing(group.folder):
            try:
                # In the order of keys, so that of two processes that want the same runs one gets them all.
                wanted = {*group.missing(), *(measurement.run for measurement in group.unmeasured())}
                for run in sorted(wanted, key=lambda run: run.key):
                    claims.enter_context(FileLock(group.lock(run), timeout=0))
            except Timeout:
                return BUSY
        if _discard(group) and not group.plain:
            return BUSY  # its engine has not been checked yet
        try:
            if parent is None:
                with records.writing(group.folder):
                    here.touch()
            if group.missing():
                trained, weights = _fit(group, device, deadline, parent, tick, engine)
                for record in trained:
                    if groups.wanting(group.store, Run.of_record(record)):
                        records.write(group.store, record)
                for run, state in weights.items():
                    _save_weights(group, run, state, device)
            for measurement in group.unmeasured():
                with interruption.stopping(lambda: is_past(deadline, PROMPT)):
                    taken = take(group, measurement, device)
                records.write(group.store, taken)
                group.course(measurement).unlink(missing_ok=True)
                tick()
        except (fitting.Stopped, interruption.Interrupted):
            return STOPPED
        except torch.OutOfMemoryError as error:
            if len(group.runs) == 1:
                raise
            too_large = True
            traceback.clear_frames(error.__traceback__)  # which hold the engine, and the memory
        finally:
            with contextlib.suppress(OSError):
                here.unlink()
        group.clear()
    return _halved(group, device, deadline, parent, tick) if too_large else DONE


def _halved(group: Group, device, deadline, parent, tick) -> str:
    """Train a group that the memory does not hold as two."""
    gc.collect()
    torch.cuda.empty_cache()
    warnings.warn(f"no memory for {len(group.runs)} runs of {group.description()} together: halved", stacklevel=3)
    return _worst([work(half, device, deadline, parent, tick) for half in group.halves()])


def _worst(outcomes: list[str]) -> str:
    return next((outcome for outcome in (STOPPED, BUSY) if outcome in outcomes), DONE)


def work_elsewhere(group: Group, device: torch.device, deadline: float | None, engine: Callable | None = None) -> str:
    """`work` in a process that may be on any machine, which errors then name."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = {str(device)!r}: torch sees no GPU on {platform.node()}; take 'cpu'")
    try:
        return work(group, device, deadline, engine=engine)
    except (DataUnavailable, records.StoreError) as error:
        raise type(error)(f"on {platform.node()}: {error}") from error


def _fit(group: Group, device: torch.device, deadline, parent, tick, chosen) -> tuple[list[dict], dict[Run, dict]]:
    """The records, and the weights of what is to be measured."""
    with interruption.stopping(lambda: is_past(deadline)):
        expected = epoch_seconds(group, device) if deadline is not None else 0.0
    expected /= chosen.processes() if hasattr(chosen, "processes") else 1
    if is_past(deadline, SPARE * expected):
        raise fitting.Stopped

    def stop(epoch: int, last: float) -> bool:
        with records.writing(group.folder):
            group.file("progress").write_text(f"{epoch} {os.getpid()}")
        tick()
        return (parent is not None and os.getppid() != parent) or is_past(deadline, SPARE * (last or expected))

    with ambient.exactly(device):
        engine = (chosen or engines.engine)(group.runs, device, plain=group.plain)
        group.register()
        watch = Watch(group)
        trained = fitting.fit(engine, checkpoint=group.file("pt"), stop=stop, watch=watch if watch.seen else None)
    for measurement in watch.measurements:
        with records.writing(group.folder):
            made = {"key": measurement.key, "values": course.table(watch.seen[measurement.key])}
            files.replace(group.course(measurement), json.dumps(made))
    measured = {measurement.run for measurement in group.measurements}
    return trained, {run: engine.network(i).state_dict() for i, run in enumerate(group.runs) if run in measured}


class Watch:
    """Takes the group's measurements during training. seen: what each has given so far, by its key."""

    def __init__(self, group: Group):
        self.measurements = [measurement for measurement in group.unmeasured() if measurement.during]
        self.seen = {measurement.key: [] for measurement in self.measurements}

    def __call__(self, epoch: int, engine) -> None:
        for measurement in self.measurements:
            model = engine.network(engine.runs.index(measurement.run))
            point = KINDS[measurement.kind](model, epoch, engine.data, measurement.run, **measurement.options)
            self.seen[measurement.key] += [point] if point else []


def _save_weights(group: Group, run: Run, state: dict, device: torch.device) -> None:
    """File the weights with what they are of: the run, the outcome on record, and what wrote them."""
    outcome = schema.outcome(records.read(group.store, run, warn=False))
    with ambient.exactly(device):
        by = origin.origin(device)
    fitting.save({"key": run.key, "outcome": outcome, "origin": by, "weights": state}, group.weights(run))


def _weights(group: Group, run: Run, device: torch.device) -> dict:
    """What `_save_weights` has filed. Raises whatever a damaged file makes torch raise, and ValueError for weights that
    are not of this run, or not of the training that is on record."""
    result = fitting.load(group.weights(run), device)
    record = records.read(group.store, run, warn=False)
    if result["key"] != run.key:
        raise ValueError(f"it is of the run {result['key']}")
    if record and result["outcome"] != schema.outcome(record):
        raise ValueError("it is of another training than the one on record")
    return result


def _course(group: Group, measurement: Measurement) -> dict:
    """What was measured during training. Raises ValueError, TypeError or KeyError for a file that is damaged or not of
    this measurement."""
    result = json.loads(group.course(measurement).read_text(encoding="utf-8"))
    if result["key"] != measurement.key:
        raise ValueError(f"it is of the measurement {result['key']}")
    return result["values"]


def _discard(group: Group) -> bool:
    """Remove weights, and what was measured during training, that cannot be used, so that their run is trained again;
    whether there were any."""
    before, wanted = group.missing(), group.unmeasured()
    for run in {measurement.run for measurement in wanted}:
        _try(group, group.weights(run), lambda run=run: _weights(group, run, torch.device("cpu")))
    for measurement in wanted:
        _try(group, group.course(measurement), lambda measurement=measurement: _course(group, measurement))
    return group.missing() != before


def _try(group: Group, file: Path, read: Callable[[], object]) -> None:
    """Remove the file if there is one that cannot be read."""
    try:
        if file.exists():
            read()
    except Exception as error:  # whatever a damaged file makes torch raise
        warnings.warn(f"{file}: cannot be used ({fitting.reason(error)}); trained again", stacklevel=3)
        with records.writing(group.folder):
            file.unlink()


def take(group: Group, measurement: Measurement, device: torch.device) -> dict:
    """The record of a measurement on a member of the group, from the weights that its training left."""
    run, began = measurement.run, time.monotonic()
    with ambient.exactly(device):
        batches = Batches(run, device)
        before, after = (batches.network(run)[0].eval() for _ in range(2))
        weights = _weights(group, run, device)
        after.load_state_dict(weights["weights"])
        if measurement.during:
            values = _course(group, measurement)
        else:
            values = KINDS[measurement.kind](before, after, batches, run, **measurement.options)
        result = records.provenance(device) | {"data": batches.digest, "trained_by": weights["origin"]}
    return {
        "measurement": measurement.as_dict(),
        "values": values,
        "status": "done",
        "provenance": {**result, "seconds": round(time.monotonic() - began, 3)},
    }


def is_past(deadline: float | None, spare: float = 0.0) -> bool:
    """Whether the deadline is less than `spare` seconds away."""
    return deadline is not None and time.time() + spare >= deadline
