"""A short GPU allocation, spent on what is worth most: does it compute what a CPU does, how fast, then records.

    python -m benchmarks.gpu --minutes 9 --out DIR [--pack FILE] [--parts checks,rates,train] [--toy]

DIR/log.jsonl has whatever was found at once, and DIR/records.tar.gz is written anew after every group that is trained,
so that an allocation that ends early loses only the group under way. What fails is logged, and the rest goes on. A
group is started only where it can end in time. PACK is a .tar.xz of data sets (`make gpu-pack`), unpacked into
SAM_DATA. SAM_COMMIT names the commit of a copy whose git does not know it. `--toy` makes a dry run at small sizes.
"""

import argparse
import functools
import json
import tarfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks import gpu_checks
from lib.core import files, paths
from lib.core.conditions import Condition
from lib.paper import experiments
from lib.runs import Measurement, Run, records
from lib.sweep import calibration, groups, measure, sweep
from lib.sweep.planning import run_of
from lib.training import engines, fitting

TOY = {"vit": 32}  # widths of a dry run are 4 or less, but for these
SPARE = 1.15  # of what a group is expected to take


class Lease:
    """A device, a deadline, and a log that survives."""

    def __init__(self, out: Path, minutes: float, device: torch.device):
        self.out, self.device, self.began, self.end = out, device, time.time(), time.time() + 60 * minutes
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        return self.end - time.time()

    def log(self, **entry):
        line = json.dumps({"at": round(time.time() - self.began, 1), **entry}, default=str)
        with open(self.out / "log.jsonl", "a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def attempt(self, name: str, call, *args):
        """Log what the call returns, and how long it took; or how it failed. What it returns, or None."""
        began = time.time()
        try:
            result = call(*args)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
            self.log(what=name, failed=f"{type(error).__name__}: {error}"[:600], where=where)
            return None
        self.log(what=name, seconds=round(time.time() - began, 2), result=result)
        return result


QUEUE = [*experiments.DECIDING, "mnist_mlp", "mnist_mlp_twice", "mnist_flatness"]


def queue(names: Iterable[str], preset: str) -> list[list[Run | Measurement]]:
    """What to train, in this order: experiments, or items of the data that decide, each whole or "NAME: CONDITION"."""
    grids = experiments.EXPERIMENTS | {name: item.runs for name, item in experiments.DECIDING.items()}
    parts = []
    for name, _, where in (text.partition(":") for text in names):
        fulfilled = Condition(where) if where else lambda values: True
        parts += _by_width([what for what in grids[name.strip()](preset) if fulfilled(run_of(what).as_dict())])
    return parts


def _by_width(grid: list) -> Iterable[list]:
    """A grid in parts: networks of one kind of run, of a few seeds where they are large."""
    widths = dict.fromkeys((run_of(what).width, run_of(what).epochs) for what in grid)
    for width, epochs in widths:
        part = [what for what in grid if (run_of(what).width, run_of(what).epochs) == (width, epochs)]
        size = {"vgg11": 6, "mlp": 64 if width < 5 else 9}.get(run_of(part[0]).model, 1)
        part.sort(key=lambda what: run_of(what).seed)
        yield from (part[i : i + size] for i in range(0, len(part), size))


def expected(runs: list[Run], device: torch.device) -> float:
    """Seconds to train these runs."""
    total = 0.0
    for group in engines.partition(runs, device):
        rate, (n, m), run = _rate(calibration.alike(group), device), calibration.n_samples(group[0]), group[0]
        total += run.epochs * n * rate.train + (run.epochs // run.eval_every * m + n + m) * rate.evaluate
    return total


_rate = functools.cache(calibration.calibrate)


def harvest(lease: Lease) -> int:
    """Put all records of this allocation into one file; how many there are."""
    stores = {paths.records(dataset) for dataset in ("mnist", "digits")}
    new = [file for store in stores for file in store.glob("*.json") if file.stat().st_mtime >= lease.began]
    with files.replacing(lease.out / "records.tar.gz") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
        for file in new:
            archive.add(file, f"records/{file.name}")
    return len(new)


def train_all(lease: Lease, wanted: Iterable[list]) -> None:
    """Train, part by part, what has no record and can end in time."""
    fitting.CHECKPOINT_SECONDS = float("inf")  # the disk goes with the machine
    for part in wanted:
        missing = [what for what in part if groups.wanting(groups.store_of(None, what), what)]
        if not missing:
            continue
        runs = list(dict.fromkeys(map(run_of, missing)))
        name = f"{runs[0].model} {runs[0].width:g} on {runs[0].dataset}, {runs[0].epochs} epochs, {len(runs)} runs"
        seconds = lease.attempt(f"expect {name}", expected, runs, lease.device)
        if seconds is None or SPARE * seconds > lease.left:
            continue
        lease.attempt(f"train {name}", _trained, missing, lease.device)
        lease.log(what="records so far", result=harvest(lease))


def _trained(missing: list, device: torch.device) -> dict:
    table = (sweep if isinstance(missing[0], Run) else measure)(missing, device=device, progress=False)
    return table["status"].value_counts().to_dict()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--parts", default="checks,rates,train", help="of these, separated by commas")
    parser.add_argument("--queue", nargs="+", default=QUEUE, metavar="NAME[: CONDITION]", help="what to train")
    parser.add_argument("--toy", action="store_true", help="a dry run at small sizes, on the CPU where there is no GPU")
    given = parser.parse_args(arguments)
    device = groups.choose_device(None)
    if device.type != "cuda" and not given.toy:
        parser.error("torch sees no GPU here; --toy makes a dry run on the CPU")
    lease = Lease(given.out, given.minutes, device)
    if given.pack:
        lease.attempt("unpack", unpack, given.pack)
    lease.attempt("machine", records.provenance, device)
    if "checks" in given.parts:
        lease.attempt("ceilings", gpu_checks.ceilings, device, 256 if given.toy else 8192)
        for name, runs in gpu_checks.kinds().items():
            shorter = (
                [run.but(width=min(run.width, TOY.get(run.model, 4)), epochs=1) for run in runs] if given.toy else runs
            )
            lease.attempt(f"off from a CPU: {name}", gpu_checks.disagreement, shorter, device)
        lease.attempt("eigenvalues", gpu_checks.eigenvalues, *((0.1, 20) if given.toy else (1.0, 1000)), device)
        lease.attempt("error of SAM's correction", gpu_checks.correction_error, device, 2 if given.toy else 16)
    if "rates" in given.parts:
        grid = experiments.mnist_mlp("smoke" if given.toy else "lite")
        for width in dict.fromkeys(run.width for run in grid):
            runs, steps = [run for run in grid if run.width == width], 2 if given.toy else 30
            lease.attempt(
                f"steps a second, width {width:g}, {len(runs)} runs", gpu_checks.stack_rate, runs, steps, device
            )
        for width in (4,) if given.toy else (4, 16, 64):
            for name in gpu_checks.VARIANTS:
                what = f"images a second, resnet18 {width}, {name}"
                lease.attempt(what, gpu_checks.loop_rate, "resnet18", width, name, 1 if given.toy else 10, device)
    if "train" in given.parts:
        toy = ["mnist_mlp: width == 0.05 and seed == 0"]
        train_all(lease, queue(toy, "smoke") if given.toy else queue(given.queue, "lite"))
    lease.log(what="end", left=round(lease.left))


def unpack(pack: Path) -> None:
    """Unpack data sets into SAM_DATA."""
    with tarfile.open(pack) as archive:
        archive.extractall(paths.data(), filter="data")


if __name__ == "__main__":
    main()
