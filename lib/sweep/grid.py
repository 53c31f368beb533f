"""The one door to training: give it a grid of runs, get a table back.

`sweep` looks each run up in the store of records and trains what is missing, whole groups at once, over the cores of
this machine or any `concurrent.futures` executor. It may be killed at any moment, stopped by a budget, or started
several times on one store: finished runs are found, unfinished ones go on from their checkpoint, and a run that
another process is at is waited for, not repeated. `python -m lib.sweep EXPERIMENT --preset P` does the same.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

import pandas
import torch

from lib.runs import Measurement, Run, meaning, records
from lib.sweep import groups
from lib.sweep.rounds import make_missing


def sweep(
    runs: Iterable[Run],
    *,
    train: bool = True,
    within: Iterable[Run | Measurement] | None = None,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    budget: float | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Train the runs that have no record yet, then return the table of all, one row a run in the order given.

    train: False only reads; runs without a record have status "missing".
    within: the grid of which these runs are a part; by default they are all of it. Runs that train together agree with
        those that train otherwise up to rounding only. So each run trains in the group that it has in its whole grid,
        all of which is then on record.
    store: the folder of records; by default `data/records/` (`data/records/digits/` for the stand-in digits).
    device: "cpu" or "cuda"; by default the GPU if there is one.
    budget: seconds, or "90s", "9m", "2h": stop cleanly before so much time is up; the rest stays "missing".
    executor: where groups of runs are trained; by default one process a core on the CPU, here on a GPU. Its workers
        need this code, the data, and the store, all under the same paths.
    progress: show a progress line (never under CI=true).

    A run on an image folder has the digest of what the folder holds now in its row, and so another key than the same
    run had before the folder changed.

    The columns are the fields of `Run`, `key`, `status` ("done", "diverged", "missing", "failed"), the final numbers
    (NaN where there are none), `curves` (a dictionary of lists) and `provenance` (a dictionary); both None where the
    run has no record. "failed" is a run whose worker process died each time: with its group, with its group and nothing
    beside it, and by itself with the plainest engine. A FailedWarning names it; the next call tries it again.

    Raises StoreError (read-only or full store), DataUnavailable, ValueError (a budget that is no time, a device that
    is none, or that is not there, a user's model or data set that is another one than in a record, runs that are not
    `within` their grid), TypeError (an executor that is none, or what is no list of runs), and whatever stopped a group
    of runs, after the other groups have ended; of a given executor, BrokenExecutor if its workers died.

    >>> import tempfile
    >>> run = Run(dataset="digits", width=0.03, epochs=1, n_train=64)
    >>> with tempfile.TemporaryDirectory() as store:
    ...     table = sweep([run], store=store, device="cpu", progress=False)
    >>> table["status"].tolist()
    ['done']
    """
    runs = _checked(runs, Run)
    within = _whole(runs, within, Run)
    _check_meaning(runs, store)
    deadline = None if budget is None else time.time() + parse_seconds(budget)
    _check_executor(executor)
    failed = {}
    if train:
        failed = make_missing(runs, within, store, _training_device(device, executor), deadline, executor, progress)
    rows = [_row(run, records.read(groups.store_of(store, run), run), run in failed) for run in runs]
    return pandas.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(FINAL, float))


def measure(
    measurements: Iterable[Measurement],
    *,
    train: bool = True,
    within: Iterable[Run | Measurement] | None = None,
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

    >>> import tempfile
    >>> run = Run(dataset="digits", width=0.03, epochs=1, n_train=64)
    >>> wanted = Measurement(run, "landscape", {"samples": 20, "points": 3})
    >>> with tempfile.TemporaryDirectory() as store:
    ...     table = measure([wanted], store=store, device="cpu", progress=False)
    >>> table["status"].tolist()
    ['done']
    """
    measurements = _checked(measurements, Measurement)
    within = _whole(measurements, within, Measurement)
    _check_meaning([measurement.run for measurement in measurements], store)
    deadline = None if budget is None else time.time() + parse_seconds(budget)
    _check_executor(executor)
    failed = {}
    if train:
        chosen = _training_device(device, executor)
        failed = make_missing(measurements, within, store, chosen, deadline, executor, progress)
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


def _checked(given, kind: type) -> list:
    """The runs, or measurements, as a list, with the digests of image folders; TypeError for what is none of them."""
    name = f"{kind.__name__.lower()}s"
    if isinstance(given, kind) or not isinstance(given, Iterable):
        raise TypeError(f"{name} = {given!r}: must be a list of {kind.__name__}, or another iterable of them")
    given = list(given)
    for what in given:
        if not isinstance(what, kind):
            raise TypeError(f"{name}: {what!r} is no {kind.__name__}")
    return [what.located() for what in given]


def _whole(asked: list, within, kind: type) -> list:
    """The grid of which these are a part. Raises ValueError where it is not."""
    if within is None:
        return asked
    whole = _checked(within, kind)
    if lacking := set(asked) - set(whole):
        raise ValueError(f"within: must hold all that is asked for; it lacks {', '.join(what.key for what in lacking)}")
    return whole


def _check_meaning(runs: list[Run], store) -> None:
    """Raise ValueError for a user's model or data set that is another one than in a record."""
    for folder in {groups.store_of(store, run) for run in runs}:
        meaning.check(folder, [run for run in runs if groups.store_of(store, run) == folder])


def _training_device(device: str | torch.device | None, executor: Executor | None) -> torch.device:
    chosen = groups.choose_device(device)
    if executor is not None:  # whose workers may have what this process has not
        return chosen
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = {str(device)!r}: torch sees no GPU here; take 'cpu', or leave it out")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device = {str(device)!r}: torch sees {torch.cuda.device_count()} here, from cuda:0 on")
    return chosen


def _check_executor(executor) -> None:
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor = {executor!r}: must be a concurrent.futures.Executor; dask's is client.get_executor()"
        )


FINAL = tuple(f"{split}_{name}" for split in ("train", "test", "validation") for name in ("loss", "accuracy"))
FINAL = (*FINAL, "test_accuracy_even", "test_accuracy_odd")
COLUMNS = (*Run().as_dict(), "key", "status", *FINAL, "curves", "provenance")


def _row(run: Run, record: dict | None, failed: bool) -> dict:
    status = "failed" if failed else "missing"
    row = {**run.as_dict(), "key": run.key, "status": status, "curves": None, "provenance": None}
    if record:
        final = {name: record["final"].get(name) for name in FINAL}
        row |= {name: record[name] for name in ("status", "curves", "provenance")} | final
    return row


def parse_seconds(budget: float | str) -> float:
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
