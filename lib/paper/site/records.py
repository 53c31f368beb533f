"""The records behind the figures and claims of a preset, for the page that shows each with its curves."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib.core import paths
from lib.paper.captions import CAPTIONS
from lib.paper.site import figures
from lib.runs import Measurement, Run
from lib.runs.words import sentence

DIGITS = 4  # significant ones, of a curve


def uses(folder: Path, book: Mapping[str, Mapping]) -> tuple[dict[str, list], dict[str, list]]:
    """The figures and the claims of a preset by the keys of the records that they use."""
    in_figures, in_claims = {}, {}
    for name in (name for part in CAPTIONS.values() for name in part):
        for key in figures.keys(folder / f"{name}.csv"):
            in_figures.setdefault(key, []).append(name)
    for rows in book.values():
        for name, row in rows.items():
            for key in row.get("keys", []):
                in_claims.setdefault(key, []).append(name)
    return in_figures, in_claims


def rows(folder: Path, book: Mapping[str, Mapping]) -> Iterator[dict]:
    """One entry a record that is committed, or that a figure or a claim of this preset uses."""
    in_figures, in_claims = uses(folder, book)
    committed = paths.records("mnist")
    used = in_figures.keys() | in_claims.keys()
    files = {file.stem: file for file in paths.records("digits").glob("*.json") if file.stem in used}
    files |= {file.stem: file for file in committed.glob("*.json")}
    for key, file in sorted(files.items()):
        yield entry(key, file) | {"figures": in_figures.get(key, []), "claims": in_claims.get(key, [])}


def entry(key: str, file: Path) -> dict:
    """What the site shows of one record: in words, settings that differ from the defaults, curves, numbers, origin."""
    record = json.loads(file.read_text(encoding="utf-8"))
    measurement = "measurement" in record
    what = (Measurement if measurement else Run).of_record(record)
    run, default = what.run if measurement else what, Run().as_dict()
    values = record["values"] if measurement else record["final"]
    curves = {} if measurement else record["curves"]
    return {
        "key": key,
        "kind": what.kind if measurement else "run",
        "of": run.key if measurement else "",
        "words": sentence(run),
        "settings": {name: value for name, value in run.as_dict().items() if value != default[name]},
        "status": record["status"],
        "curves": {name: [rounded(v) for v in curve] for name, curve in curves.items() if name != "epoch"},
        "epochs": curves.get("epoch", []),
        "final": {name: rounded(value) for name, value in values.items() if isinstance(value, int | float)},
        "origin": {name: v for name, v in record["provenance"].items() if not isinstance(v, dict | list)},
    }


def rounded(value: float | None) -> float | None:
    """A number to DIGITS significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
