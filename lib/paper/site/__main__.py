"""The command `python -m lib.paper.site`: a static site from notebooks executed at a preset, for a browser without a
network. Pages are written to build/site/source, the site to build/site/html."""

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat

from lib.core import files, paths, terminal
from lib.paper import experiments, notebooks
from lib.paper.captions import CAPTIONS
from lib.paper.site import articles, explored, figures, launch, links, pages, printed, records, references
from lib.paper.site.executed import executed

HERE = paths.ROOT / "build" / "site"
MOST = 30e6  # bytes of the whole site


class SiteError(RuntimeError):
    """The site was not built, or is larger than it may be."""


def write(source: Path, extra: Path, made: list[Path], folder: Path, preset: str) -> None:
    """Write all that Sphinx reads.

    source: the folder of pages; extra: what is copied as it is; made: executed notebooks; folder: of their figures."""
    book = {name: rows for name, rows in _book(folder).items() if name in {file.stem for file in made}}
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(extra, ignore_errors=True)
    known = references.library()
    for file in made:
        notebook = articles.article(file, folder, book[file.stem], known)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _relinked(cell.source, Path("notebooks") / file.name, source)
        _put(source / "notebooks" / file.name, nbformat.writes(notebook))
    for page in links.copied():
        text = (paths.ROOT / page).read_text(encoding="utf-8")
        _put(source / page, _relinked(text, page, source))
    documentation = [str(page.with_suffix("")) for page in links.copied()]
    shown = [
        "docs/README",
        *sorted(name for name in documentation if name.startswith("docs/") and "README" not in name),
    ]
    rest = [name for name in documentation if name not in shown]
    own = {
        "index": pages.front(book, preset, [*shown, "CONTRIBUTING", "CHANGELOG", "lib/README"]),
        "claims": pages.claims(book, preset),
        "gallery": pages.gallery(book, folder),
        "explore": pages.bare("explore"),
        "runs": pages.bare("runs"),
        "references": pages.REFERENCES,
        "api": pages.api(),
    }
    for name, text in own.items():
        _put(source / f"{name}.md", _relinked(text, Path(f"{name}.md"), source))
    for name in (*rest, *(str(file.relative_to(source).with_suffix("")) for file in source.rglob("*.*.md"))):
        page = source / f"{name}.md"
        if name not in ("CONTRIBUTING", "CHANGELOG", "lib/README"):
            page.write_text(f"---\norphan: true\n---\n\n{page.read_text(encoding='utf-8')}", encoding="utf-8")
    _copy(extra, folder, preset, book)
    if address := launch.repository():
        for file in notebooks.sources():
            launch.copy(file, HERE / launch.BRANCH, address, preset)


def _book(folder: Path) -> Mapping[str, Mapping]:
    return json.loads((folder / "claims.json").read_text(encoding="utf-8"))


def _relinked(text: str, page: Path, source: Path) -> str:
    def show(file: Path) -> None:
        _put(source / links.shown_as(file), links.source_page(file))

    return links.relink(text, page, show)


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, text)


def _copy(extra: Path, folder: Path, preset: str, book: Mapping[str, Mapping]) -> None:
    """Pictures, their data, and what scripts read: a file:// page may load scripts but fetch nothing."""
    import plotly

    (extra / "figures").mkdir(parents=True)
    for name in (name for part in CAPTIONS.values() for name in part):
        (extra / "figures" / f"{name}.png").write_bytes(notebooks.smaller((folder / f"{name}.png").read_bytes()))
        shutil.copy(folder / f"{name}.csv", extra / "figures")
    shutil.copy(folder / "claims.json", extra / "figures")
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", extra)
    mathjax = Path(
        str(importlib.metadata.distribution("django-static-mathjax").locate_file("mathjax/static/mathjax/es5"))
    )
    fonts = Path("output/chtml/fonts/woff-v2")
    shutil.copytree(mathjax / fonts, extra / "mathjax" / fonts)
    shutil.copy(mathjax / "tex-chtml.js", extra / "mathjax")
    every = list(records.rows(folder, book))
    scripts = {"RUNS": every, "EXPLORED": explored.data(folder, preset), "FIGURES": figures.NOTEBOOK_OF}
    for name, data in scripts.items():
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        _put(extra / "data" / f"{name.lower()}.js", f"window.{name} = {text};\n")


def sphinx(builder: str, source: Path, extra: Path, out: Path) -> None:
    """Let Sphinx build. SiteError if it warns of anything."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder, "-j", "2"]
    command += ["-c", str(paths.ROOT / "site"), "-D", f"html_extra_path={extra}", "-d", str(out.parent / "doctrees")]
    if subprocess.run([*command, str(source), str(out)]).returncode:
        raise SiteError("Sphinx did not build the site without a warning, see above")


def render(source: Path, extra: Path, out: Path) -> None:
    """Build the site. SiteError if it becomes larger than it may be."""
    sphinx("html", source, extra, out)
    for file in out.rglob("*.map"):  # of the theme's scripts, for who debugs them
        file.unlink()
    shutil.rmtree(out / "_sources", ignore_errors=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if size > MOST:
        raise SiteError(f"{out}: has {size / 1e6:.0f} MB, more than {MOST / 1e6:.0f}")
    print(f"{out.relative_to(paths.ROOT) / 'index.html'}: {size / 1e6:.1f} MB")


def main(arguments: list[str] | None = None) -> int:
    """Build the site of a preset from its records."""
    parser = argparse.ArgumentParser(prog="python -m lib.paper.site", description=main.__doc__)
    parser.add_argument("--preset", default="lite", help=f"one of {', '.join(experiments.PRESETS)}")
    parser.add_argument("--train", type=int, choices=(0, 1), help="train missing runs; by default only at smoke")
    parser.add_argument("--as-executed", action="store_true", help="take the executed notebooks of the last time")
    parser.add_argument("--pdf", action="store_true", help="print all of it to build/site/site.pdf as well")
    terminal.tolerate()
    given = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        experiments.check_preset(given.preset)
        train = given.preset == "smoke" if given.train is None else bool(given.train)
        folder = HERE / "executed" / given.preset
        if given.as_executed:
            made = [folder / f"{source.stem}.ipynb" for source in notebooks.sources()]
        else:
            made = executed(folder, given.preset, train)
        print(f"notebooks executed after {time.monotonic() - began:.0f} s", flush=True)
        write(HERE / "source", HERE / "extra", made, paths.figures() / given.preset, given.preset)
        render(HERE / "source", HERE / "extra", HERE / "html")
        if given.pdf:
            sphinx("singlehtml", HERE / "source", HERE / "extra", HERE / "single")
            printed.to_pdf(HERE / "single" / "index.html", HERE / "html", HERE / "site.pdf")
    except (notebooks.NotebookError, SiteError, printed.PrintError, ValueError, FileNotFoundError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
