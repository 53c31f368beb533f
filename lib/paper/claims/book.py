"""What was measured about each claim, and whether it holds: `figures/<preset>/claims.{json,md}`.

A verdict is computed from a condition in a notebook, never typed: "supported", "not supported", or "not tested" with
the reason where the runs that would tell are not there.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import pandas
from filelock import FileLock

from lib.core import files, paths
from lib.paper.claims.statements import CLAIMS
from lib.paper.experiments import PRESETS, changed_keys, check_preset
from lib.runs import UNRECORDED

WORDS = 30  # of what is measured, in a table
Verdict = tuple[str, bool | None]  # what was measured, in words, and whether the claim holds; None: not tested


class Book:
    """The claims of one notebook at one preset. Opening it marks them all "not tested" until they are recorded.

    Where a claim is recorded with runs that are not of the preset's experiments, there is no verdict: the preset's
    claims are as they were before, and those of this notebook go to figures/<preset>-changed."""

    def __init__(self, notebook: str, preset: str):
        if notebook not in CLAIMS:
            raise ValueError(f"notebook = {notebook!r}: has no claims; there are {', '.join(CLAIMS)}")
        self.notebook, self.preset = notebook, check_preset(preset)
        self._rows = {
            name: {"source": claim.source, "claim": claim.text, "measured": "", "verdict": "not tested", "note": ""}
            for name, claim in CLAIMS[notebook].items()
        }
        self._changed, self._before = False, _read(paths.gallery(preset) / "claims.json").get(notebook)
        self._write()

    def record(self, name: str, *, measured: str, holds: bool | None, keys: Iterable[str] = ()) -> str:
        """Say what was measured (with its unit and its spread) and whether the claim holds; None: it was not tested.

        measured: parts with "; " between them, the most important first. Those beyond WORDS become the claim's note.
        keys: of the records that the number comes from. Returns the verdict.
        Raises ValueError for a claim that the notebook has not.
        """
        if name not in self._rows:
            raise ValueError(f"claim = {name!r}: {self.notebook} has {', '.join(self._rows)}")
        keys = sorted(set(keys))
        measured, note = _shortened(measured)
        if foreign := changed_keys(keys, self.preset):
            holds, note = None, f"{len(foreign)} of {len(keys)} runs are not of the preset {self.preset}; {note}"
            if not self._changed:
                self._write(self._before)
            self._changed = True
        verdict = "not tested" if holds is None else "supported" if holds else "not supported"
        self._rows[name] |= {"measured": measured, "verdict": verdict, "note": note, "keys": keys}
        self._write()
        return verdict

    def table(self, *names: str) -> "Markdown":
        """These claims, or all, as in claims.md."""
        return Markdown("\n".join(_rows(self._rows[name] for name in names or self._rows)))

    def _write(self, rows: dict | None = None):
        folder = paths.gallery(self.preset, self._changed)
        folder.mkdir(parents=True, exist_ok=True)
        # Another notebook of this preset may be writing its own.
        with FileLock(folder.parent / f".claims-{folder.name}.lock"):
            book = _read(folder / "claims.json")
            book = {name: book[name] for name in CLAIMS if name in book} | {self.notebook: rows or self._rows}
            text = json.dumps(dict(sorted(book.items())), indent=1, ensure_ascii=False) + "\n"
            files.replace(folder / "claims.json", text)
            files.replace(folder / "claims.md", _markdown(book, self.preset))


def _read(file: Path) -> dict:
    """The verdicts in a file; one that cannot be read is kept beside it with the ending `.bad`."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        os.replace(file, file.with_suffix(".bad"))
        return {}


class Markdown(str):
    """A text that a notebook shows as Markdown, and so a table of texts with the whole of each."""

    def _repr_markdown_(self) -> str:
        return str(self)


def _markdown(book: dict, preset: str) -> str:
    lines = [f"# Claims at the preset {preset}", "", f"{preset}: {PRESETS[preset]}.", ""]
    for notebook, rows in sorted(book.items()):
        lines += [f"## {notebook}", "", *_rows(rows.values()), ""]
    return "\n".join(lines)


def _shortened(text: str) -> tuple[str, str]:
    """The first parts of a text, of WORDS words together or a single one, and the others."""
    first, *others = text.split("; ")
    while others and len(f"{first} {others[0]}".split()) <= WORDS:
        first = f"{first}; {others.pop(0)}"
    return first, "; ".join(others)


def _rows(rows: Iterable[dict]) -> list[str]:
    columns = ("claim", "source", "measured", "verdict", "note")
    texts = [
        columns,
        ["---"] * len(columns),
        *([row.get(name, "").replace("|", "\\|") for name in columns] for row in rows),
    ]
    return [f"| {' | '.join(line)} |" for line in texts]


def keys(*tables: pandas.DataFrame) -> list[str]:
    """Of the records behind these tables: of runs, or of measurements and of the runs that these are of. Where a run
    diverged there is nothing to measure, and only the run has a record."""
    result = []
    for table in tables:
        recorded = table[~table["status"].isin(UNRECORDED)]
        if "run_key" in table:
            result += [*recorded["run_key"], *recorded["key"][recorded["status"] != "diverged"]]
        else:
            result += recorded["key"].tolist()
    return result


def lacking(*tables: pandas.DataFrame, without: Iterable[str] = (*UNRECORDED, "diverged")) -> str:
    """How many of the runs in these tables have a status with which they cannot tell; empty where all can."""
    status = pandas.concat(tables)["status"]
    lost = [f"{(status == name).sum()} {name}" for name in without if (status == name).any()]
    return f"{' and '.join(lost)} of the {len(status)} runs that would tell" if lost else ""


def mean_and_spread(values: Iterable[float], unit: str = "", digits: int = 3) -> str:
    """ "mean ± standard deviation (n)" of the values, the form in which measured numbers are given."""
    values = pandas.Series(list(values), dtype=float)
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    middle = f"{values.mean():.{digits}g}" + ("" if math.isnan(spread) else f" ± {spread:.2g}")
    return f"{middle}{' ' * bool(unit)}{unit} (n = {len(values)})"
