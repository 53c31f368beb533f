"""The pages that the site has beside articles and documentation, in Markdown: front page, claims, gallery, records,
figures to change, references, API."""

import html
import re
from collections.abc import Mapping
from pathlib import Path

from lib.core import paths
from lib.paper.captions import CAPTIONS, number
from lib.paper.claims import pages, table, verdicts
from lib.paper.experiments import PRESETS
from lib.paper.site import figures
from lib.paper.site.figures import blank, slug

Book = Mapping[str, Mapping[str, Mapping]]
MAIN = "fig03_fixed"  # the figure of the front page
PAPER = ("01_convergence", "02_stability", "03_width", "04_sparsity", "05_linearization")


def front(book: Book, preset: str, documentation: list[str]) -> str:
    """The first page: the main finding, a figure, the state of all claims, and ways in."""
    every = {name: row for rows in book.values() for name, row in rows.items()}
    caption = CAPTIONS[figures.NOTEBOOK_OF[MAIN]][MAIN]
    figure = (
        f'<figure class="result main">\n{figures.picture(MAIN, caption.shows, "")}\n<figcaption><p>'
        f"{figures.emphasized(pages.caption(every))}</p>\n"
        f'<p class="provenance"><a href="notebooks/{figures.NOTEBOOK_OF[MAIN]}.html#{MAIN}">in its article</a> · '
        f'<a href="runs.html#figure={MAIN}">its records</a> · <a href="explore.html#width">change ρ, seeds and protocol'
        "</a></p></figcaption>\n</figure>"
    )
    findings = re.sub(r"`([\w-]+)`", r"[`\1`](claims.html#\1)", pages.findings(every))
    findings = re.sub(r"\[`([\w-]+)`\]\((claims.html#[\w-]+)\)", r'<a href="\2"><code>\1</code></a>', findings)
    return bare("front").format(
        preset=preset,
        preset_says=PRESETS[preset],
        figure=figure,
        findings=findings,
        counts=pages.counts(every),
        glance=glance(book),
        paper="\n".join(f"notebooks/{name}" for name in book if name in PAPER),
        companions="\n".join(f"notebooks/{name}" for name in book if name not in PAPER),
        documentation="\n".join(documentation),
    )


def glance(book: Book) -> str:
    """A square for each claim, coloured by its verdict, a line for each section; and what the colours mean."""
    lines = []
    for notebook, rows in book.items():
        squares = "".join(
            f'<a class="square {slug(row["verdict"])}" href="claims.html#{name}" '
            f'title="{html.escape(row["claim"])}: {row["verdict"]}"><span>{name}: {row["verdict"]}</span></a>'
            for name, row in rows.items()
        )
        lines.append(f'<div class="glance"><div>{pages.TITLES.get(notebook, notebook)}</div><div>{squares}</div></div>')
    present = {row["verdict"] for rows in book.values() for row in rows.values()}
    legend = " ".join(f'<span class="chip {slug(v)}">{v}</span>' for v in verdicts.VERDICTS if v in present)
    return "\n".join([*lines, f'<p class="legend">{legend}</p>'])


def claims(book: Book, preset: str) -> str:
    """The table of all claims, whose rows a script sorts and filters."""
    shown_in = {claim: [] for rows in book.values() for claim in rows}
    for part in CAPTIONS.values():
        for name, caption in part.items():
            for claim in caption.claims:
                shown_in.get(claim, []).append(name)
    head = ("claim", "where", "the paper", "measured", "seeds", "verdict", "figure", "records")
    body = "\n".join(
        _row(name, row, notebook, shown_in[name]) for notebook, rows in book.items() for name, row in rows.items()
    )
    columns = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in head)
    return (
        f"# Claims\n\nAt the preset `{preset}`: {PRESETS[preset]}. [What a verdict means](docs/verdicts.md); [how "
        "intervals are made and how often verdicts err](docs/statistics.md).\n\n"
        f'<div class="filters" data-table="table-of-claims"><input type="search" '
        f'placeholder="filter: width, Theorem 9, …" aria-label="filter the claims">'
        f"{_choice('verdict', verdicts.VERDICTS)}"
        f"{_choice('section', [pages.TITLES.get(name, name) for name in book])}<output></output></div>\n"
        f'<div class="wide"><table id="table-of-claims" class="sortable"><thead><tr>{columns}</tr></thead><tbody>\n'
        f"{body}\n</tbody></table></div>\n"
    )


def _choice(name: str, values) -> str:
    options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
    return f'<select data-field="{name}" aria-label="{name}"><option value="">every {name}</option>{options}</select>'


def _row(name: str, row: Mapping, notebook: str, shown_in: list[str]) -> str:
    measured = table.effect_of(row) or row["measured"] or row.get("reason", "")
    number_of = {figure: f'<a href="notebooks/{notebook}.html#{figure}">{number(figure)}</a>' for figure in shown_in}
    records = f'<a href="runs.html#claim={name}">{len(row["keys"])}</a>' if row.get("keys") else ""
    details = {
        "condition": row.get("condition"),
        "measured": row["measured"],
        "not tested": row.get("reason"),
        "to decide": row.get("takes"),
        "differs from the paper": row.get("deviations"),
        "compute": table.compute(row.get("seconds", 0)),
        "note": row.get("note"),
    }
    listed = "".join(f"<dt>{term}</dt><dd>{html.escape(str(text))}</dd>" for term, text in details.items() if text)
    how = (
        f"<details><summary>check</summary><dl>{listed}</dl><pre>{html.escape(row['command'])}</pre></details>"
        if row.get("command")
        else ""
    )
    cells = {
        "claim": f"<code>{name}</code> {html.escape(row['claim'])}{how}",
        "where": html.escape(row["source"]),
        "the paper": html.escape("; ".join(filter(None, (row.get("paper", ""), table.published_of(row))))),
        "measured": html.escape(measured),
        "seeds": row.get("seeds") or "",
        "verdict": f'<span class="chip {slug(row["verdict"])}">{table.verdict_of(row)}</span>',
        "figure": ", ".join(number_of.values()),
        "records": records,
    }
    data = f'data-verdict="{row["verdict"]}" data-section="{html.escape(pages.TITLES.get(notebook, notebook))}"'
    return f'<tr id="{name}" {data}>' + "".join(f'<td data-label="{k}">{v}</td>' for k, v in cells.items()) + "</tr>"


def gallery(book: Book, folder: Path) -> str:
    """Every figure with its number, the colour of its first claim's verdict, and the way to its article."""
    text = "# Gallery\n\nEvery figure leads to its article, where its caption, data, claims and records are.\n"
    for notebook, part in CAPTIONS.items():
        cards = []
        for name, caption in part.items():
            if blank(folder / f"{name}.csv"):
                continue
            row = book.get(notebook, {}).get(caption.claims[0]) if caption.claims else None
            verdict = f'<span class="chip {slug(row["verdict"])}">{row["verdict"]}</span>' if row else ""
            cards.append(
                f'<a class="card" href="notebooks/{notebook}.html#{name}"><img src="figures/{name}.png" loading="lazy" '
                f'alt="{html.escape(caption.shows)}"><span><strong>{number(name)}</strong> {verdict}</span></a>'
            )
        text += (
            f"\n## {pages.TITLES.get(notebook, notebook)}\n\n"
            + '<div class="gallery">\n'
            + "\n".join(cards)
            + "\n</div>\n"
        )
    return text


def bare(name: str) -> str:
    """A page, or the frame of one, that is written by hand in site/."""
    return (paths.ROOT / "site" / f"{name}.md").read_text(encoding="utf-8")


def api() -> str:
    """The API of what docs/use.md offers to lift, by autodoc: each file's names from its table."""
    rows = re.findall(
        r"\[lib/([\w/]+)\.py\]\([^)]*\): ((?:`\w+`(?:, )?)+)", (paths.ROOT / "docs" / "use.md").read_text()
    )
    if not rows:
        raise ValueError("docs/use.md: its table names no file of lib/ with what to take from it")
    text = "# API\n\nWhat can be lifted into other work, each with an example that runs as a test.\n"
    for file, names in rows:
        module = f"lib.{file.replace('/', '.')}"
        members = ", ".join(re.findall(r"`(\w+)`", names))
        text += f"\n## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members: {members}\n```\n"
    return text


REFERENCES = """# References

Every work that an article, a page or a docstring cites.

```{bibliography}
:all:
```
"""
