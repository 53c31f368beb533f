"""Rounds of training: what has no record is gathered in groups and trained, until nothing is missing or time is up.

A group whose worker process dies is tried again with nothing beside it, then run by run with the plainest engine.
"""

import concurrent.futures
import contextlib
import functools
import gc
import os
import time
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lib import data
from lib.core import paths
from lib.runs import Measurement, Run, records
from lib.sweep import groups, pool, selfcheck
from lib.sweep.groups import Group, run_of
from lib.sweep.pool import POLL_SECONDS, WorkerDied
from lib.sweep.progress import Progress
from lib.sweep.worker import BUSY, DONE, STOPPED, is_past, work, work_elsewhere

VISIBLE_SECONDS = 90.0  # a network file system may hide for a minute what another machine has written


class FailedWarning(UserWarning):
    """Runs that could not be trained, as each time the worker process died.

    >>> import warnings
    >>> from lib.sweep import sweep
    >>> with warnings.catch_warnings(action="error", category=FailedWarning):  # to stop at such runs
    ...     table = sweep([], progress=False)
    """


def make_missing(
    wanted: list[Run | Measurement], within, store, device, deadline, executor, progress
) -> dict[Run, WorkerDied]:
    """Train, or measure, what has no record yet, in the groups of the grid `within`; the runs that could not be, and
    why."""
    failed: dict[Run, WorkerDied] = {}

    def missing_of(some, warn=False):
        return [
            what
            for what in some
            if run_of(what) not in failed and groups.wanting(groups.store_of(store, what), what, warn=warn)
        ]

    missing = missing_of(dict.fromkeys(wanted), warn=True)
    if not missing:
        return failed
    for folder in dict.fromkeys([*(groups.store_of(store, what) for what in missing), groups.folder_of(store)]):
        records.check_writable(folder)
    batch = groups.gather(missing, store, device, within=within)
    costs = {run: _weight(run) for group in batch for run in group.missing()}
    fruitless = 0  # rounds without a new record, in a row
    with Progress(costs, _epochs(batch), show=progress and not paths.quiet()) as bar:
        while missing and not is_past(deadline):
            outcomes = _train(batch, device, deadline, executor, bar)
            failed |= _again(batch, outcomes, device, deadline, bar)
            for error in outcomes:
                if isinstance(error, Exception) and not isinstance(error, WorkerDied):
                    raise error
            left = missing_of(missing)
            fruitless = 0 if BUSY in outcomes or len(left) < len(missing) else fruitless + 1
            if STOPPED in outcomes:
                break
            if fruitless > VISIBLE_SECONDS / POLL_SECONDS:
                where = groups.store_of(store, left[0])
                raise records.StoreError(f"{left[0].key}.json was written, but not to {where}: do all workers see it?")
            if fruitless or BUSY in outcomes:
                time.sleep(POLL_SECONDS)
            missing = left
            batch = groups.gather(missing, store, device, within=within, failed=failed)
    if executor is None:
        selfcheck.warn_of_failures(groups.folder_of(store), device)
    if failed:
        named = "; ".join(f"{run.key} ({run.model} of width {run.width:g} on {run.dataset})" for run in failed)
        causes = "; ".join(dict.fromkeys(f"died {error}" for error in failed.values()))
        warnings.warn(
            f"failed, as the process that trained them {causes}: {named}. All other runs are on file. Call again to "
            "try these again; docs/onednn.md says what is known of crashes",
            FailedWarning,
            stacklevel=3,
        )
    return failed


def _again(batch: list[Group], outcomes: list, device, deadline, bar: Progress) -> dict[Run, WorkerDied]:
    """Train the groups whose worker died again, with nothing beside them; and if it dies again, each of their runs by
    itself with the plainest engine. The runs at which even that dies, and why. `outcomes` is brought up to date."""
    failed = {}
    for i, group in enumerate(batch):
        if not isinstance(outcomes[i], WorkerDied):
            continue
        warnings.warn(
            f"a worker process died {outcomes[i]}; its group, {group.description()}, is trained again with nothing "
            f"beside it, {'from the start' if outcomes[i].native else 'from its checkpoint'}",
            stacklevel=5,
        )
        (outcomes[i],) = _contained([group], [outcomes[i]], device, deadline, bar)
        if not isinstance(outcomes[i], WorkerDied):
            continue
        members = [member for member in group.members() if member.missing() or member.unmeasured()]
        ends = _contained(members, [outcomes[i]] * len(members), device, deadline, bar)
        failed |= {m.runs[0]: end for m, end in zip(members, ends, strict=True) if isinstance(end, WorkerDied)}
        others = [end for end in ends if not isinstance(end, WorkerDied)]
        errors = [end for end in others if isinstance(end, Exception)]
        outcomes[i] = (errors or [end for end in (STOPPED, BUSY) if end in others] or [DONE])[0]
        if outcomes[i] == DONE and len(group.missing()) < len(group.runs):  # its members no longer train together
            group.clear()
    return failed


def _contained(groups_: list[Group], deaths: list[WorkerDied], device, deadline, bar: Progress) -> list:
    """What becomes of these groups one after the other, each in a worker of its own."""
    for group, death in zip(groups_, deaths, strict=True):
        if death.native:  # a damaged process may have written it
            group.file("pt").unlink(missing_ok=True)
    return pool.run(groups_, groups.devices(device)[:1], deadline, functools.partial(_poll, groups_, bar))


def _weight(run: Run) -> float:
    """The share of a run in the time to finish, in any unit. An image folder, of unknown size, counts as CIFAR-10."""
    known = data.info(run.dataset) or data.DATASETS["cifar10"]
    return groups.cost(run) * (run.n_train or known.samples[0])


def _train(batch: list[Group], device, deadline, executor, bar: Progress) -> list:
    """Have every group trained once. What became of each: an outcome of `work`, or the error that stopped it."""
    devices, tick = groups.devices(device)[: len(batch)], functools.partial(_poll, batch, bar)
    if executor is not None:
        return _submitted(batch, device, deadline, executor, tick)
    if len(devices) > 1:
        return pool.run(batch, devices, deadline, tick)
    # Those at which a process died that trained them itself are left to the end, and to a process of their own.
    outcomes = {group: _attempt(group, device, deadline, tick) for group in batch if not _abandoned(group)}
    others = [group for group in batch if group not in outcomes]
    outcomes |= zip(others, pool.run(others, devices, deadline, tick), strict=True)
    return [outcomes[group] for group in batch]


def _abandoned(group: Group) -> bool:
    """Whether a process died that trained the group itself."""
    if not group.file("here").exists():
        return False
    try:
        for run in group.missing():
            with FileLock(group.lock(run), timeout=0):
                pass
    except Timeout:
        return False  # it lives
    return True


def _submitted(batch: list[Group], device, deadline, executor: Executor, tick) -> list:
    futures, began = [], time.time()
    try:
        for group in batch:
            futures.append(executor.submit(work_elsewhere, group, device, deadline))
        while left := concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done:
            tick()
            if is_past(deadline, -pool.LATE_SECONDS):  # those that no worker has come to are not waited for
                for group, future in zip(batch, futures, strict=True):
                    if future in left and not pool.trains(group, began):
                        future.cancel()
    except BrokenExecutor as error:  # before all was submitted
        for future in futures:
            future.cancel()
        return [error] * len(batch)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    tick()
    return [STOPPED if future.cancelled() else _died(future.exception()) or future.result() for future in futures]


def _died(error: BaseException | None) -> BaseException | None:
    """The error, as BrokenExecutor where it is dask's for a task whose workers died."""
    return BrokenExecutor(str(error)) if type(error).__name__ == "KilledWorker" else error


def _attempt(group: Group, device, deadline, tick) -> str | Exception:
    try:
        return work(group, device, deadline, tick=tick)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # which hold the engine, and the memory of the GPU
        return error
    finally:
        if device.type == "cuda":
            gc.collect()  # a stack refers to itself
            torch.cuda.empty_cache()
        tick()


def _poll(batch: list[Group], bar: Progress) -> None:
    bar.advance(_epochs(batch))


def _epochs(batch: Sequence[Group]) -> dict[Run, int]:
    """How far every run is by the files that `work` leaves, whichever machine it runs on."""
    folders = {folder for group in batch for folder in (group.store, group.folder)}
    there = {folder: _names(folder) for folder in folders}
    epochs = {}
    for group in batch:
        epoch, file = 0, group.file("progress")
        if file.name in there[group.folder]:
            with contextlib.suppress(OSError, ValueError, IndexError):
                epoch = int(file.read_text().split()[0])
        for run in group.runs:
            epochs[run] = run.epochs if records.path(group.store, run).name in there[group.store] else epoch
    return epochs


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:  # not made yet
        return set()
