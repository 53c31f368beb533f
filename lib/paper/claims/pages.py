"""The parts of README and docs/ that claims.json of the preset `lite` determines, between the marks `<!-- NAME -->` and
`<!-- /NAME -->` of a page. What stands outside the marks is written by hand."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lib.core import files, paths
from lib.paper.claims import simulation, table, verdicts
from lib.paper.claims.statements import CLAIMS

PRESET = "lite"
FINDINGS = {
    "Width": ("3a-fixed-trend", "3a-released", "3a-grows"),
    "Convergence": ("1a-linear", "1a-normalized"),
    "Flatness": ("2ab-flatter", "2-zero-loss"),
}
TITLES = {
    "01_convergence": "Convergence (Section 3, Appendix D)",
    "02_stability": "Stability (Section 4, Appendix E)",
    "03_width": "Width (Section 5)",
    "04_sparsity": "Sparsity (Section 6)",
    "05_linearization": "Linearization (Appendix C)",
    "06_bouncing": "Companion: SAM near a minimum",
    "07_benign_overfitting": "Companion: benign overfitting",
    "08_implicit_bias": "Companion: the implicit bias of 1-SAM and n-SAM",
    "09_m_sharpness": "Companion: which perturbation, over how many samples",
    "10_stages": "Companion: when SAM matters, and whether it converges",
}


def book() -> dict[str, dict]:
    """The committed claims of the preset `lite`, by notebook."""
    return json.loads((paths.ROOT / "figures" / PRESET / "claims.json").read_text(encoding="utf-8"))


def update() -> list[Path]:
    """Write every part anew; the pages that changed."""
    changed = []
    for page, parts in _parts(book()).items():
        before = page.read_text(encoding="utf-8")
        after = before
        for name, text in parts.items():
            after = filled(after, name, text)
        if after != before:
            files.replace(page, after)
            changed.append(page)
    return changed


def filled(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of this name. ValueError for a page without them.

    >>> filled("a <!-- x -->old<!-- /x --> b", "x", "new")
    'a <!-- x -->\\nnew\\n<!-- /x --> b'
    """
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"name = {name!r}: the page has no marks <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page)


def _parts(claims: Mapping[str, Mapping]) -> dict[Path, dict[str, str]]:
    every = {name: row for rows in claims.values() for name, row in rows.items()}
    return {
        paths.ROOT / "README.md": {"caption": caption(every), "findings": findings(every)},
        paths.ROOT / "docs" / "verdicts.md": {"counts": counts(every), "tables": tables(claims)},
        paths.ROOT / "docs" / "statistics.md": {"pooling": pooling(every["3a-grows"]), "rates": error_rates(claims)},
    }


def caption(every: Mapping[str, Mapping]) -> str:
    """What is said under the first figure."""
    row = every["3a-fixed-trend"]
    return (
        f"Every dot is the gap of one seed, at ρ = 0.05 and 0.1. The gap changes by {table.effect_of(row)} (a decade: "
        f"ten times as many parameters). That it grows is *{row['verdict']}*. The published Figure 3a, at the best ρ, "
        f"has {table.published_of(every['3a-grows'])}."
    )


def findings(every: Mapping[str, Mapping]) -> str:
    """FINDINGS as a list: the claims in our words, what was measured, and the verdicts."""
    lines = []
    for title, names in FINDINGS.items():
        lines.append(f"- **{title}.** " + " ".join(f"{cited(name, every[name])}." for name in names))
    return "\n".join(lines)


def cited(name: str, row: Mapping) -> str:
    """A claim with its number and its verdict, as README cites it."""
    number = table.effect_of(row) or row["measured"].split("; ")[0]
    return f"{row['claim']}: {number} (*{row['verdict']}*: `{name}`)"


def counts(every: Mapping[str, Mapping]) -> str:
    """How many claims have each verdict."""
    number = Counter(row["verdict"] for row in every.values())
    words = ", ".join(f"{number[verdict]} *{verdict}*" for verdict in verdicts.VERDICTS if number[verdict])
    return f"Of {len(every)} claims and questions: {words}."


def tables(claims: Mapping[str, Mapping]) -> str:
    """A short table for each section, then what would decide what is undecided."""
    lines = []
    for notebook, rows in claims.items():
        lines += [f"## {TITLES.get(notebook, notebook)}", "", *table.short(rows), ""]
        open_ = {name: row["takes"] for name, row in rows.items() if row["takes"]}
        if open_:
            lines += ["What would decide the undecided ones:", ""]
            lines += [f"- `{name}`: {text}." for name, text in open_.items()] + [""]
    return "\n".join(lines).rstrip()


def pooling(row: Mapping) -> str:
    """What pooling the variance gains for the trend of Figure 3a."""
    if not row["design"] or row["paper_value"] is None:
        return "The trend of Figure 3a has no runs."
    at, null = (simulation.found_by(row["design"], true) for true in (row["paper_value"], 0.0))
    return (
        f"Take the trend of Figure 3a, with the scatter of its {row['networks']} networks of {row['seeds']} seeds. If "
        f"its slope is the published one, {table.published_of(row)}, the pooled interval is above zero in {at[0]:.0%} "
        f"of simulated data, and that from one slope a seed in {at[1]:.0%}. If there is no trend, they do so in "
        f"{null[0]:.1%} and {null[1]:.1%}; 2.5% is nominal."
    )


def error_rates(claims: Mapping[str, Mapping]) -> str:
    """A table of how often the rule errs and what it finds, of every claim whose design is known."""
    head = ["claim", "no effect", "wrongly reproduced", "effect", "reproduced", "wrongly contradicted", "undecided"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for notebook, rows in claims.items():
        for name, entry in rows.items():
            row = simulation.row(CLAIMS[notebook][name], entry) if name in CLAIMS.get(notebook, {}) else None
            if row:
                cells = [f"`{name}`", *(f"{v:.2g}" if k in ("null", "claimed") else f"{v:.0%}" for k, v in row.items())]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
