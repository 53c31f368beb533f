"""A store under attack: `python -m benchmarks.stress` kills sweeps at random moments, and counts what is lost.

Two processes at a time train, and measure on, one small grid in one store, each with a pool of workers. Again and again
one of their processes, parent or worker, is killed with SIGKILL after a random time. One in ten writers has a limit on
the size of files (RLIMIT_FSIZE), which refuses to write as a full disk does. --folder puts the stores on a small file
system of your choice, such as a tmpfs, which is then really filled now and then. Whenever the grid is complete, and in
the end, its records are compared with those of an undisturbed sweep.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from lib.core import paths
from lib.runs import Measurement, Run, records
from lib.runs import __main__ as command
from lib.sweep import measure, sweep

SMALL = {"samples": 20, "batch": 4, "draws": 2}
TINY = 4096  # bytes of a file, on a disk that is full


def grid() -> list[Run]:
    base = Run(dataset="digits", width=0.05, epochs=20, n_train=512, batch_size=16, momentum=0.9)
    sam = base.but(optimizer="sam", rho=0.05)
    return [run.but(seed=seed) for run in (base, sam, sam.but(rho=0.1)) for seed in range(4)]


def measurements() -> list[Measurement]:
    return [Measurement(run, "flatness", SMALL) for run in grid()[:4]]


def work(store: Path, full: bool) -> None:
    """What each of the processes does that are killed."""
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (TINY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    measure(measurements(), store=store, device="cpu", progress=False)
    sweep(grid(), store=store, device="cpu", progress=False)


def start(store: Path, full: bool) -> subprocess.Popen:
    call = [sys.executable, "-m", "benchmarks.stress", "--work", str(store), *["--full"] * full]
    return subprocess.Popen(call, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    count = {"parents killed": 0, "workers killed": 0, "full disks": 0, "stores completed": 0}
    while count["parents killed"] + count["workers killed"] < kills:
        if any(writer is not None and writer.poll() == 0 for writer in writers):
            end(writers)
            writers = [None, None]
            count["stores completed"] += 1
            wrong = added(wrong, compare(store, undisturbed))
            shutil.rmtree(store)
        for i, writer in enumerate(writers):
            if writer is None or writer.poll() is not None:
                full = dice.random() < 0.1
                count["full disks"] += full
                writers[i] = start(store, full)
        if small and dice.random() < 0.2:
            count["full disks"] += 1
            fill(ballast)
        time.sleep(dice.uniform(0.1, longest))
        ballast.unlink(missing_ok=True)
        alive = [processes(writer.pid) for writer in writers if writer.poll() is None]
        seen |= {pid for family in alive for pid in family}
        if alive:
            family = dice.choice(alive)
            victim = family[0] if dice.random() < 0.3 or len(family) == 1 else dice.choice(family[1:])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                count["parents killed" if victim == family[0] else "workers killed"] += 1
    end(writers)
    return count, wrong, seen


def end(writers: list[subprocess.Popen]) -> None:
    for writer in writers:
        writer.kill()
        writer.wait()


def added(one: dict, other: dict) -> dict:
    return {name: one.get(name, 0) + n for name, n in other.items()}


def compare(store: Path, undisturbed: Path) -> dict[str, int]:
    """How many records the store has lost, changed or invented; stale locks, and torn files."""
    expected = {file.name: parts(file) for file in undisturbed.glob("*.json")}
    made = {file.name: parts(file) for file in store.glob("*.json")}
    stale = 0
    for file in (store / "checkpoints").glob("*.lock"):
        try:
            with FileLock(file, timeout=0):
                pass
        except Timeout:
            stale += 1
    return {
        "lost": len(expected.keys() - made.keys()),
        "changed": sum(made[name] != expected[name] for name in expected.keys() & made.keys()),
        "invented": len(made.keys() - expected.keys()),
        "stale locks": stale,
        "torn files": len(list(store.rglob("*.bad"))),
    }


def parts(file: Path) -> dict:
    record = json.loads(file.read_text(encoding="utf-8"))
    what = command.kind_of(record).of_record(record)
    if records.read(file.parent, what) is None:
        return {"no record": file.name}
    return {name: part for name, part in record.items() if name != "provenance"}


def orphans(seen: set[int], wait: float = 90.0) -> int:
    """How many of these processes, or children of theirs, still work on after a while."""
    deadline = time.monotonic() + wait
    while True:
        left = [pid for pid in seen if b"loky" in _line(pid) or b"benchmarks.stress" in _line(pid)]
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
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        work(given.work, given.full)
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store, undisturbed = Path(folder) / "store", Path(folder) / "undisturbed"
        work(undisturbed, full=False)
        print(f"undisturbed in {time.monotonic() - began:.0f} s", flush=True)
        dice = random.Random(given.seed)
        count, wrong, seen = attack(store, undisturbed, given.kills, given.longest, dice, given.folder is not None)
        left = orphans(seen)
        print(", ".join(f"{n} {name}" for name, n in count.items()), flush=True)
        work(store, full=False)
        found = added(wrong, compare(store, undisturbed)) | {"orphans": left}
    print(", ".join(f"{n} {name}" for name, n in found.items()))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
