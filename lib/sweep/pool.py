"""Worker processes on this machine, each at one group at a time: one that dies costs its own group and no other.

Each worker is an executor of loky's with a single process, so that it is known which group a process was at when it
died, and of what. Idle workers are kept for the next call, as it takes seconds to start one; they end by themselves.
"""

import atexit
import concurrent.futures
import contextlib
import functools
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor

import torch
from loky import ProcessPoolExecutor

from lib.core import paths
from lib.sweep.groups import Group
from lib.sweep.worker import STOPPED, is_past, work

POLL_SECONDS = 0.5
IDLE_SECONDS = 60  # after which a worker ends
REUSE_SECONDS = 20  # up to which it is used again: of one that has ended and is replaced, loky may not see the death
STALL_SECONDS = 1200.0
STALL_EPOCHS = 20  # so many times an average epoch without the end of another
LATE_SECONDS = 1.0  # after the deadline, until which a worker may still be about to begin
NATIVE = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGTRAP", "SIGSYS")  # the process damaged itself

_idle: list[tuple[tuple, float, ProcessPoolExecutor]] = []  # with the surroundings it was started in, and since when
_late: list[ProcessPoolExecutor] = []  # still starting when their time was up


class WorkerDied(Exception):
    """The process that trained a group died. cause: a signal such as "SIGSEGV", or "exit code 1"."""

    def __init__(self, cause: str):
        super().__init__(cause)
        self.cause = cause

    @property
    def native(self) -> bool:
        """Whether the process damaged itself, so that what it wrote last is not to be trusted."""
        return self.cause in NATIVE

    def __str__(self) -> str:
        if self.native:
            return f"of {self.cause}, a crash of native code"
        if self.cause == signal.SIGKILL.name:
            return f"of {self.cause}: somebody killed it, or the system did for want of memory"
        return f"of {self.cause}"


def run(
    batch: Sequence[Group],
    devices: Sequence[torch.device],
    deadline: float | None,
    tick: Callable[[], None] = lambda: None,
) -> list[str | Exception]:
    """Have every group trained once by `lib.sweep.worker`, one at a time on each of the devices, of which a CPU may
    stand there several times; what became of each, in order: the outcome of `work`, the error that stopped it, or
    WorkerDied.

    tick: called now and then. Warns of a group in which no epoch ends for long. All workers are killed if this call is
    interrupted; what they have done is in their checkpoints. Those that are not yet at an epoch when time is up, as it
    takes a process long to start, are not waited for: they find out for themselves, and are then kept as idle ones.
    """
    waiting, outcomes, watch, began = deque(enumerate(batch)), [None] * len(batch), _Watch(), time.time()
    busy: dict[concurrent.futures.Future, tuple[int, ProcessPoolExecutor]] = {}
    free, used = list(devices), {}
    state = _surroundings()
    try:
        while waiting or busy:
            while waiting and free:
                i, group = waiting.popleft()
                used[i] = free.pop(0)
                future, worker = _submit(state, work, group, used[i], deadline, os.getpid())
                busy[future] = i, worker
            ended = concurrent.futures.wait(busy, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED).done
            for future in ended:
                i, worker = busy.pop(future)
                free.append(used[i])
                outcomes[i] = _outcome(future)
                if isinstance(outcomes[i], WorkerDied):
                    worker.shutdown()
                else:
                    _idle.append((state, time.monotonic(), worker))
            if is_past(deadline, -LATE_SECONDS):
                for future in [future for future, (i, _) in busy.items() if not trains(batch[i], began)]:
                    i, worker = busy.pop(future)
                    outcomes[i] = STOPPED
                    _late.append(worker)
                    future.add_done_callback(functools.partial(_keep, state, worker))
                while waiting:
                    outcomes[waiting.popleft()[0]] = STOPPED
            watch.warn_of_stalls([batch[i] for i, _ in busy.values()])
            tick()
    except BaseException:
        for _, worker in busy.values():
            worker.shutdown(kill_workers=True)
        raise
    return outcomes


@atexit.register
def _end() -> None:
    for worker in (*_late, *(worker for *_, worker in _idle)):
        worker.shutdown(kill_workers=True)


def _keep(state: tuple, worker: ProcessPoolExecutor, future: concurrent.futures.Future) -> None:
    """Count a worker that was late among the idle ones, unless it died."""
    _late.remove(worker)
    if future.cancelled() or isinstance(future.exception(), BrokenExecutor):
        worker.shutdown(wait=False)
    else:
        _idle.append((state, time.monotonic(), worker))


def _submit(state: tuple, *call) -> tuple[concurrent.futures.Future, ProcessPoolExecutor]:
    """Hand the call to a worker; one that died while it was idle is passed over."""
    while True:
        worker = _take(state)
        try:
            return worker.submit(_at_work, *call), worker
        except BrokenExecutor:
            worker.shutdown(wait=False)


def _surroundings() -> tuple:
    """What a worker keeps from when it was started: the folder of data, and where modules are imported from."""
    return str(paths.data()), tuple(sys.path)


def _take(state: tuple) -> ProcessPoolExecutor:
    """An idle worker with these surroundings, or a new one."""
    while _idle:
        other, since, worker = _idle.pop()
        if other == state and time.monotonic() - since < REUSE_SECONDS:
            return worker
        worker.shutdown(wait=False)
    watched = {"initializer": _end_with, "initargs": (os.getpid(), 2 * IDLE_SECONDS)}
    return ProcessPoolExecutor(1, timeout=IDLE_SECONDS, env={"SAM_DATA": state[0]}, **watched)


def _end_with(parent: int, grace: float) -> None:
    """In a worker: end some seconds after the process that started it, unless it is at work, which ends by itself then.
    Idle ones end too, but loky's wait for ever if that process was killed while it held a lock."""

    def watch():
        while _working or os.getppid() == parent:
            time.sleep(min(5.0, grace))
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_working = False  # in a worker


def _at_work(call: Callable, *arguments):
    """What the call returns; in a worker."""
    global _working
    _working = True
    try:
        return call(*arguments)
    finally:
        _working = False


def trains(group: Group, since: float) -> bool:
    """Whether a process has come to an epoch of the group since then."""
    with contextlib.suppress(OSError):
        return group.file("progress").stat().st_mtime >= since
    return False


def _outcome(future: concurrent.futures.Future) -> str | Exception:
    error = future.exception()
    if isinstance(error, BrokenExecutor):
        cause = re.search(r"\{([A-Z]\w+)\((-?\d+)\)", str(error))  # loky lists in braces how its workers ended
        name = f"exit code {cause[2]}" if cause and cause[1] == "EXIT" else cause and cause[1]
        return WorkerDied(name or "an unknown cause")
    return error or future.result()


class _Watch:
    """Warns once of each group in which no epoch has ended for long: a worker may hang where another would crash."""

    def __init__(self):
        self._began, self._warned = time.time(), set()

    def warn_of_stalls(self, groups: Sequence[Group]) -> None:
        for group in groups:
            with contextlib.suppress(OSError, ValueError):
                file = group.file("progress")
                epoch, pid = map(int, file.read_text().split())
                changed = max(file.stat().st_mtime, self._began)
                usual = (changed - self._began) / max(epoch, 1)
                still = time.time() - changed
                if still > max(STALL_SECONDS, STALL_EPOCHS * usual) and group.name not in self._warned:
                    self._warned.add(group.name)
                    warnings.warn(
                        f"no epoch has ended for {still / 60:.0f} minutes in the group of {group.description()}; if "
                        f"its worker hangs, `kill {pid}`, and the group is tried again",
                        stacklevel=2,
                    )
