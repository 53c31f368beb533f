"""From the repository's links to the site's: a page of docs/ keeps its place, a source file becomes a page that shows
it, and folders lead to the page that presents what they hold."""

import html
import os
import re
from collections.abc import Callable
from pathlib import Path

from lib.core import paths

PLACES = {  # what has another name on the site
    "README.md": "index.md",
    "notebooks": "index.md",
    "data/records": "runs.md",
    "figures/lite": "gallery.md",
    "figures/lite/claims.md": "claims.md",
}
GALLERY = Path("figures/lite")  # of whose files the site has its own, as they are
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


IMAGE = re.compile(r"!\[([^]]*)\]\(([^)\s]*figures/lite/[^)\s]+)\)")


def copied() -> list[Path]:
    """The pages of the repository that the site takes over as they are, from its root."""
    found = [*paths.ROOT.glob("docs/*.md"), *(paths.ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
    found += paths.ROOT.glob("lib/**/README.md")
    return sorted(file.relative_to(paths.ROOT) for file in found)


def relink(text: str, page: Path, show: Callable[[Path], None]) -> str:
    """The Markdown of a page with its relative links led to what the site has.

    page: from the root of the repository. show: is called with every source file that a link leads to."""

    def replaced(match: re.Match) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        file = Path(os.path.normpath(page.parent / target))
        place = Path(PLACES.get(str(file), file))
        if place.parent == GALLERY:
            return f'<a href="{_from(page, Path("figures") / file.name)}">{words}</a>'
        if (paths.ROOT / place / "README.md").exists():
            place = place / "README.md"
        elif (paths.ROOT / place).is_dir():
            place = Path("index.md")
        elif place.suffix not in (".md", ".ipynb"):
            show(place)
            place = shown_as(place)
        return f"[{words}]({_from(page, place)}{anchor})"

    def picture(match: re.Match) -> str:
        source = _from(page, Path("figures") / Path(match[2]).name)
        return f'<img src="{source}" alt="{html.escape(match[1])}" loading="lazy">'

    return LINK.sub(replaced, IMAGE.sub(picture, text))


def shown_as(file: Path) -> Path:
    """The page of the site that shows a source file."""
    return file.with_name(f"{file.name}.md")


def source_page(file: Path) -> str:
    """A page with the whole of a source file."""
    language = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml"}.get(file.suffix, "text")
    text = (paths.ROOT / file).read_text(encoding="utf-8")
    fence = "`" * (2 + max((len(ticks) for ticks in re.findall("`+", text)), default=1))
    return f"# {file}\n\n{fence}{{code-block}} {language}\n:linenos:\n\n{text}{fence}\n"


def _from(page: Path, place: Path) -> str:
    return os.path.relpath(place, page.parent)
