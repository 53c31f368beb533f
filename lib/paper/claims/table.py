"""Claims as tables in Markdown: a short one for notebooks, the whole one for claims.md."""

import math
from collections.abc import Iterable, Mapping

from lib.paper.claims.effect import Effect, signed
from lib.paper.experiments import PRESETS


class Markdown(str):
    """A text that a notebook shows as Markdown, and so a table of texts with the whole of each."""

    def _repr_markdown_(self) -> str:
        return str(self)


def effect_of(row: Mapping) -> str:
    """The effect of a row of claims.json with its unit and interval; empty where there is none."""
    if row.get("effect") is None:
        return ""
    low, high = (math.nan if row[name] is None else row[name] for name in ("low", "high"))
    return str(Effect(row["effect"], low, high, row["unit"]))


def verdict_of(row: Mapping) -> str:
    """The verdict of a row, and of a stand-in what the rule says of it."""
    return row["verdict"] + (f" (the stand-in: {row['stand_in']})" if row.get("stand_in") else "")


def short(rows: Mapping[str, Mapping]) -> list[str]:
    """The lines of a table with id, claim, paper, effect, seeds and verdict: what a notebook shows."""
    head = ("id", "claim", "the paper", "measured", "seeds", "verdict")
    return _lines(
        head,
        (
            (name, row["claim"], _paper(row), _found(row), row.get("seeds") or "", verdict_of(row))
            for name, row in rows.items()
        ),
    )


def _found(row: Mapping) -> str:
    """What was measured, as an effect where there is one; of what is not tested the reason."""
    return row["reason"] if row.get("reason") else effect_of(row) or row["measured"]


def page(book: Mapping[str, Mapping], preset: str) -> str:
    """claims.md: of each notebook a table of all fields but texts that are long, which follow as a list."""
    lines = [f"# Claims at the preset {preset}", "", f"{preset}: {PRESETS[preset]}.", "", EXPLAINED, ""]
    for notebook, rows in sorted(book.items()):
        lines += [f"## {notebook}", "", *_whole(rows), ""]
        lines += [f"- `{name}`: {text}" for name, row in rows.items() if (text := _details(row))]
        lines.append("")
    return "\n".join(lines)


EXPLAINED = (
    "The effect has its 95% interval. *80%* is the smallest effect that these data would have shown with 80% power. "
    "*Compute* is processor time of the runs behind it. Conditions, what was measured, notes, and what would decide an "
    "undecided claim stand below each table; keys and commands of all are in claims.json."
)


def _whole(rows: Mapping[str, Mapping]) -> list[str]:
    head = ("id", "claim", "where", "the paper", "effect", "80%", "seeds", "networks", "verdict", "deviations")
    head += ("compute", "records")
    return _lines(
        head,
        (
            (
                name,
                row["claim"],
                row["source"],
                _paper(row),
                effect_of(row),
                "" if row.get("detectable") is None else f"{row['detectable']:.2g}",
                row.get("seeds") or "",
                row.get("networks") or "",
                verdict_of(row),
                row.get("deviations", ""),
                compute(row.get("seconds", 0)),
                f"{len(row.get('keys', []))}: {row['keys'][0]} …" if row.get("keys") else "",
            )
            for name, row in rows.items()
        ),
    )


def _details(row: Mapping) -> str:
    parts = {
        "condition": row.get("condition"),
        "measured": row["measured"],
        "interval": row.get("interval"),
        "the other interval": _beside(row),
        "not tested": row.get("reason"),
        "to decide": row.get("takes"),
        "note": row.get("note"),
        "repeat": f"`{row['command']}`" if row.get("command") else "",
    }
    return " ".join(f"*{name}*: {text}." for name, text in parts.items() if text)


def _beside(row: Mapping) -> str:
    low, high = row.get("low_beside"), row.get("high_beside")
    return "" if low is None or high is None else f"95% {signed(low)} to {signed(high)}"


def published_of(row: Mapping) -> str:
    """The paper's number of a row with its unit; empty where there is none."""
    number = row.get("paper_value")
    return "" if number is None else f"{signed(number)} {row['unit']}".strip()


def _paper(row: Mapping) -> str:
    return "; ".join(filter(None, (row.get("paper", ""), published_of(row))))


def compute(seconds: float) -> str:
    """Seconds of a processor in words; empty for none."""
    if not seconds:
        return ""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def _lines(head: Iterable[str], rows: Iterable[Iterable]) -> list[str]:
    head = list(head)
    texts = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in texts]
