"""The store of records: one JSON file a run, or a measurement on its network, named by the key of either.

A record is written under a temporary name and then renamed, so that any number of processes on any shared file
system may fill one store and a reader never sees half a file. What cannot be read, or is not what its name says, is
reported and treated as missing.
"""

import contextlib
import datetime
import functools
import json
import os
import platform
import subprocess
import uuid
import warnings
from pathlib import Path

import torch

from lib.core import ambient, files, paths
from lib.runs import schema
from lib.runs.measurement import Measurement
from lib.runs.run import Run


class StoreError(OSError):
    """A store cannot be written to; the message says where, why and what to do."""


class RecordWarning(UserWarning):
    """A file in a store is not the record that its name says; it is treated as missing."""


def path(store: Path, what: Run | Measurement) -> Path:
    """The file of its record in a store."""
    return store / f"{what.key}.json"


def read(store: Path, what: Run | Measurement, *, warn: bool = True) -> dict | None:
    """The record of a run or a measurement, or None if there is none; warns (RecordWarning) of another file."""
    file = path(store, what)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        schema.check(record, what)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        if warn:
            message = f"{file}: not a record of this {type(what).__name__.lower()} ({error}); treated as missing"
            warnings.warn(message, RecordWarning, stacklevel=2)
        return None
    return record


def write(store: Path, record: dict) -> Path:
    """File the record and return its path. A file that is there under its name but is not that record is kept beside it
    with the ending `.bad`. Raises StoreError if the store is read-only or full."""
    what = (Measurement if "measurement" in record else Run).of_record(record)
    file = path(store, what)
    record = record | {"provenance": record["provenance"] | {"checksum": schema.checksum(record)}}
    parts = [f"{json.dumps(part)}: {json.dumps(record[part], allow_nan=False)}" for part in what.PARTS]
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        if file.exists() and read(store, what, warn=False) is None:
            os.replace(file, file.with_suffix(".bad"))
        # One line a part: short, and a change shows where it is.
        files.replace(file, "{\n" + ",\n".join(parts) + "\n}\n")
    return file


def check_writable(store: Path) -> None:
    """Raise StoreError unless a file can be made in the store, before hours of training find it out."""
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        probe = store / f".probe-{uuid.uuid4().hex}"
        files.replace(probe, "probe")
        probe.unlink()


@contextlib.contextmanager
def writing(store: Path):
    """Within this context an OSError is one of writing to `store`, and raised as StoreError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(store, error) from error


def cannot_write(store: Path, error: Exception) -> StoreError:
    """The StoreError for an `error` met while writing to `store`."""
    reason = getattr(error, "strerror", None) or error
    return StoreError(
        f"the store {store} cannot be written to: {reason}. Finished runs are safe; free some space "
        "or make it writable, or name another folder with store= or SAM_RECORDS, and run again to go on."
    )


def provenance(device: torch.device) -> dict:
    """Which code, packages and machine: the part of a record in which two repeats of a run may differ."""
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": hardware(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **(_libraries() if device.type == "cuda" else {}),
    }


def _libraries() -> dict:
    """What else results on a GPU depend on."""
    return {"tf32": ambient.rounds_products(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


@functools.cache  # of the code that this process runs, whatever is changed and committed meanwhile
def commit() -> str | None:
    """The commit of this checkout when it was first asked for, with "+" behind it where lib/ had uncommitted changes;
    None outside git. What SAM_COMMIT says comes first. `lib.sweep.worker` asks before it trains."""
    if paths.commit():
        return paths.commit()
    git = ["git", "-C", str(paths.ROOT)]
    try:
        asked = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "lib"], capture_output=True, text=True)
    except OSError:
        return None
    top, _, head = asked.stdout.strip().partition("\n")
    if asked.returncode or Path(top).resolve() != paths.ROOT:  # no checkout, or a copy inside another one's
        return None
    return head[:12] + ("+" if changed.stdout.strip() else "")


def hardware(device: torch.device) -> str:
    """The name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
