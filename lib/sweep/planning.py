"""What a grid would cost on this device: the expected time and memory of every run, before any of it is trained.

With t seconds a training sample and e seconds an evaluated one (of the whole group, `lib.sweep.calibration`), N
training and M test samples,

    seconds = epochs · N t + (epochs / eval_every) · M e + (N + M) e.

A measurement is expected to take as long as those of its kind and options on record did, in proportion to the number of
parameters.
"""

import contextlib
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas
import torch

from lib import data
from lib.data import augment
from lib.runs import Measurement, Run, parameter_count, records, schema
from lib.sweep import rates
from lib.sweep.calibration import Rate, alike, calibrate, n_samples
from lib.sweep.groups import Group, choose_device, cost, devices, folder_of, gather, run_of, store_of, wanting


def plan(
    runs: Sequence[Run | Measurement],
    *,
    within: Sequence[Run | Measurement] = (),
    store: str | Path | None = None,
    device=None,
    progress: bool = True,
) -> pandas.DataFrame:
    """What a sweep of these runs, or of those that these measurements are on, would find and cost, one row each: the
    fields of the run, its `key`, and

    status: "done" or "diverged"; "begun" if there is a checkpoint to go on from; else "missing".
    trained: epochs that are trained already, all of them where there is a record.
    seconds: expected time still to spend on training the run, its share of its group's; sums are core-seconds, or
        GPU-seconds. A run with a record is trained again if something is to be measured on it and it left no weights.
    group: the runs of one group train together. None where there is a record.
    memory: bytes of the group's weights, gradients, momentum, perturbed weights, masks, frozen copy, and data; without
        activations, and what any process takes that imports torch (some 400 MB).
    measurement: its key, None in the row of a run.
    measuring: expected seconds still to spend on the measurement; NaN where no record of such a one tells.

    Few kinds of groups are timed, at most for some seconds, and remembered; others are inferred (`lib.sweep.rates`).

    within: the grid of which they are a part, in whose groups they train; by default they are all of it.
    progress: say what is timed as it goes (never under CI=true).

    Raises DataUnavailable for an image folder that is not there, as its shapes are unknown.

    >>> import tempfile
    >>> from lib.sweep import sweep
    >>> run = Run(dataset="digits", width=0.03, epochs=1, n_train=64)
    >>> with tempfile.TemporaryDirectory() as store:
    ...     _ = sweep([run], store=store, device="cpu", progress=False)
    ...     plan([run], store=store, device="cpu", progress=False)[["status", "seconds"]].values.tolist()
    [['done', 0.0]]
    """
    wanted, device = [what.located() for what in runs], choose_device(device)
    runs = [run_of(what) for what in wanted]
    left = [what for what in wanted if wanting(store_of(store, what), what, warn=True)]
    groups = gather(left, store, device, within=[what.located() for what in within or wanted])
    untrained = {run for group in groups for run in group.missing()}
    result = {run: None if run in untrained else records.read(store_of(store, run), run) for run in runs}
    rows = {
        run: dict(status=record["status"], trained=run.epochs, seconds=0.0, group=None, memory=0)
        for run, record in result.items()
        if record
    }
    incomplete = [group for group in groups if group.missing()]
    weights: dict[tuple[Run, ...], float] = {}
    for group in incomplete:
        weights[alike(group.runs)] = weights.get(alike(group.runs), 0.0) + _weight(group)
    rate = rates.of_kinds(weights, device, folder_of(store), show=progress)
    for group in incomplete:
        epochs, asked = group.checkpointed(), [run for run in group.runs if run in result and run not in rows]
        row = dict(
            status="begun" if group.file("pt").exists() else "missing",
            trained=epochs,
            seconds=_seconds(group.runs[0], epochs, rate[alike(group.runs)]) / len(asked),
            group=group.name,
            memory=memory(group.runs),
        )
        rows |= dict.fromkeys(asked, row)
    untaken = {what.key for what in left if isinstance(what, Measurement)}
    taken = measured(store) if untaken else []
    table = [
        {
            **run.as_dict(),
            "key": run.key,
            **rows[run],
            "measurement": what.key if isinstance(what, Measurement) else None,
            "measuring": _measuring(what, taken) if what.key in untaken else 0.0,
        }
        for what, run in zip(wanted, runs, strict=True)
    ]
    added = ["status", "trained", "seconds", "group", "memory", "measurement", "measuring"]
    return pandas.DataFrame(table, columns=[*Run().as_dict(), "key", *added])


def _weight(group: Group) -> float:
    return n_samples(group.runs[0])[0] * sum(map(cost, group.runs))


def summary(
    grids: Mapping[object, Sequence[Run | Measurement]],
    *,
    within: Sequence[Run | Measurement] = (),
    store: str | Path | None = None,
    device=None,
    progress: bool = True,
) -> pandas.DataFrame:
    """The plan of several grids, one row a grid, in which no run counts twice, indexed by their names:

    runs, and how many of them are cached (with a record), begun and missing; unmeasured, of how many measurements there
    is no record; training and measuring, the time still to spend on both, and their sum, core_hours on a CPU and
    GPU_hours on a GPU: all in hours of one core, or of one GPU. Where there are several also hours, those of this
    machine with all of them. next_hour: how many of the missing runs the next hour of this machine would buy, the
    cheapest groups of all grids first. memory_GB, at the peak.

    Measurements of which no record tells the time are left out of it; see `plan`.
    """
    device = choose_device(device)
    grids = {name: [what.located() for what in grid] for name, grid in grids.items()}
    together = list(dict.fromkeys(what for grid in grids.values() for what in grid))
    table = plan(together, within=within, store=store, device=device, progress=progress)
    index = dict(zip(together, table.index, strict=True))
    processes = len(devices(device))
    costs = table.drop_duplicates("key").groupby("group")["seconds"].sum().sort_values()
    bought = costs.index[(costs <= 3600) & (costs.cumsum() <= 3600 * processes)]
    parts = (table.loc[[index[what] for what in dict.fromkeys(grid)]] for grid in grids.values())
    rows = [_summarize(part, device, processes, bought) for part in parts]
    return pandas.DataFrame(rows, index=pandas.Index(list(grids)))


def _summarize(table: pandas.DataFrame, device: torch.device, processes: int, bought: Collection[str]) -> dict:
    runs = table.drop_duplicates("key")
    parts = pandas.concat([runs["seconds"], table["measuring"]])
    # No group is split, so the longest one is the least that it takes.
    longest = parts.groupby(table["group"].fillna(table["key"])[parts.index].to_numpy()).sum().max()
    training, measuring = runs["seconds"].sum() / 3600, table["measuring"].sum() / 3600
    hours = {"core_hours" if device.type == "cpu" else "GPU_hours": training + measuring}
    if device.type == "cpu" or processes > 1:
        hours["hours"] = max((training + measuring) / processes, longest / 3600 if len(table) else 0.0)
    return {
        "runs": len(runs),
        "cached": int(runs["status"].isin(schema.STATUSES).sum()),
        "begun": int((runs["status"] == "begun").sum()),
        "missing": int((runs["status"] == "missing").sum()),
        "unmeasured": int((table["measuring"] != 0).sum()),
        "training": training,
        "measuring": measuring,
        **hours,
        "next_hour": int(runs["group"].isin(bought).sum()),
        "memory_GB": runs.groupby("group")["memory"].first().nlargest(processes).sum() / 1e9,
    }


# ---------------------------------------------------------------------------------------------- time


def epoch_seconds(group: Group, device: torch.device) -> float:
    """The expected time of one epoch of the group, with its evaluation."""
    n, m = n_samples(group.runs[0])
    rate = calibrate(alike(group.runs), device, group.plain)
    return n * rate.train + m * rate.evaluate


def _seconds(run: Run, epochs: int, rate: Rate) -> float:
    n, m = n_samples(run)
    evaluations = run.epochs // run.eval_every - epochs // run.eval_every
    return (run.epochs - epochs) * n * rate.train + (evaluations * m + n + m) * rate.evaluate


def measured(store: str | Path | None = None) -> list[tuple[Measurement, float]]:
    """The measurements on record in a store and in the default ones, and the seconds that each took."""
    folders = {store_of(given, run) for given in (store, None) for run in (Run(), Run(dataset="digits"))}
    result = []
    for file in (file for folder in folders for file in folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no record, or no measurement's
            record = json.loads(file.read_text(encoding="utf-8"))
            result.append((Measurement.of_record(record), record["provenance"]["seconds"]))
    return result


def _measuring(wanted: Measurement, taken: Sequence[tuple[Measurement, float]]) -> float:
    """The expected seconds: those a parameter, in the median of what is like it on record, times its parameters."""
    like = [
        seconds / parameter_count.parameters(other.run) for other, seconds in taken if _nature(other) == _nature(wanted)
    ]
    return statistics.median(like) * parameter_count.parameters(wanted.run) if like else float("nan")


def _nature(measurement: Measurement) -> tuple:
    return measurement.kind, measurement.options, measurement.run.model, measurement.run.linearize


# ---------------------------------------------------------------------------------------------- memory


def memory(runs: Sequence[Run]) -> int:
    """Bytes of the state and the data of a group; see `plan`."""
    run = runs[0]
    number = torch.finfo(getattr(torch, run.precision)).bits // 8
    buffers = 2 + (run.momentum > 0) + any(r.rho > 0 for r in runs) + any(r.masked for r in runs)
    buffers += run.parts > 1  # the sum over the parts
    buffers += run.linearize != "none"  # the frozen copy
    (n, m), (_, (channels, height, width)) = n_samples(run), data.shapes(run.dataset)
    if data.streamed(run.dataset):
        n, m = run.batch_size, 0  # at a time
    if data.augmented(run.dataset):  # raw and padded bytes to train on
        margin = 2 * augment.MARGIN
        images = n * channels * (height * width + (height + margin) * (width + margin))
    else:
        images = n * channels * height * width * number
    images += m * channels * height * width * number
    return len(runs) * parameter_count.parameters(run) * buffers * number + images
