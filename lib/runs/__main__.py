"""The command `python -m lib.runs`: where a number comes from.

show KEY      what a record is of, its curves and numbers, what made it, and which figures and claims use it
find QUERY    the records of runs that fulfil a condition, such as 'width == 1 and optimizer == "sam"'
verify        check every record; train a sample of smoke runs twice and compare
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lib.core import paths, terminal
from lib.core.conditions import Condition
from lib.paper import experiments
from lib.runs import Measurement, Run, records, schema
from lib.runs.words import sentence
from lib.sweep import sweep

BARS = "▁▂▃▄▅▆▇█"
SAMPLE = 7  # every so many runs of `mnist_mlp` at smoke


def stores(given: str | None) -> list[Path]:
    """The folder given, or the default ones."""
    return [Path(given).expanduser()] if given else [paths.records("mnist"), paths.records("digits")]


def files(given: str | None) -> Iterator[Path]:
    for store in stores(given):
        yield from sorted(store.glob("*.json"))


def kind_of(record: dict) -> type:
    return Measurement if "measurement" in record else Run


def show(key: str, store: str | None) -> int:
    """Print what is known of one record."""
    file = next((file for file in files(store) if file.stem == key), None)
    if file is None:
        raise ValueError(f"{key}: no such record in {' or '.join(map(str, stores(store)))}")
    record = json.loads(file.read_text(encoding="utf-8"))
    what = kind_of(record).of_record(record)
    schema.check(record, what)
    run = what.run if isinstance(what, Measurement) else what
    print(f"{key}: {f'{what.kind} of ' if isinstance(what, Measurement) else ''}{sentence(run)}")
    default = Run().as_dict()
    print("differs from the defaults:", json.dumps({k: v for k, v in run.as_dict().items() if v != default[k]}))
    if isinstance(what, Measurement):
        print(f"of the run {run.key}; options:", json.dumps(dict(what.options)))
        print("values:", ", ".join(f"{k} {v:.5g}" for k, v in record["values"].items() if isinstance(v, float)))
    else:
        for name in ("train_loss", "test_accuracy"):
            print(f"{name:>14} {sparkline(record['curves'].get(name, []))}")
        final = {k: v for k, v in record["final"].items() if v is not None}
        print(f"{record['status']}:", ", ".join(f"{name} {value:.5g}" for name, value in final.items()))
    print("made by:", ", ".join(f"{k} {v}" for k, v in record["provenance"].items() if not isinstance(v, dict | list)))
    print("used by:", ", ".join(uses(key)) or "no figure and no claim of the committed gallery")
    return 0


def sparkline(values: list, width: int = 50) -> str:
    """A curve in one line, from its least to its largest value."""
    kept = [value for value in values if value is not None]
    if not kept:
        return ""
    kept = kept[:: max(1, -(-len(kept) // width))]
    low, span = min(kept), (max(kept) - min(kept)) or 1.0
    line = "".join(BARS[min(int(8 * (value - low) / span), 7)] for value in kept)
    return f"{line} {values[0]:.4g} to {values[-1]:.4g}" if None not in (values[0], values[-1]) else line


def uses(key: str) -> Iterator[str]:
    """The figures and claims of each preset whose data name this key."""
    for file in sorted(paths.figures().glob("*/*.csv")):
        if key in file.read_text(encoding="utf-8"):
            yield f"{file.parent.name}/{file.stem}"
    for file in sorted(paths.figures().glob("*/claims.json")):
        for claims in json.loads(file.read_text(encoding="utf-8")).values():
            yield from (
                f"{file.parent.name}/claim {name}" for name, row in claims.items() if key in row.get("keys", [])
            )


def find(query: str, store: str | None) -> int:
    """Print a line for each run that fulfils the query."""
    condition, count, passed = Condition(query), 0, []
    for file in files(store):
        record = json.loads(file.read_text(encoding="utf-8"))
        try:
            run = Run.of_record(record) if kind_of(record) is Run else None
        except ValueError as error:  # of a user's model or data that is another one now, or is not there
            passed.append(str(error))
            continue
        if run and condition(run.as_dict()):
            accuracy = record["final"].get("test_accuracy")
            print(run.key, sentence(run), record["status"], "" if accuracy is None else f"test accuracy {accuracy:.4f}")
            count += 1
    for reason, number in collections.Counter(passed).items():
        print(f"{number} records were left out: {reason}", file=sys.stderr)
    print(f"{count} runs", file=sys.stderr)
    return 0 if count else 1


def verify(store: str | None) -> int:
    """Check every record of the stores, and that training gives the same twice. 1 if something is wrong, or if there
    was nothing to check."""
    wrong, commits, checked = 0, collections.Counter(), 0
    for file in files(store):
        checked += 1
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            what = kind_of(record).of_record(record)
            schema.check(record, what)
            if file.stem != what.key:
                raise ValueError(f"its content has the key {what.key}")
            commits[record["provenance"].get("commit")] += 1
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            wrong += 1
            print(f"{file}: {error}")
    lost = {commit: n for commit, n in commits.items() if not in_repository(commit)}
    print(f"{checked} records, {wrong} wrong; {sum(lost.values())} name a commit that cannot be checked out")
    for commit, n in sorted(lost.items(), key=str):
        print(f"  {commit}: {n}")
    compared, differing = twice()
    print(f"{compared} smoke runs trained twice, {differing} differ")
    return int(wrong > 0 or differing > 0 or not checked or not compared)


def in_repository(commit: str | None) -> bool:
    """Whether this commit is one of the checkout, without changes on top."""
    if commit is None or commit.endswith("+"):
        return False
    git = ["git", "-C", str(paths.ROOT), "merge-base", "--is-ancestor", commit, "HEAD"]
    return subprocess.run(git, capture_output=True).returncode == 0


def twice() -> tuple[int, int]:
    """How many runs were trained in two fresh stores, and how many differ outside `provenance`."""
    runs = [run.but(epochs=2) for run in experiments.mnist_mlp("smoke")[::SAMPLE]]
    parts = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            sweep(runs, store=folder, device="cpu", progress=False)
            made = [records.read(Path(folder), run) for run in runs]
            parts.append([{name: record[name] for name in record if name != "provenance"} for record in made])
    return len(runs), sum(one != other for one, other in zip(*parts, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Show, find and verify records."""
    parser = argparse.ArgumentParser(prog="python -m lib.runs", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, argument in (("show", "KEY"), ("find", "QUERY"), ("verify", None)):
        command = commands.add_parser(name, description={"show": show, "find": find, "verify": verify}[name].__doc__)
        if argument:
            command.add_argument("argument", metavar=argument)
        command.add_argument("--store", help="the folder of records; by default those of the project")
    terminal.tolerate()
    given = parser.parse_args(arguments)
    try:
        if given.command == "verify":
            return verify(given.store)
        return {"show": show, "find": find}[given.command](given.argument, given.store)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
