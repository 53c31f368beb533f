"""The paper's claims, what was measured about each, and whether it holds: `figures/<preset>/claims.{json,md}`.

A verdict is computed from a condition in a notebook, never typed: "supported", "not supported", or "not tested" with
the reason where the runs that would tell are not there.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import pandas

from lib import paths
from lib.experiments import check_preset


@dataclass(frozen=True)
class Claim:
    """source: where in the paper; text: the claim in our words."""

    source: str
    text: str


CLAIMS = {
    "01_convergence": {
        "lemma-5": Claim("Lemma 5", "A SAM gradient is aligned with the full gradient up to a term in βρ"),
        "lemma-6": Claim("Lemma 6", "A SAM gradient is longer than the plain one by a factor of at most 1 + βρ"),
        "thm-12": Claim(
            "Theorems 7, 12", "With interpolation, mini-batch SAM at the theorem's step size stays below its bound"
        ),
        "thm-12-tight": Claim("Theorems 7, 12", "How tight the bound is: measured over guaranteed decay per step"),
        "thm-12-linear": Claim("Theorem 12", "With interpolation the decay is linear, whatever the batch size"),
        "thm-12-noise": Claim("Section 3", "Without interpolation, linear convergence to the minimum is lost"),
        "1a-linear": Claim("Figure 1a", "With enough rank, unnormalized SAM fits the factorization at a linear rate"),
        "1a-stall": Claim("Figure 1a", "With too low a rank, SAM stalls at the best error that the rank allows"),
        "1a-faster": Claim("Figure 1a", "The overparameterized factorization ends at a far lower loss"),
        "1a-normalized": Claim("Section 8", "Normalization makes no practical difference to SAM's convergence"),
        "1b-faster": Claim("Figure 1b", "A wide MLP trained by SAM gets to a given training loss sooner"),
        "1b-seeds": Claim("Figure 1b", "The training curves of SAM agree over the seeds"),
        "1c-faster": Claim("Figure 1c", "A wide ResNet-18 trained by SAM gets to a given training loss sooner"),
        "1c-seeds": Claim("Figure 1c", "The training curves of SAM agree over the seeds"),
    },
}


class Book:
    """The claims of one notebook at one preset. Opening it marks them all "not tested" until they are recorded."""

    def __init__(self, notebook: str, preset: str):
        if notebook not in CLAIMS:
            raise ValueError(f"notebook = {notebook!r}: has no claims; there are {', '.join(CLAIMS)}")
        self.notebook, self.preset = notebook, check_preset(preset)
        self._rows = {
            name: {"source": claim.source, "claim": claim.text, "measured": "", "verdict": "not tested"}
            for name, claim in CLAIMS[notebook].items()
        }
        self._write()

    def record(self, name: str, *, measured: str, holds: bool | None, keys: Iterable[str] = ()) -> None:
        """Say what was measured (with its unit and its spread) and whether the claim holds; None: it was not tested.

        keys: of the records that the number comes from. Raises ValueError for a claim that the notebook has not.
        """
        if name not in self._rows:
            raise ValueError(f"claim = {name!r}: {self.notebook} has {', '.join(self._rows)}")
        verdict = "not tested" if holds is None else "supported" if holds else "not supported"
        self._rows[name] |= {"measured": measured, "verdict": verdict, "keys": sorted(set(keys))}
        self._write()

    def table(self) -> pandas.DataFrame:
        """One row a claim: source, claim, measured, verdict."""
        return pandas.DataFrame.from_dict(self._rows, orient="index").drop(columns="keys", errors="ignore")

    def _write(self):
        folder = paths.figures() / self.preset
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "claims.json"
        try:
            book = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            book = {}
        book = {name: book[name] for name in CLAIMS if name in book} | {self.notebook: self._rows}
        _replace(file, json.dumps(dict(sorted(book.items())), indent=1, ensure_ascii=False) + "\n")
        _replace(folder / "claims.md", _markdown(book, self.preset))


def _markdown(book: dict, preset: str) -> str:
    lines = [f"# Claims at the preset {preset}", ""]
    for notebook, rows in sorted(book.items()):
        lines += [f"## {notebook}", "", "| claim | source | measured | verdict |", "|---|---|---|---|"]
        lines += [f"| {r['claim']} | {r['source']} | {r['measured']} | {r['verdict']} |" for r in rows.values()]
        lines.append("")
    return "\n".join(lines)


def _replace(file, text: str) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def mean_and_spread(values: Iterable[float], unit: str = "", digits: int = 3) -> str:
    """ "mean ± standard deviation (n)" of the values, the form in which measured numbers are given."""
    values = pandas.Series(list(values), dtype=float)
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    middle = f"{values.mean():.{digits}g}" + ("" if math.isnan(spread) else f" ± {spread:.2g}")
    return f"{middle}{' ' * bool(unit)}{unit} (n = {len(values)})"
