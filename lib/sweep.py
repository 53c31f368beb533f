"""The one door to training: give it a grid of runs, get a table back.

`sweep` looks each run up in the store of records and trains what is missing, whole groups at once, over the cores of
this machine or any `concurrent.futures` executor. It may be killed at any moment, stopped by a budget, or started
several times on one store: finished runs are found, unfinished ones go on from their checkpoint, and a run that
another process is at is waited for, not repeated. `python -m lib.sweep EXPERIMENT --preset P` does the same.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

import pandas
import torch
from filelock import FileLock, Timeout
from loky import cpu_count

from lib import experiments, figures, groups, paths, pool, records, selfcheck
from lib.calibration import SAMPLES
from lib.groups import Group
from lib.measurement import Measurement
from lib.planning import plan, run_of, summary
from lib.pool import POLL_SECONDS, WorkerDied
from lib.progress import Progress
from lib.runs import Run
from lib.work import BUSY, DONE, STOPPED, past, work

__all__ = ["measure", "plan", "sweep"]

VISIBLE_SECONDS = 90.0  # a network file system may hide for a minute what another machine has written


def sweep(
    runs: Iterable[Run],
    *,
    train: bool = True,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    budget: float | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Train the runs that have no record yet, then return the table of all, one row a run in the order given.

    train: False only reads; runs without a record have status "missing".
    store: the folder of records; by default `data/records/` (`data/records/digits/` for the stand-in digits).
    device: "cpu" or "cuda"; by default the GPU if there is one.
    budget: seconds, or "90s", "9m", "2h": stop cleanly before so much time is up; the rest stays "missing".
    executor: where groups of runs are trained; by default one process a core on the CPU, here on a GPU. Its workers
        need this code, the data, and the store, all under the same paths.
    progress: show a progress line (never under CI=true).

    The columns are the fields of `Run`, `key`, `status` ("done", "diverged", "missing", "failed"), the final numbers
    (NaN where there are none), `curves` (a dictionary of lists) and `provenance` (a dictionary); both None where the
    run has no record. "failed" is a run whose worker process died each time: with its group, with its group and nothing
    beside it, and by itself with the plainest engine. A FailedWarning names it; the next call tries it again.

    Raises StoreError (read-only or full store), DataUnavailable, ValueError (a budget that is no time, a device that
    is none), TypeError (an executor that is none), and whatever stopped a group of runs, after the other groups have
    ended; of a given executor, BrokenExecutor if its workers died.
    """
    runs = list(runs)
    deadline = None if budget is None else time.time() + seconds(budget)
    _check_executor(executor)
    failed = {}
    if train:
        failed = _make_missing(runs, store, groups.choose_device(device), deadline, executor, progress)
    rows = [_row(run, records.read(groups.store_of(store, run), run), run in failed) for run in runs]
    return pandas.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(FINAL, float))


def measure(
    measurements: Iterable[Measurement],
    *,
    train: bool = True,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    budget: float | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Take the measurements that have no record yet, training the networks whose weights are not at hand, then return
    the table of all, one row a measurement in the order given. Arguments and errors are those of `sweep`.

    Weights are kept beside the checkpoints, so that another measurement on a network needs no training where it was
    trained. The columns are the fields of `Run`, `kind`, `run_key`, `key`, `status` ("done", "missing", "failed", or
    "diverged" where the run did), what was measured by its names, and `provenance`.
    """
    measurements = list(measurements)
    deadline = None if budget is None else time.time() + seconds(budget)
    _check_executor(executor)
    failed = {}
    if train:
        failed = _make_missing(measurements, store, groups.choose_device(device), deadline, executor, progress)
    return pandas.DataFrame([_measured(m, groups.store_of(store, m.run), m.run in failed) for m in measurements])


def _measured(measurement: Measurement, folder: Path, failed: bool) -> dict:
    run, record = measurement.run, records.read(folder, measurement)
    names = {"kind": measurement.kind, "run_key": run.key, "key": measurement.key}
    if record is None:
        trained = records.read(folder, run)
        status = "diverged" if trained and trained["status"] == "diverged" else "failed" if failed else "missing"
        return {**run.as_dict(), **names, "status": status, "provenance": None}
    parts = {name: record[name] for name in ("status", "provenance")}
    return {**run.as_dict(), **names, **parts, **record["values"]}


def _check_executor(executor) -> None:
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor = {executor!r}: must be a concurrent.futures.Executor; dask's is client.get_executor()"
        )


FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_accuracy_even", "test_accuracy_odd")
COLUMNS = (*Run().as_dict(), "key", "status", *FINAL, "curves", "provenance")


def _row(run: Run, record: dict | None, failed: bool) -> dict:
    status = "failed" if failed else "missing"
    row = {**run.as_dict(), "key": run.key, "status": status, "curves": None, "provenance": None}
    if record:
        final = {name: record["final"].get(name) for name in FINAL}
        row |= {name: record[name] for name in ("status", "curves", "provenance")} | final
    return row


def seconds(budget: float | str) -> float:
    """A time such as 540, "540", "90s", "9m" or "2h" in seconds. Raises ValueError for anything else."""
    text = str(budget).strip()
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ValueError(f"budget = {budget!r}: must be seconds or a time such as '90s', '9m', '2h'")
    return value


# ---------------------------------------------------------------------------------------------- the sweep


class FailedWarning(UserWarning):
    """Runs that could not be trained, as each time the worker process died."""


def _make_missing(
    wanted: list[Run | Measurement], store, device, deadline, executor, progress
) -> dict[Run, WorkerDied]:
    """Train, or measure, what has no record yet; the runs that could not be, and why."""
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
    batch = groups.gather(missing, store, device)
    costs = {run: _weight(run) for group in batch for run in group.missing()}
    fruitless = 0  # rounds without a new record, in a row
    with Progress(costs, _epochs(batch), show=progress and not paths.quiet()) as bar:
        while missing and not past(deadline):
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
            batch = groups.gather(missing, store, device)
    for told in selfcheck.failures(groups.folder_of(store), device):
        warnings.warn(
            f"the self-check of this machine failed for {told}; such runs are trained one by one with the plainest "
            "engine (docs/onednn.md)",
            stacklevel=3,
        )
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
    return failed


def _contained(groups_: list[Group], deaths: list[WorkerDied], device, deadline, bar: Progress) -> list:
    """What becomes of these groups one after the other, each in a worker of its own."""
    for group, death in zip(groups_, deaths, strict=True):
        if death.native:  # a damaged process may have written it
            group.file("pt").unlink(missing_ok=True)
    return pool.run(groups_, device, deadline, 1, functools.partial(_poll, groups_, bar))


def _weight(run: Run) -> float:
    """The share of a run in the time to finish, in any unit. An image folder, of unknown size, counts as CIFAR-10."""
    return groups.cost(run) * (run.n_train or SAMPLES.get(run.dataset, SAMPLES["cifar10"])[0])


def _train(batch: list[Group], device, deadline, executor, bar: Progress) -> list:
    """Have every group trained once. What became of each: an outcome of `work`, or the error that stopped it."""
    processes, tick = min(len(batch), cpu_count()) if device.type == "cpu" else 1, functools.partial(_poll, batch, bar)
    if executor is not None:
        return _submitted(batch, device, deadline, executor, tick)
    if processes > 1:
        return pool.run(batch, device, deadline, processes, tick)
    # Those at which a process died that trained them itself are left to the end, and to a process of their own.
    outcomes = {group: _attempt(group, device, deadline, tick) for group in batch if not _abandoned(group)}
    others = [group for group in batch if group not in outcomes]
    outcomes |= zip(others, pool.run(others, device, deadline, 1, tick), strict=True)
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
    futures = []
    try:
        for group in batch:
            futures.append(executor.submit(work, group, device, deadline, None))
        while concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done:
            tick()
    except BrokenExecutor as error:  # before all was submitted
        return [error]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    tick()
    return [future.exception() or future.result() for future in futures]


def _attempt(group: Group, device, deadline, tick) -> str | Exception:
    try:
        return work(group, device, deadline, tick=tick)
    except Exception as error:
        return error
    finally:
        tick()


def _poll(batch: list[Group], bar: Progress) -> None:
    bar.advance(_epochs(batch))


def _epochs(batch: Sequence[Group]) -> dict[Run, int]:
    """How far every run is by the files that `work` leaves, whichever machine it runs on."""
    epochs = {}
    for group in batch:
        epoch = 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            epoch = int(group.file("progress").read_text().split()[0])
        for run in group.runs:
            epochs[run] = run.epochs if records.path(group.store, run).exists() else epoch
    return epochs


# ---------------------------------------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    """`python -m lib.sweep EXPERIMENT --preset P`: train a grid, or with --plan say what it would take."""
    names = ", ".join(experiments.EXPERIMENTS)
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description=main.__doc__)
    parser.add_argument(
        "experiment", nargs="*", metavar="EXPERIMENT", help=f"{names}; with --plan by default all figures"
    )
    parser.add_argument("--preset", choices=experiments.PRESETS, default="smoke")
    parser.add_argument("--where", help="a pandas query that narrows the grid, such as 'width <= 1'")
    parser.add_argument("--plan", action="store_true", help="train nothing; say what is cached, missing, and its cost")
    parser.add_argument("--budget", help="stop cleanly within seconds, or a time such as 9m; run again to go on")
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--store", help="the folder of records")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.experiment) - set(experiments.EXPERIMENTS))
    if unknown or not (given.experiment or given.plan):
        told = f"unknown experiment {', '.join(unknown)}" if unknown else "no experiment given"
        parser.error(f"{told}; there are {names}")
    try:
        if given.experiment:
            grids = {name: experiments.EXPERIMENTS[name](given.preset) for name in given.experiment}
        else:
            grids = figures.grids(given.preset)
        together = _where(list(dict.fromkeys(what for grid in grids.values() for what in grid)), given.where)
        if given.plan:
            kept = set(together)
            grids = {name: [what for what in grid if what in kept] for name, grid in grids.items()}
            if len(grids) > 1:
                grids["all"] = together
            _print_plan(given.preset, grids, groups.choose_device(given.device), given.store)
            return 0
        options = {"store": given.store, "device": given.device, "budget": given.budget}
        made = [
            call(part, **options)[["key", "status"]]
            for kind, call in ((Run, sweep), (Measurement, measure))
            if (part := [what for what in together if isinstance(what, kind)])
        ]
    except (OSError, ValueError, BrokenExecutor) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; run again to go on", file=sys.stderr)
        return 130
    counts = pandas.concat(made)["status"].value_counts()
    more = "; out of time, run again to go on" if "missing" in counts else ""
    print(", ".join(f"{n} {status}" for status, n in counts.items()) + more)
    return 1 if "failed" in counts else 0


def _print_plan(preset: str, grids: dict, device: torch.device, store) -> None:
    table = summary(grids, store=store, device=device)
    table.index = [" ".join(name) if isinstance(name, tuple) else name for name in table.index]
    unit = "core_hours: of one of its cores; hours: of all" if device.type == "cpu" else "GPU_hours: of this GPU"
    print(f"{preset}, on {records.hardware(device)} ({unit}):")
    print(table.round(3).to_string(na_rep=""))
    print("A run, or a measurement, that several rows share counts in each, but once where they are summed.")
    print(
        "training: by timing it here. measuring: by what such measurements took that have a record, on whatever machine"
        " they were taken; without those that have none."
    )


def _where(grid: list[Run | Measurement], query: str | None) -> list[Run | Measurement]:
    """The runs, or the measurements on them, that fulfil a pandas query. Raises ValueError for one that cannot be
    asked, or that none fulfils."""
    if query is None:
        return grid
    frame = pandas.DataFrame([(what.run if isinstance(what, Measurement) else what).as_dict() for what in grid])
    try:
        kept = frame.query(query)
    except Exception as error:  # whatever pandas makes of a wrong expression
        raise ValueError(f"--where {query!r}: {error}; the columns are {', '.join(frame)}") from error
    if kept.empty:
        raise ValueError(f"--where {query!r}: no run of the grid is left")
    return [grid[i] for i in kept.index]


if __name__ == "__main__":
    sys.exit(main())
