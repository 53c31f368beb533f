"""The one door to training: give it a grid of runs, get a table back.

`sweep` looks each run up in the store of records and trains what is missing, whole groups at once, over the cores of
this machine or any `concurrent.futures` executor. It may be killed at any moment, stopped by a budget, or started
several times on one store: finished runs are found, unfinished ones go on from their checkpoint, and a run that
another process is at is waited for, not repeated. `python -m lib.sweep EXPERIMENT --preset P` does the same.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas
import torch
from filelock import FileLock, Timeout
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor

from lib import ensemble, experiments, paths, records, train
from lib.progress import Progress
from lib.runs import Run

POLL_SECONDS = 0.5


def sweep(
    runs: Iterable[Run],
    *,
    train: bool = True,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    budget: float | str | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Train the runs that have no record yet, then return the table of all, one row a run in the order given.

    train: False only reads; runs without a record have status "missing".
    store: the folder of records; by default `data/records/` (`data/records/digits/` for the stand-in digits).
    device: "cpu" or "cuda"; by default the GPU if there is one.
    budget: seconds, or "90s", "9m", "2h": stop cleanly before so much time is up; the rest stays "missing".
    executor: where groups of runs are trained; by default one process a core on the CPU, here on a GPU.
    progress: show a progress line (never under CI=true).

    The columns are the fields of `Run`, `key`, `status` ("done", "diverged", "missing"), the final numbers,
    `curves` (a dictionary of lists) and `provenance` (a dictionary); both None where the run is missing.

    Raises StoreError (read-only or full store), DataUnavailable, ValueError (a budget that is no time), and whatever
    stopped a group of runs, after the other groups have ended.
    """
    runs = list(runs)
    deadline = None if budget is None else time.time() + seconds(budget)
    if train:
        _train_missing(list(dict.fromkeys(runs)), store, device, deadline, executor, progress)
    return pandas.DataFrame([_row(run, records.read(_store(store, run), run)) for run in runs])


def seconds(budget: float | str) -> float:
    """A time such as 540, "540", "90s", "9m" or "2h" in seconds. Raises ValueError for anything else."""
    text = str(budget).strip()
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], None)
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ValueError(f"budget = {budget!r}: must be seconds or a time such as '90s', '9m', '2h'")
    return value


def _row(run: Run, record: dict | None) -> dict:
    row = {**run.as_dict(), "key": run.key, "status": record["status"] if record else "missing"}
    final = record["final"] if record else {}
    row |= {name: final.get(name) for name in FINAL}
    return row | {part: record[part] if record else None for part in ("curves", "provenance")}


FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_accuracy_even", "test_accuracy_odd")


def _store(store: str | Path | None, run: Run) -> Path:
    return paths.records(run.dataset) if store is None else Path(store)


# ---------------------------------------------------------------------------------------------- groups


@dataclass(frozen=True)
class Group:
    """Runs that are trained together, and the store in which they are filed (None: the default one)."""

    runs: tuple[Run, ...]
    store: Path | None

    @property
    def name(self) -> str:
        return hashlib.sha256(" ".join(run.key for run in self.runs).encode()).hexdigest()[:16]

    def file(self, name: str) -> Path:
        """A file of work in progress."""
        return _checkpoints(self.store) / name

    def missing(self) -> list[Run]:
        """The members that have no record yet."""
        with warnings.catch_warnings(action="ignore", category=records.RecordWarning):
            return [run for run in self.runs if records.read(_store(self.store, run), run) is None]


def _checkpoints(store: Path | None) -> Path:
    return paths.checkpoints() if store is None else store / "checkpoints"


def _groups(missing: list[Run], store: Path | None, device: torch.device) -> list[Group]:
    """The missing runs in groups: those begun before as they were, then what `ensemble.partition` puts together."""
    begun = [group for group in _begun(store) if not set(group.runs).isdisjoint(missing)]
    left = [run for run in missing if not any(run in group.runs for group in begun)]
    groups = begun + [Group(tuple(members), store) for members in ensemble.partition(left, device)]
    return sorted(groups, key=lambda group: -sum(cost(run) for run in group.runs))


def _begun(store: Path | None) -> Iterator[Group]:
    """The groups with a checkpoint. One keeps its members, whatever is asked for now."""
    for file in sorted(_checkpoints(store).glob("*.pt")):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            members = json.loads(file.with_suffix(".runs").read_text())
            group = Group(tuple(Run.from_dict(run) for run in members), store)
            if group.name == file.stem:
                yield group


def cost(run: Run) -> float:
    """Roughly the work of a run, for shares of a progress bar: parameters × gradients × epochs."""
    return ensemble.parameters(run) * (1 + (run.rho > 0)) * run.epochs


# ---------------------------------------------------------------------------------------------- training


def _train_missing(runs, store, device, deadline, executor, progress) -> None:
    store = None if store is None else Path(store)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    missing = [run for run in runs if records.read(_store(store, run), run) is None]
    if not missing:
        return
    for folder in {_store(store, run) for run in missing} | {_checkpoints(store)}:
        records.check_writable(folder)
    with Progress({run: cost(run) for run in missing}, show=progress and not paths.quiet()) as bar:
        while missing and not _past(deadline):
            outcomes = _train(_groups(missing, store, device), device, deadline, executor, bar)
            if STOPPED in outcomes:
                break
            missing = Group(tuple(missing), store).missing()
            if missing and DONE not in outcomes:
                time.sleep(POLL_SECONDS)  # others are at all that is left


def _train(groups: list[Group], device, deadline, executor, bar) -> list[str]:
    """Have every group trained once; what became of each. Raises the first error when all have ended."""
    processes = min(len(groups), cpu_count()) if device.type == "cpu" else 1
    if executor is None and processes == 1:
        return [work(group, device, deadline, tick=bar.advance) for group in groups]
    parent = os.getpid() if executor is None else None
    executor = executor or get_reusable_executor(processes, timeout=60)
    futures = [executor.submit(work, group, device, deadline, parent) for group in groups]
    try:
        while concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done:
            _poll(groups, bar)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    _poll(groups, bar)
    return [future.result() for future in futures]


def _poll(groups: list[Group], bar: Progress) -> None:
    """Read how far the groups are from the files that `work` leaves, whichever machine it runs on."""
    for group in groups:
        with contextlib.suppress(OSError, ValueError):
            epoch = int(group.file(f"{group.name}.progress").read_text())
            for run in group.runs:
                bar.advance(run, epoch)
        for run in group.runs:
            if records.path(_store(group.store, run), run).exists():
                bar.advance(run, run.epochs)


DONE, BUSY, STOPPED = "done", "busy", "stopped"


def work(group: Group, device, deadline: float | None, parent: int | None = None, tick=None) -> str:
    """Train one group and file its records: "done"; or "busy", as another process is at it, or "stopped" in time.

    Runs in whatever process an executor gives it. With `parent` it stops once that process is no longer its parent.
    """
    with contextlib.ExitStack() as claims:
        try:
            for run in group.missing():
                # The kernel drops the lock of a process that dies, so a claim never outlives its owner.
                claims.enter_context(FileLock(group.file(f"{run.key}.lock"), timeout=0))
        except Timeout:
            return BUSY
        missing = group.missing()
        if missing:
            if _past(deadline):
                return STOPPED
            try:
                trained = _fit(group, device, deadline, parent, tick)
            except train.Stopped:
                return STOPPED
            for record in trained:
                if Run.from_dict(record["run"]) in missing:
                    records.write(_store(group.store, group.runs[0]), record)
        for ending in ("pt", "runs", "progress"):
            group.file(f"{group.name}.{ending}").unlink(missing_ok=True)
        return DONE


def _fit(group: Group, device: torch.device, deadline, parent, tick) -> list[dict]:
    file = group.file(f"{group.name}.runs")
    file.write_text(json.dumps([run.as_dict() for run in group.runs]))
    progress = file.with_suffix(".progress")

    def stop(epoch: int, last: float) -> bool:
        if tick is None:
            progress.write_text(str(epoch))
        else:
            for run in group.runs:
                tick(run, epoch)
        return (parent is not None and os.getppid() != parent) or _past(deadline, last)

    with _one_thread(device):
        return train.fit(ensemble.engine(group.runs, device), checkpoint=file.with_suffix(".pt"), stop=stop)


@contextlib.contextmanager
def _one_thread(device: torch.device):
    # The last bits of a matrix product depend on the number of threads, so on a CPU it is always one.
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _past(deadline: float | None, spare: float = 0.0) -> bool:
    return deadline is not None and time.time() + spare > deadline


# ---------------------------------------------------------------------------------------------- planning


def plan(runs: Iterable[Run], *, store: str | Path | None = None, device=None) -> pandas.DataFrame:
    """What a sweep of these runs would find and cost, one row a run: its fields, key, status and `seconds`.

    status: "done", "diverged", or "missing". seconds: expected time on this device for one run, from a few timed
    steps; 0 where a record is there, NaN where the data to time with is not.
    """
    runs = list(runs)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with _one_thread(device):
        return pandas.DataFrame([_row(run, records.read(_store(store, run), run)) for run in runs]).drop(
            columns=[*FINAL, "curves", "provenance"]
        )


# ---------------------------------------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    """`python -m lib.sweep EXPERIMENT --preset P`: train a grid, or with --plan say what it would take."""
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description=main.__doc__)
    parser.add_argument("experiment", choices=sorted(experiments.EXPERIMENTS), metavar="EXPERIMENT", nargs="+")
    parser.add_argument("--preset", choices=experiments.PRESETS, default="smoke")
    parser.add_argument("--where", default=None, help="a pandas query that narrows the grid, such as 'width <= 1'")
    parser.add_argument("--plan", action="store_true", help="train nothing; say what is cached, missing, and its cost")
    parser.add_argument("--budget", help="stop cleanly within seconds, or a time such as 9m; run again to go on")
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--store", help="the folder of records")
    given = parser.parse_args(arguments)
    grid = [run for name in given.experiment for run in experiments.EXPERIMENTS[name](given.preset)]
    if given.where:
        frame = pandas.DataFrame([run.as_dict() for run in grid])
        grid = [grid[i] for i in frame.query(given.where).index]
    if given.plan:
        print(plan(grid, store=given.store, device=given.device).to_string())
        return 0
    try:
        found = sweep(grid, store=given.store, device=given.device, budget=given.budget)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    counts = found["status"].value_counts()
    print(", ".join(f"{n} {status}" for status, n in counts.items()))
    return 0


if __name__ == "__main__":
    from lib import sweep as module  # so that workers find `work` in lib.sweep and not in __main__

    sys.exit(module.main())
