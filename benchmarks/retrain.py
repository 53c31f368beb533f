"""Do records come out the same today? `python -m benchmarks.retrain KEY …` trains their runs again and compares.

Runs are trained in a store of their own, in the company that their records name: those that were trained together are
asked for together. Everything outside `provenance` is compared. Exits with 1 if a record differs by more than rounding.
"""

import argparse
import json
import sys
from pathlib import Path

from lib.core import paths
from lib.core.conditions import Condition
from lib.runs import Run, records
from lib.sweep import groups, sweep

ROUNDING = 1e-6  # relative


def difference(old, new) -> float:
    """The largest relative difference of two numbers at the same place in two parts of records; inf where they have
    another shape."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return max((difference(old[name], new[name]) for name in old), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max(map(difference, old, new), default=0.0)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) / max(abs(old), abs(new)) if old != new else 0.0
    return 0.0 if old == new else float("inf")


def chosen(keys: list[str], where: str | None) -> list[Run]:
    """The runs of the default store with these keys, or that fulfil a condition. ValueError if there is none."""
    found = [json.loads(file.read_text()) for file in sorted(paths.records("mnist").glob("*.json"))]
    runs = {run.key: run for run in (Run.of_record(record) for record in found if "run" in record)}
    if where:
        condition = Condition(where)
        keys = [*keys, *(key for key, run in runs.items() if condition(run.as_dict()))]
    lacking = [key for key in keys if key not in runs]
    if lacking or not keys:
        raise ValueError(f"no record of {', '.join(lacking) or 'such a run'}")
    return [runs[key] for key in dict.fromkeys(keys)]


def with_company(runs: list[Run], store: Path) -> list[Run]:
    """The runs, and after them those that trained together with them, on which their last bits depend; these groups are
    filed in the store. Records from before companies were recorded have none."""
    result = list(runs)
    for run in runs:
        keys = records.read(paths.records(run.dataset), run)["provenance"].get("company", [])
        made = [paths.records(run.dataset) / f"{key}.json" for key in keys]
        if len(made) > 1 and all(file.exists() for file in made):
            together = tuple(Run.of_record(json.loads(file.read_text())) for file in made)
            groups.folder_of(store).mkdir(parents=True, exist_ok=True)
            groups.Group(together, groups.store_of(store, run), groups.folder_of(store)).register()
            result += together
    return list(dict.fromkeys(result))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrain", description=__doc__)
    parser.add_argument("keys", nargs="*", metavar="KEY")
    parser.add_argument("--where", help="a condition on the fields of runs")
    parser.add_argument("--store", type=Path, default=paths.ROOT / "build" / "retrain", help="where they are trained")
    parser.add_argument("--budget", help="stop within a time such as 9m; run again to go on")
    given = parser.parse_args(arguments)
    try:
        runs = chosen(given.keys, given.where)
        table = sweep(with_company(runs, given.store), store=given.store, budget=given.budget)[: len(runs)]
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    worst = 0.0
    for run, status in zip(runs, table["status"], strict=True):
        if status == "missing":
            print(f"{run.key}: out of time, run again to go on")
            continue
        old, new = (records.read(store, run) for store in (paths.records(run.dataset), given.store))
        off = max(difference(old[part], new[part]) for part in ("curves", "final", "status"))
        worst = max(worst, off)
        print(f"{run.key} ({run.model} of width {run.width:g}): {f'off by {off:.1e}' if off else 'the same numbers'}")
    return int(worst > ROUNDING)


if __name__ == "__main__":
    sys.exit(main())
