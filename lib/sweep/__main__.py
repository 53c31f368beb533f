"""The command `python -m lib.sweep EXPERIMENT --preset P`: train a grid, or with --plan say what it would take."""

import argparse
import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pandas
import torch

from lib.core import terminal
from lib.core.conditions import Condition
from lib.paper import experiments
from lib.paper.experiments import figures
from lib.runs import Measurement, Run, records
from lib.sweep import clusters, groups, torchrun
from lib.sweep.grid import measure, parse_seconds, sweep
from lib.sweep.planning import summary

Grid = Sequence[Run | Measurement]


def main(arguments: list[str] | None = None, *, spent: float = 0.0) -> int:
    """`python -m lib.sweep EXPERIMENT --preset P`: train a grid, or with --plan say what it would take."""
    items = experiments.DECIDING
    known = experiments.EXPERIMENTS | {name: item.runs for name, item in items.items()}
    known |= {name: functools.partial(experiments.together, name) for name in experiments.TOGETHER}
    whole = (f"{name} (all of its notebook)" for name in experiments.TOGETHER)
    names = ", ".join((*experiments.EXPERIMENTS, *whole, f"deciding (one after the other: {', '.join(items)})"))
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description=main.__doc__)
    parser.add_argument(
        "experiment", nargs="*", metavar="EXPERIMENT", help=f"{names}; with --plan by default all figures"
    )
    parser.add_argument("--preset", choices=experiments.PRESETS, default="smoke")
    parser.add_argument(
        "--where", help="a condition that narrows the grid, such as 'width <= 1'; the groups stay those of the whole"
    )
    parser.add_argument("--plan", action="store_true", help="train nothing; say what is cached, missing, and its cost")
    parser.add_argument("--budget", help="stop cleanly within seconds, or a time such as 9m; run again to go on")
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--store", help="the folder of records")
    parser.add_argument("--dask", metavar="ADDRESS", help="train on the workers of this scheduler: tcp://host:8786")
    parser.add_argument("--slurm", metavar="OPTIONS", help="train in jobs of Slurm: 'partition=long,gpus=1,jobs=8'")
    terminal.tolerate()
    given = parser.parse_args(arguments)
    in_order = given.experiment == ["deciding"]
    given.experiment = list(items) if in_order else given.experiment
    unknown = sorted(set(given.experiment) - set(known))
    if unknown or not (given.experiment or given.plan):
        message = f"unknown experiment {', '.join(unknown)}" if unknown else "no experiment given"
        parser.error(f"{message}; there are {names}")
    try:
        if given.experiment:
            grids = {name: known[name](given.preset) for name in given.experiment}
        else:
            grids = figures.grids(given.preset)
        wholes = [items[name].grid(given.preset) if name in items else grid for name, grid in grids.items()]
        whole = list(dict.fromkeys(what for grid in wholes for what in grid))
        together = _where(list(dict.fromkeys(what for grid in grids.values() for what in grid)), given.where)
        if torchrun.follows():
            if not given.plan:
                torchrun.follow(groups.choose_device(given.device))
            return 0
        if given.plan:
            kept = set(together)
            grids = {name: [what for what in grid if what in kept] for name, grid in grids.items()}
            if len(grids) > 1:
                grids["all"] = together
            _print_plan(given.preset, grids, whole, groups.choose_device(given.device), given.store)
            for name in (name for name in items if name in grids):
                print(f"{name} adds {items[name].adds}")
            return 0
        with _connect(given) as cluster:
            if cluster:
                print(cluster.description, file=sys.stderr, flush=True)
            parts = zip(grids.values(), wholes, strict=True) if in_order else [(together, whole)]
            made = _train(parts, set(together), given, spent, cluster)
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


def _connect(given) -> contextlib.AbstractContextManager[clusters.Cluster | None]:
    """What trains, where it is not this machine alone as ever."""
    if not torchrun.launched():
        return clusters.connect(given.dask, given.slurm)
    if given.dask or given.slurm:
        raise ValueError("torchrun trains with the processes that it has started: leave out --dask and --slurm")
    return torchrun.lead(groups.choose_device(given.device))


def _train(
    grids: Iterable[tuple[Grid, Grid]], kept: set, given, spent: float, cluster: clusters.Cluster | None
) -> list[pandas.DataFrame]:
    """Train the kept runs of one grid after the other, each in the groups of the whole one beside it, as long as the
    budget lasts, of which some seconds are spent; give keys and statuses."""
    deadline = None if given.budget is None else time.monotonic() + parse_seconds(given.budget) - spent
    device = None if torchrun.launched() else given.device  # one of several GPUs is that of this process
    where = {"device": device or (cluster and cluster.device), "executor": cluster and cluster.executor}
    made = []
    for grid, whole in grids:
        for kind, call in ((Run, sweep), (Measurement, measure)):
            if part := [what for what in grid if isinstance(what, kind) and what in kept]:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                within = [what for what in whole if isinstance(what, kind)]
                made.append(call(part, within=within, store=given.store, budget=left, **where)[["key", "status"]])
    return made


def _print_plan(preset: str, grids: dict[str, Grid], whole: Grid, device: torch.device, store) -> None:
    table = summary(grids, within=whole, store=store, device=device)
    table.index = [" ".join(name) if isinstance(name, tuple) else name for name in table.index]
    unit = "core_hours: of one of its cores; hours: of all" if device.type == "cpu" else "GPU_hours: of this GPU"
    times = [name for name in table if name in ("training", "measuring") or name.endswith("hours")]
    if table[times].max(axis=None) > 10 * 24:
        table[times] /= 24
        table, unit = table.rename(columns=_in_days), _in_days(unit)
    print(f"{preset}, on {records.hardware(device)} ({unit}):")
    print(table[table["runs"] > 0].round(3).to_string(na_rep=""))
    print(
        "Figures that need no runs have no row. A run, or a measurement, that several rows share counts in each, but "
        "once where they are summed."
    )
    print(
        "training: by timing some of it here, the rest in proportion. next_hour: how many runs that would train, the "
        "cheapest first. measuring: by what such measurements took that have a record, on whatever machine"
        " they were taken; without those that have none."
    )


def _in_days(text: str) -> str:
    return text.replace("hours", "days")


def _where(grid: list[Run | Measurement], text: str | None) -> list[Run | Measurement]:
    """The runs, or the measurements on them, that fulfil a condition. Raises ValueError if none does."""
    if text is None:
        return grid
    condition = Condition(text)
    kept = [what for what in grid if condition(groups.run_of(what).as_dict())]
    if not kept:
        raise ValueError(f"condition {text!r}: no run of the grid fulfils it")
    return kept


def _seconds_so_far() -> float:
    """How long this process has run, most of it importing torch; at least that, where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.process_time()


if __name__ == "__main__":
    sys.exit(main(spent=_seconds_so_far()))
