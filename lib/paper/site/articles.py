"""An executed notebook as an article: figures with captions, links between them, and citations.

The cells keep their code. What `plots.save` showed gives way to the figure with all that leads back to its data."""

import re
from collections.abc import Mapping
from pathlib import Path

import nbformat

from lib.paper import notebooks
from lib.paper.captions import CAPTIONS, number
from lib.paper.site import figures, launch, references

# "Figure 3a" in a text; not in a heading, and not what a link or code already holds.
FIGURE = re.compile(r"(?<![\w`\[>])Figure (\d+[a-z]*|[A-Z]\d+)\b(?![^\[]*\]\()")


def article(
    executed: Path, folder: Path, rows: Mapping[str, Mapping], library: references.Library
) -> nbformat.NotebookNode:
    """The notebook that Sphinx renders.

    folder: of the preset's figures; rows: of claims.json, those of this notebook."""
    notebook, cells = nbformat.read(executed, as_version=4), []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = linked(references.cited(cell.source, library), executed.stem)
            cells.append(cell)
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        saved = notebooks.saved_in(cell.source)
        if saved:
            cells.append(_markdown("\n".join(f'<span id="cell-{name}"></span>' for name in saved)))
            cell.outputs = [output for output in cell.outputs if not _of_a_figure(output)]
        cells.append(cell)
        cells += [_markdown(figures.block(name, folder, rows)) for name in saved]
    if way := launch.links(executed.stem):
        cells.insert(1, _markdown(way))
    notebook.cells = cells
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def linked(text: str, notebook: str) -> str:
    """The text with every mention of a figure, outside headings and formulas, as a link to it."""
    by_number = {number(name): name for name in figures.NOTEBOOK_OF}

    def link(match: re.Match) -> str:
        name = by_number.get(match[0])
        if name is None:
            return match[0]
        page = "" if name in CAPTIONS[notebook] else f"{figures.NOTEBOOK_OF[name]}.html"
        return f'<a href="{page}#{name}">{match[0]}</a>'

    lines = text.split("\n")
    return "\n".join(line if line.startswith(("#", "$")) else FIGURE.sub(link, line) for line in lines)


def _of_a_figure(output) -> bool:
    data = output.get("data", {})
    return "image/png" in data or data.get("text/markdown", "").startswith("**Figure ")


def _markdown(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text)
