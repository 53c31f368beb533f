"""A figure on the site: the picture with its alternative text, number, finding, data, claims, records and cell."""

import html
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas

from lib.paper.captions import CAPTIONS, finding, number
from lib.paper.claims import verdicts

NOTHING = "No run that it needs has a record at this preset."
NOTEBOOK_OF = {name: notebook for notebook, part in CAPTIONS.items() for name in part}
EXPLORED = {"fig03a": "width", "fig11": "width", "fig05": "width", "fig03_fixed": "width", "fig03_selection": "width"}
EXPLORED |= {"figE1": "stability", "fig02ab": "landscape", "figB1": "bouncing"}


@cache
def keys(csv: Path) -> tuple[str, ...]:
    """The keys of the records behind a figure, from the columns of its CSV that hold keys."""
    head = pandas.read_csv(csv, nrows=0).columns
    columns = [name for name in head if name.endswith(("key", "keys"))]
    if not columns:
        return ()
    table = pandas.read_csv(csv, usecols=columns, dtype=str)
    return tuple(
        dict.fromkeys(key for name in columns for text in table[name].dropna().unique() for key in text.split())
    )


@cache
def blank(csv: Path) -> bool:
    """Whether the figure was drawn from no rows, as nothing it needs has a record."""
    return pandas.read_csv(csv, nrows=1).empty


def slug(verdict: str) -> str:
    """The class of a verdict in the style sheet.

    >>> slug("reproduced, smaller")
    'reproduced-smaller'
    """
    return re.sub(r"\W+", "-", verdict)


def chip(name: str, row: Mapping | None, up: str) -> str:
    """A claim's id in the colour of its verdict, as a link to its row."""
    verdict = row["verdict"] if row else verdicts.NOT_TESTED
    return f'<a class="chip {slug(verdict)}" href="{up}claims.html#{name}" title="{verdict}">{name}</a>'


def block(name: str, folder: Path, rows: Mapping[str, Mapping], up: str = "../") -> str:
    """The figure in HTML, without a blank line, so that Markdown leaves it alone.

    folder: of the preset's figures; rows: of claims.json, those of the figure's notebook; up: to the site's root."""
    caption = CAPTIONS[NOTEBOOK_OF[name]][name]
    behind = keys(folder / f"{name}.csv")
    parts = [f'<a href="{up}figures/{name}.csv">data (CSV)</a>']
    if caption.claims:
        parts.append("claims " + " ".join(chip(claim, rows.get(claim), up) for claim in caption.claims))
    if behind:
        parts.append(f'<a href="{up}runs.html#figure={name}">{len(behind)} record{"s" * (len(behind) > 1)}</a>')
    parts.append(f'<a href="#cell-{name}">the cell that made it</a>')
    if name in EXPLORED:
        parts.append(f'<a href="{up}explore.html#{EXPLORED[name]}">change it yourself</a>')
    text = " · ".join(parts)
    empty = blank(folder / f"{name}.csv")
    said = NOTHING if empty else emphasized(finding(caption, rows))
    shown = "" if empty else f"{picture(name, caption.shows, up)}\n"
    return (
        f'<figure class="result" id="{name}">\n{shown}'
        f"<figcaption><p><strong>{number(name)}.</strong> {html.escape(caption.shows)}</p>\n"
        f'<p class="finding">{said}</p>\n<p class="provenance">{text}</p></figcaption>\n</figure>'
    )


def picture(name: str, shows: str, up: str) -> str:
    """The picture with its alternative text; it leads to itself at full size."""
    source = f"{up}figures/{name}.png"
    return f'<a href="{source}"><img src="{source}" alt="{html.escape(shows, quote=True)}" loading="lazy"></a>'


def emphasized(text: str) -> str:
    """Escaped text whose *emphasis* and `code` in Markdown are HTML.

    >>> emphasized("a < b (*reproduced*: `c`)")
    'a &lt; b (<em>reproduced</em>: <code>c</code>)'
    """
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(text, quote=False))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
