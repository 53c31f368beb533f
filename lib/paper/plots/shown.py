"""A saved figure as a notebook shows it: the picture, and under it its caption with data, claims and runs."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lib.core import paths
from lib.paper.captions import CAPTIONS, Caption, number

BY_NAME: dict[str, Caption] = {name: caption for part in CAPTIONS.values() for name, caption in part.items()}


@dataclass(frozen=True)
class Shown:
    """figure: what was drawn; caption: in Markdown, empty for a figure that has none."""

    figure: Figure
    caption: str = ""

    def _ipython_display_(self):
        from IPython.display import Markdown, display  # here alone: a batch job needs no IPython

        display(self.figure)
        if self.caption:
            display(Markdown(self.caption))


def caption(name: str, csv: Path, keys: list[str]) -> str:
    """Number, what is shown, and where its data, claims and runs are; empty for a name without a caption.

    csv: the file of the plotted data; keys: of the runs behind it."""
    if name not in BY_NAME:
        return ""
    what = BY_NAME[name]
    file = csv.relative_to(paths.ROOT) if csv.is_relative_to(paths.ROOT) else csv
    parts = [f"**{number(name)}.** {what.shows}", f"Data: `{file}`."]
    parts += [f"Claims: {', '.join(f'`{claim}`' for claim in what.claims)}."] if what.claims else []
    runs = f"{len(keys)} records, such as" if len(keys) > 1 else "Record"
    parts += [f"{runs} `python -m lib.runs show {keys[0]}`."] if keys else []
    return " ".join(parts)
