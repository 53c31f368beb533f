"""One group of runs, in whatever process of whatever machine: claim it, train it, measure it, file the records.

A claim is a lock on a file, which the kernel drops when its process dies, so that it never outlives its owner.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable

import torch
from filelock import FileLock, Timeout

from lib import ensemble, groups, records, train
from lib.groups import Group
from lib.measurement import KINDS, Measurement
from lib.planning import epoch_seconds
from lib.runs import Run

DONE, BUSY, STOPPED = "done", "busy", "stopped"
SPARE = 1.5  # an epoch may take longer than the one before, and evaluations follow the last


def work(
    group: Group,
    device: torch.device,
    deadline: float | None,
    parent: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> str:
    """Train and measure one group and file its records: "done"; or "busy", as another process is at it, or "stopped"
    in time.

    deadline: by `time.time()`; training stops, checkpointed, when there is no time for another epoch.
    parent: stop also once the process of this number is no longer this one's parent.
    tick: called before each epoch.

    Raises StoreError, DataUnavailable.
    """
    with contextlib.ExitStack() as claims:
        with records.writing(group.folder):
            try:
                # In the order of keys, so that of two processes that want the same runs one gets them all.
                wanted = {*group.missing(), *(measurement.run for measurement in group.unmeasured())}
                for run in sorted(wanted, key=lambda run: run.key):
                    claims.enter_context(FileLock(group.lock(run), timeout=0))
            except Timeout:
                return BUSY
        missing = group.missing()
        try:
            if missing:
                trained = _fit(group, device, deadline, parent, tick)
                for record in trained:
                    if groups.wanting(group.store, Run.of_record(record)):
                        records.write(group.store, record)
            for measurement in group.unmeasured():
                if past(deadline):
                    raise train.Stopped
                records.write(group.store, measure(group, measurement, device))
                tick()
        except train.Stopped:
            return STOPPED
        group.clear()
        return DONE


def _fit(group: Group, device: torch.device, deadline, parent, tick) -> list[dict]:
    expected = epoch_seconds(group, device) if deadline is not None and not past(deadline) else 0.0
    if past(deadline, SPARE * expected):
        raise train.Stopped

    def stop(epoch: int, last: float) -> bool:
        with records.writing(group.folder):
            group.file("progress").write_text(str(epoch))
        tick()
        return (parent is not None and os.getppid() != parent) or past(deadline, SPARE * (last or expected))

    with groups.one_thread(device):
        engine = ensemble.engine(group.runs, device)
        with records.writing(group.folder):
            records.replace(group.file("runs"), json.dumps([run.as_dict() for run in group.runs]))
        trained = train.fit(engine, checkpoint=group.file("pt"), stop=stop)
    for i, run in enumerate(group.runs):
        if any(measurement.run == run for measurement in group.measurements):
            train.save(engine.network(i).state_dict(), group.weights(run))
    return trained


def measure(group: Group, measurement: Measurement, device: torch.device) -> dict:
    """The record of a measurement on a member of the group, from the weights that its training left."""
    run, began = measurement.run, time.monotonic()
    batches = train.Batches(run, device)
    before, after = (batches.network(run)[0].eval() for _ in range(2))
    after.load_state_dict(torch.load(group.weights(run), map_location=device, weights_only=True))
    with groups.one_thread(device):
        values = KINDS[measurement.kind](before, after, batches, run, **measurement.options)
        found = records.provenance(device)
    return {
        "measurement": measurement.as_dict(),
        "values": values,
        "status": "done",
        "provenance": {**found, "seconds": round(time.monotonic() - began, 3)},
    }


def past(deadline: float | None, spare: float = 0.0) -> bool:
    """Whether the deadline is less than `spare` seconds away."""
    return deadline is not None and time.time() + spare >= deadline
