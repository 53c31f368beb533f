"""Training one group of runs, in whatever process of whatever machine: claim it, train it, file its records.

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
    """Train one group and file its records: "done"; or "busy", as another process is at it, or "stopped" in time.

    deadline: by `time.time()`; training stops, checkpointed, when there is no time for another epoch.
    parent: stop also once the process of this number is no longer this one's parent.
    tick: called before each epoch.

    Raises StoreError, DataUnavailable.
    """
    with contextlib.ExitStack() as claims:
        with records.writing(group.folder):
            try:
                # In the order of keys, so that of two processes that want the same runs one gets them all.
                for run in sorted(group.missing(), key=lambda run: run.key):
                    claims.enter_context(FileLock(group.lock(run), timeout=0))
            except Timeout:
                return BUSY
        missing = group.missing()
        if missing:
            try:
                trained = _fit(group, device, deadline, parent, tick)
            except train.Stopped:
                return STOPPED
            for record in trained:
                if Run.from_dict(record["run"]) in missing:
                    records.write(group.store, record)
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
        return train.fit(engine, checkpoint=group.file("pt"), stop=stop)


def past(deadline: float | None, spare: float = 0.0) -> bool:
    """Whether the deadline is less than `spare` seconds away."""
    return deadline is not None and time.time() + spare >= deadline
