"""What the records behind a claim say about it: seeds, networks, seconds of compute, and how their protocol differs.

The paper's protocol is the grid of the preset `paper` of the claim's experiments. A record of another data set, length
or size than any in it is a deviation; a stand-in for the images is one in kind, and so is a length that is not the
paper's.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.core import paths
from lib.paper.experiments import EXPERIMENTS
from lib.runs import Measurement, Run

STAND_IN = "digits"
REENCODED = {"cifar10-jpeg": "cifar10"}  # the same images
NETWORK = ("dataset", "model", "width", "sparsity", "pruner", "alpha", "linearize")


@dataclass(frozen=True)
class Evidence:
    """seeds, networks: how many different ones; seconds: of the runs and measurements together; stand_in: whether their
    images stand in for others; shorter: whether their length or size is not the paper's; deviations: in words."""

    seeds: int = 0
    networks: int = 0
    seconds: float = 0.0
    stand_in: bool = False
    shorter: bool = False
    deviations: str = ""


def gather(keys: Iterable[str], experiments: Sequence[str] = ()) -> Evidence:
    """The evidence in the records with these keys; those that are no longer there are left out."""
    records = [record for key in dict.fromkeys(keys) if (record := _record(key))]
    runs = [record for record, _ in records]
    seconds = sum(seconds for _, seconds in records)
    seeds = {run["seed"] for run in runs}
    networks = {tuple(run.get(name) for name in NETWORK) for run in runs}
    if not runs or not experiments:
        return Evidence(len(seeds), len(networks), seconds)
    protocols = [_protocol(name) for name in experiments]
    wanted = {field: set().union(*(protocol[field] for protocol in protocols)) for field in protocols[0]}
    present = {field: {run.get(field) for run in runs} for field in wanted}
    images = {REENCODED.get(name, name) for name in present["dataset"]}
    stand_in = STAND_IN in images - wanted["dataset"]
    off = [field for field in ("epochs", "width") if not present[field] <= wanted[field]]
    named = (["dataset"] if present["dataset"] - wanted["dataset"] else []) + off
    deviations = "; ".join(_differs(field, present[field], wanted[field]) for field in named)
    return Evidence(len(seeds), len(networks), seconds, stand_in, bool(off), deviations)


def _differs(field: str, present: set, wanted: set) -> str:
    name = {"dataset": "", "epochs": "epochs ", "width": "width "}[field]
    return f"{name}{_listed(present)} instead of {_listed(wanted)}"


def _listed(values: set) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, (int, float)) else v for v in sorted(values))


@functools.cache
def _protocol(name: str) -> dict[str, set]:
    runs = [what.run if isinstance(what, Measurement) else what for what in EXPERIMENTS[name]("paper")]
    return {field: {getattr(run, field) for run in runs} for field in ("dataset", "epochs", "width")}


def _record(key: str) -> tuple[dict, float] | None:
    for dataset in ("", STAND_IN):
        file = paths.records(dataset) / f"{key}.json"
        try:
            return _read(file, file.stat().st_mtime_ns)
        except OSError:
            continue
    return None


@functools.lru_cache(maxsize=8192)
def _read(file: Path, _: int) -> tuple[dict, float]:
    """The fields of the run that a record is of, and its seconds; the second argument is when the file was changed."""
    record = json.loads(file.read_text(encoding="utf-8"))
    what = Measurement.of_record(record).run if "measurement" in record else Run.of_record(record)
    return what.as_dict(), float(record["provenance"].get("seconds") or 0.0)
