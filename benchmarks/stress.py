"""A store under attack: `python -m benchmarks.stress` kills sweeps at random moments, and counts what is lost.

Two writers at a time train, and measure on, one small grid in one store, first a random part of it: one in its own
process, with a checkpoint after every epoch, one with a pool of workers. Again and again one of them is killed with
SIGKILL after a random time, of the other a worker that trains, the parent, or all of its processes. One in ten writers
has a limit on the size of files (RLIMIT_FSIZE), which refuses to write as a full disk does. --folder puts the stores on
a small file system of your choice, such as a tmpfs, which is then really filled now and then. Whenever the grid is
complete, and in the end, its records are compared with those of an undisturbed sweep. The counts are written to
stress.json beside this file.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from benchmarks.retrain import difference
from lib.runs import Measurement, Run, records
from lib.runs import __main__ as command
from lib.sweep import groups, measure, sweep
from lib.training import fitting

SMALL = {"samples": 20, "batch": 4, "draws": 2}
TINY = 4096  # bytes of a file, on a disk that is full
ROUNDED = "trained one by one, agreeing up to rounding"


def grid() -> list[Run]:
    base = Run(dataset="digits", width=0.05, epochs=40, n_train=512, batch_size=16, momentum=0.9)
    sam = base.but(optimizer="sam", rho=0.05)
    return [run.but(seed=seed) for run in (base, sam, sam.but(rho=0.1)) for seed in range(4)]


def measurements() -> list[Measurement]:
    return [Measurement(run, "flatness", SMALL) for run in grid()[:4]]


def work(store: Path, alone: bool = True, seed: int | None = None, full: bool = False) -> None:
    """What each of the writers does that are killed; without a seed, all of the grid at once."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (TINY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.environ["LOKY_MAX_CPU_COUNT"] = "1" if alone else "2"
    fitting.CHECKPOINT_SECONDS = -1.0
    measure(measurements(), store=store, device="cpu", progress=False)
    if seed is not None:
        part = random.Random(seed).sample(grid(), 3)
        sweep(part, within=grid(), store=store, device="cpu", progress=False)
    sweep(grid(), store=store, device="cpu", progress=False)


def start(*call) -> multiprocessing.Process:
    """`work` in a process that is forked from a server which has imported all of it."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["benchmarks.retrain"])
    writer = server.Process(target=work, args=call)
    writer.start()
    return writer


def processes(parent: int) -> list[int]:
    """The process and all of its descendants."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(file.read_text().rpartition(")")[2].split()[1]), []).append(int(file.parent.name))
    result = [parent]
    for pid in result:
        result += children.get(pid, [])
    return result


def fill(ballast: Path) -> None:
    """Leave no room on the file system of this file."""
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as out:
        while out.write(bytes(4096)):
            pass


def attack(
    store: Path, undisturbed: Path, kills: int, longest: float, dice: random.Random, small: bool
) -> tuple[dict, dict, set]:
    """Kill so many processes of two writers: what was killed, what was wrong with the stores that were completed on the
    way, each of which is then removed, and all processes that there were. small: fill the file system now and then."""
    ballast = store.parent / "ballast"
    writers, seen, wrong = [None, None], set(), {}
    count = dict.fromkeys(("parents killed", "workers killed", "groups killed", "full disks", "stores completed"), 0)
    while count["parents killed"] + count["workers killed"] + count["groups killed"] < kills:
        if any(writer is not None and writer.exitcode == 0 for writer in writers):
            end(writers)
            writers = [None, None]
            count["stores completed"] += 1
            wrong = added(wrong, compare(store, undisturbed))
            shutil.rmtree(store)
        for i, writer in enumerate(writers):
            if writer is None or writer.exitcode is not None:
                full = dice.random() < 0.1
                count["full disks"] += full
                writers[i] = start(store, i == 0, dice.randrange(10**6), full)
        if small and dice.random() < 0.2:
            count["full disks"] += 1
            fill(ballast)
        time.sleep(dice.uniform(0.1, longest))
        ballast.unlink(missing_ok=True)
        families = [processes(writer.pid) if writer.exitcode is None else [] for writer in writers]
        seen |= {pid for family in families for pid in family}
        name, victims = choose(families, store, dice)
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        count[name] += bool(victims)
    end(writers)
    return count, wrong, seen


def choose(families: list[list[int]], store: Path, dice: random.Random) -> tuple[str, list[int]]:
    """What is counted, and the processes to kill. Workers take long to start, so mostly the writer without any is."""
    alone, pooled = families
    training = [pid for pid in at_work(store) if pid in pooled[1:]]
    chance = dice.random()
    if training and chance < 0.5:
        return "workers killed", [dice.choice(training)]
    if training and chance < 0.6:
        return "groups killed", pooled
    return "parents killed", pooled[:1] if training and chance < 0.7 else alone[:1]


def at_work(store: Path) -> list[int]:
    """The processes that the store says are training."""
    found = []
    for file in (store / "checkpoints").glob("*.progress"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found.append(int(file.read_text().split()[1]))
    return found


def end(writers: list[multiprocessing.Process]) -> None:
    for writer in writers:
        writer.kill()
        writer.join()


def once(store: Path) -> None:
    """`work` to its end, undisturbed."""
    writer = start(store)
    writer.join()
    if writer.exitcode:
        raise RuntimeError(f"an undisturbed writer ended with {writer.exitcode}")


def added(one: dict, other: dict) -> dict:
    return {name: one.get(name, 0) + n for name, n in other.items()}


def compare(store: Path, undisturbed: Path) -> dict[str, int]:
    """How many records the store has lost, changed or invented; stale locks, and torn files; and how many records agree
    up to rounding only, as two workers died at their group, whose runs were then trained one by one."""
    expected = {file.name: _parts(file) for file in undisturbed.glob("*.json")}
    made = {file.name: _parts(file) for file in store.glob("*.json")}
    differing = [name for name in expected.keys() & made.keys() if made[name][0] != expected[name][0]]
    rounded = [name for name in differing if _agree(made[name], expected[name])]
    for name in set(differing) - set(rounded):
        print(f"changed: {name}, {made[name]} instead of {expected[name]}"[:2000], file=sys.stderr, flush=True)
    stale = 0
    for file in (store / "checkpoints").glob("*.lock"):
        try:
            with FileLock(file, timeout=0):
                pass
        except Timeout:
            stale += 1
    return {
        "lost": len(expected.keys() - made.keys()),
        "changed": len(differing) - len(rounded),
        "invented": len(made.keys() - expected.keys()),
        "stale locks": stale,
        "torn files": len(list(store.rglob("*.bad"))),
        ROUNDED: len(rounded),
    }


def _parts(file: Path) -> tuple[dict | None, list | None]:
    """What must not change of a record, None where it is none; and its company, of a measurement that of its run."""
    record = json.loads(file.read_text(encoding="utf-8"))
    what = command.kind_of(record).of_record(record)
    if records.read(file.parent, what) is None:
        return None, None
    trained = records.read(file.parent, groups.run_of(what))
    company = trained["provenance"]["company"] if trained else None
    return {name: part for name, part in record.items() if name != "provenance"}, company


def _agree(one: tuple, other: tuple) -> bool:
    """Whether two records of another company agree up to rounding, by which a sample or two may change sides. Of a
    measurement its sharpness; residuals and what a few draws give may differ by more."""
    if one[0] is None or one[1] == other[1]:
        return False
    one, other = ({"a": part["values"]["a"]} if "values" in part else part for part in (one[0], other[0]))
    return difference(one, other) < 0.02


def orphans(seen: set[int], wait: float = 600.0) -> int:
    """How many of these processes, or children of theirs, still work on after a while."""
    deadline = time.monotonic() + wait
    while True:
        left = [pid for pid in seen if b"loky" in _line(pid) or b"forkserver" in _line(pid)]
        if not left or time.monotonic() > deadline:
            return len(left)
        time.sleep(1)


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--longest", type=float, default=12.0, help="seconds between two kills, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the store is made: a small file system, which is filled")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store, undisturbed = Path(folder) / "store", Path(folder) / "undisturbed"
        once(undisturbed)
        print(f"undisturbed in {time.monotonic() - began:.0f} s", flush=True)
        dice = random.Random(given.seed)
        count, wrong, seen = attack(store, undisturbed, given.kills, given.longest, dice, given.folder is not None)
        left = orphans(seen)
        print(", ".join(f"{n} {name}" for name, n in count.items()), flush=True)
        once(store)
        found = added(wrong, compare(store, undisturbed)) | {"orphans": left}
    print(", ".join(f"{n} {name}" for name, n in found.items()))
    made = records.provenance(torch.device("cpu")) | {"seconds": round(time.monotonic() - began)}
    report = {"provenance": made, "seed": given.seed, "small file system": given.folder is not None, **count, **found}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    return int(any(n for name, n in found.items() if name != ROUNDED))


if __name__ == "__main__":
    sys.exit(main())
