"""What was measured about each claim, and its verdict: `figures/<preset>/claims.{json,md}`.

A verdict follows from a condition, or from an effect with its interval, by the rule of `lib.paper.claims.verdicts`;
none is typed. What a claim rests on, such as seeds and compute, is read from the records whose keys are given.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import pandas
from filelock import FileLock

from lib.core import files, paths
from lib.paper.claims import table, verdicts
from lib.paper.claims.claim import Claim
from lib.paper.claims.effect import Effect
from lib.paper.claims.evidence import Evidence, gather
from lib.paper.claims.measured import Finding, Verdict, behind
from lib.paper.claims.statements import CLAIMS
from lib.paper.experiments import changed_keys, check_preset

WORDS = 30  # of what is measured, in a table


class Book:
    """The claims of one notebook at one preset. Opening it marks them all "not tested" until they are recorded.

    Where a claim is recorded with runs that are not of the preset's experiments, there is no verdict: the preset's
    claims are as they were before, and those of this notebook go to figures/<preset>-changed."""

    def __init__(self, notebook: str, preset: str):
        if notebook not in CLAIMS:
            raise ValueError(f"notebook = {notebook!r}: has no claims; there are {', '.join(CLAIMS)}")
        self.notebook, self.preset = notebook, check_preset(preset)
        self._rows = {name: self._blank(claim) for name, claim in CLAIMS[notebook].items()}
        self._changed, self._before = False, _read(paths.gallery(preset) / "claims.json").get(notebook)
        self._write()

    def record(
        self,
        name: str,
        *,
        measured: str,
        holds: bool | None = None,
        effect: Effect | None = None,
        keys: Iterable[str] = (),
        untested: str = "",
        undecided: str = "",
    ) -> str:
        """Say what was measured about a claim, and return its verdict.

        measured: in words, with unit; parts with "; " between them, the most important first. Those beyond WORDS become
            the claim's note.
        holds: whether the condition of a claim is met that has no effect; None: it was not tested.
        effect: of a claim that is judged by an interval.
        keys: of the records that the number comes from. Seeds, networks, compute and deviations are read from them.
        untested: why these runs cannot test the claim, such as networks that have not learned; empty where they can.
        undecided: why a condition is neither met nor not, and what would tell; empty where it is one of them.
        Raises ValueError for a claim that the notebook has not.
        """
        if name not in self._rows:
            raise ValueError(f"claim = {name!r}: {self.notebook} has {', '.join(self._rows)}")
        claim, keys = CLAIMS[self.notebook][name], sorted(set(keys))
        if foreign := changed_keys(keys, self.preset):
            untested = f"{len(foreign)} of {len(keys)} runs are not of the preset {self.preset}"
            if not self._changed:
                self._write(self._before)
            self._changed = True
        evidence = gather(keys, claim.experiments)
        verdict, stand_in, reason = _verdict(claim, effect, holds, evidence, untested, undecided)
        measured, note = _shortened(measured)
        takes = undecided or verdicts.takes(claim, effect, evidence.seconds)
        self._rows[name] = self._blank(claim) | {
            "measured": measured,
            **_numbers(claim, effect),
            "seeds": (effect.seeds if effect else 0) or evidence.seeds,
            "networks": (effect.networks if effect and effect.seeds else 0) or evidence.networks,
            "verdict": verdict,
            "stand_in": stand_in,
            "reason": reason,
            "takes": takes if verdict == verdicts.UNDECIDED else "",
            "deviations": "; ".join(filter(None, (evidence.deviations, claim.deviation))),
            "seconds": round(evidence.seconds, 1),
            "keys": keys,
            "note": note,
        }
        self._write()
        return verdict

    def judge(self, name: str, finding: Finding | Verdict, *frames: pandas.DataFrame) -> str:
        """Record a finding, show it under the claim, and return the verdict. frames: the tables that it comes from,
        which say what records are behind it (`measured.behind`). Raises ValueError as `record`."""
        from IPython.display import display  # here alone: a batch job needs no IPython

        finding = finding if isinstance(finding, Finding) else Finding(*finding)
        word = self.record(name, keys=[key for frame in frames for key in behind(frame)], **finding._asdict())
        text = self._rows[name]["claim"]
        end = "" if text.endswith("?") else "."
        display(table.Markdown(f"**{word.capitalize()}.** {text}{end} Measured: {finding.measured}."))
        return word

    def table(self, *names: str) -> "table.Markdown":
        """These claims, or all, with their effects and verdicts."""
        return table.Markdown("\n".join(table.short({name: self._rows[name] for name in names or self._rows})))

    def _blank(self, claim: Claim) -> dict:
        train = [f"python -m lib.sweep {' '.join(claim.experiments)} --preset {self.preset}"] * bool(claim.experiments)
        draw = f"python -m lib.paper.notebooks figures {self.notebook} --preset {self.preset}"
        row = {"source": claim.source, "claim": claim.text, "condition": claim.condition, "paper": claim.paper}
        row |= {"measured": "", **_numbers(claim, None), "seeds": 0, "networks": 0, "verdict": verdicts.NOT_TESTED}
        row |= {"stand_in": "", "reason": "no runs", "takes": "", "deviations": claim.deviation, "seconds": 0.0}
        return row | {"keys": [], "command": " && ".join([*train, draw]), "note": ""}

    def _write(self, rows: dict | None = None):
        folder = paths.gallery(self.preset, self._changed)
        folder.mkdir(parents=True, exist_ok=True)
        # Another notebook of this preset may be writing its own.
        with FileLock(folder.parent / f".claims-{folder.name}.lock"):
            book = _read(folder / "claims.json")
            book = {name: book[name] for name in CLAIMS if name in book} | {self.notebook: rows or self._rows}
            text = json.dumps(dict(sorted(book.items())), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            files.replace(folder / "claims.json", text)
            files.replace(folder / "claims.md", table.page(book, self.preset))


def _verdict(
    claim: Claim, effect: Effect | None, holds: bool | None, evidence: Evidence, untested: str, undecided: str
) -> tuple[str, str, str]:
    """The verdict; of a stand-in for the paper's images what the same rule says of it; and why there is no verdict."""
    if untested:
        return verdicts.NOT_TESTED, "", untested
    verdict = verdicts.judge(claim, effect, holds, comparable=not (evidence.stand_in or evidence.shorter))
    if undecided and verdict == verdicts.NOT_TESTED:
        verdict = verdicts.UNDECIDED
    alone = claim.kind == "condition" and bool(claim.experiments) and evidence.seeds == 1
    if alone and verdict in (verdicts.REPRODUCED, verdicts.CONTRADICTED):
        verdict = verdicts.UNDECIDED
    if verdict in (verdicts.NOT_TESTED, verdicts.QUESTION):
        return verdict, "", "too few runs" * (verdict == verdicts.NOT_TESTED)
    if evidence.stand_in:
        return verdicts.NOT_TESTED, verdict, f"another protocol: {evidence.deviations}"
    if claim.own_length and evidence.shorter:
        return verdicts.NOT_TESTED, "", f"another protocol: {evidence.deviations}"
    return verdict, "", ""


def _numbers(claim: Claim, effect: Effect | None) -> dict:
    """The fields of an effect in claims.json; null where a number is unknown."""
    known = effect or Effect(math.nan, math.nan, math.nan)
    paper = claim.value if math.isnan(known.paper) else known.paper
    low, high = known.beside
    numbers = {"effect": known.value, "low": known.low, "high": known.high, "low_beside": low, "high_beside": high}
    numbers |= {"detectable": known.detectable, "paper_value": math.nan if paper is None else paper}
    plain = {name: None if not math.isfinite(number) else float(f"{number:.6g}") for name, number in numbers.items()}
    design = [[float(f"{n:.6g}") if math.isfinite(n) else None for n in network] for network in known.design]
    return {"unit": known.unit, "interval": known.interval if known.known else ""} | plain | {"design": design}


def _read(file: Path) -> dict:
    """The verdicts in a file; one that cannot be read is kept beside it with the ending `.bad`."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        os.replace(file, file.with_suffix(".bad"))
        return {}


def _shortened(text: str) -> tuple[str, str]:
    """The first parts of a text, of WORDS words together or a single one, and the others."""
    first, *others = text.split("; ")
    while others and len(f"{first} {others[0]}".split()) <= WORDS:
        first = f"{first}; {others.pop(0)}"
    return first, "; ".join(others)
