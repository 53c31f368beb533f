"""What a record must be, in one place: its parts, its key, numbers that are possible, and its checksum.

Records from before the checksum have none, and are checked otherwise.
"""

import hashlib
import json
import sys

from lib.runs.measurement import Measurement
from lib.runs.run import Run

STATUSES = ("done", "diverged")
CURVES, FINAL = ("epoch", "train_loss"), ("train_loss", "test_loss")  # without which there is no record


def checksum(record: dict) -> str:
    """16 hexadecimal digits: the hash of the canonical JSON of all parts, without the checksum itself."""
    provenance = {name: value for name, value in record["provenance"].items() if name != "checksum"}
    text = json.dumps(record | {"provenance": provenance}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outcome(record: dict) -> str:
    """16 hexadecimal digits: the hash of what training gave, without `provenance`; the same for the same weights."""
    parts = [record[part] for part in ("curves", "final", "status")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def check(record, what: Run | Measurement) -> None:
    """Raise ValueError, with the reason, unless this is the record of that run or measurement."""
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    lacking = [part for part in what.PARTS if part not in record]
    if lacking:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    odd = [part for part in what.PARTS if part != "status" and not isinstance(record[part], dict)]
    if odd:
        raise ValueError(f"no object: {', '.join(odd)}")
    if record["status"] not in STATUSES:
        raise ValueError(f"its status is {record['status']!r}")
    try:
        key = what.of_record(record).key
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its specification cannot be read ({type(error).__name__}: {error})") from error
    if key != what.key:
        raise ValueError(f"its content has the key {key}")
    if isinstance(what, Run):
        _check_curves(record["curves"], what, record["status"])
        _check_final(record["final"], record["status"])
    else:
        if not record["values"]:
            raise ValueError("values: there are none")
        _check_numbers("values", record["values"])
    if record["provenance"].get("checksum", checksum(record)) != checksum(record):
        raise ValueError("its checksum is another: it was changed after it was written")


def _check_curves(curves: dict, run: Run, status: str) -> None:
    odd = [name for name, curve in curves.items() if not isinstance(curve, list) or not all(map(_flat, curve))]
    odd += [name for name in CURVES if name not in curves]
    if odd:
        raise ValueError(f"curves: no list of numbers: {', '.join(odd)}")
    if len({len(curve) for curve in curves.values()}) > 1:
        raise ValueError(f"curves of unequal length: { ({name: len(curve) for name, curve in curves.items()}) }")
    epochs = curves["epoch"]
    if epochs != list(range(1, len(epochs) + 1)) or (status == "done" and len(epochs) != run.epochs):
        raise ValueError(f"curves: {len(epochs)} epochs, of {run.epochs}, or not one after the other")
    _check_numbers("curves", curves)


def _check_final(final: dict, status: str) -> None:
    odd = [name for name, value in final.items() if not _flat(value)]
    if odd:
        raise ValueError(f"final: no number: {', '.join(odd)}")
    _check_numbers("final", final)
    lacking = [name for name in FINAL if final.get(name) is None]
    if status == "done" and lacking:
        raise ValueError(f"final: no {', '.join(lacking)}, though its status is 'done'")
    if status == "diverged" and any(value is not None for value in final.values()):
        raise ValueError("final: numbers, though its status is 'diverged'")


def _flat(value) -> bool:
    """Whether it is a number, or None, where there was none."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _check_numbers(place: str, part: dict) -> None:
    """Raise ValueError for a number that is not finite, an accuracy outside [0, 1], and a loss below 0."""
    for name, value in part.items():
        for number in _numbers(value):
            if not abs(number) <= sys.float_info.max:  # an integer may be beyond what math.isfinite takes
                raise ValueError(f"{place}: {name} is {number}")
            if place != "values" and "loss" in name and number < 0:
                raise ValueError(f"{place}: {name} is {number}, must be at least 0")
            if "accuracy" in name and not 0 <= number <= 1:
                raise ValueError(f"{place}: {name} is {number}, must be in [0, 1]")


def _numbers(value):
    if isinstance(value, list):
        for element in value:
            yield from _numbers(element)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
