"""Sphinx builds the site from the pages that `python -m lib.paper.site` writes. Nothing in it needs a network."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "Overparameterization and SAM: a reproduction"
author = "Contributors to overparameterization-and-sam"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinxcontrib.bibtex"]

html_theme = "sphinx_book_theme"
html_title = "Overparameterization and SAM"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["table.js"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navigation_with_keys": False,
    "navbar_persistent": [],
}
html_context = {"default_mode": "auto"}
mathjax_path = "../mathjax/tex-chtml.js"  # a copy: `python -m lib.paper.site` puts it there

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
exclude_patterns = []

bibtex_bibfiles = [str(ROOT / "site" / "references.bib")]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False  # those of torch are in another markup


WIDTH = 112  # of a docstring's lines: a line was broken where its next word would have gone beyond
ENTRY = re.compile(r"\w+(, \w+)*: ")  # what is said of an argument


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text with examples: keep their lines but join those of a paragraph, and take no character
    for markup."""
    result, example, before = [], False, ""
    for line in lines:
        starts = line.lstrip().startswith(">>>")
        example = starts or (example and bool(line.strip()))
        if starts and result and result[-1].startswith("|"):
            result.append("")
        if example:
            result.append(line.strip())
        elif line.strip():
            parts = line.split("`")  # every other one is code, and stays as it is
            parts[::2] = [re.sub(r"([*|_\\])", r"\\\1", part) for part in parts[::2]]
            text = "``".join(parts)
            if before and len(f"{before} {line.split()[0]}") > WIDTH and not ENTRY.match(line):
                result[-1] += f" {text.strip()}"
            else:
                result.append(f"| {text}")
        else:
            result.append("")
        before = "" if example else line.strip() and line
    lines[:] = result


def setup(app):
    """Have docstrings taken as plain text."""
    app.connect("autodoc-process-docstring", plain)
