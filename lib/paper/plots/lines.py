"""Lines and points in panels, each with axes of its own: what the companion notebooks show most."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.paper.plots.style import COLOURS, SCALE, STYLE, blank, plain_numbers

OPTIMIZERS = {"GD": COLOURS["SGD"]} | {name: COLOURS[name] for name in ("SGD", "SAM", "unnormalized SAM")}
MARKERS = "o.x+s^"  # what a `look` may be besides a style of lines


def panels(
    tidy: pandas.DataFrame, *, title: str, axes: Mapping[str, dict], legend: float = 8, height: float = 3.7
) -> Figure:
    """A line, dashes or points for each label in each panel, in the colour of the optimizer where a label is one.

    tidy: panel, label, x, y, look ("-", "--", ":", or a marker such as "o"); low and high, where there, shade an
    interval, or draw it as bars through points. A label has one colour, the part of it before a "|" in all panels.
    axes: what `Axes.set` takes, for each panel in order; with the key "plain", the axes whose numbers are plain. A
    panel without a row says that there are no runs.
    """
    names = list(dict.fromkeys(label.split("|")[0] for label in tidy["label"]))
    others = [name for name in names if name not in OPTIMIZERS]
    scale = dict(zip(others, [colour for _ in others for colour in SCALE], strict=False))
    colours = OPTIMIZERS | scale | ({others[0]: SCALE[0]} if others else {})
    with plt.rc_context(STYLE):
        figure, drawn = plt.subplots(1, len(axes), figsize=(max(6.4, 4.1 * len(axes)), height), squeeze=False)
        for axis, (panel, settings) in zip(drawn[0], axes.items(), strict=True):
            here = tidy[tidy["panel"] == panel]
            for (label, look), part in here.groupby(["label", "look"], sort=False):
                colour, name = colours[label.split("|")[0]], label.replace("|", "")
                markers = look in MARKERS
                style = {"ls": "none", "marker": look, "ms": 4} if markers else {"ls": look, "lw": 1.5}
                axis.plot(part["x"], part["y"], color=colour, label=name, **style)
                if "low" in part and markers:
                    axis.vlines(part["x"], part["low"], part["high"], color=colour, lw=1)
                elif "low" in part:
                    axis.fill_between(part["x"], part["low"], part["high"], color=colour, alpha=0.2, lw=0)
            axis.set(**{"title": panel} | {name: value for name, value in settings.items() if name != "plain"})
            for name in settings.get("plain", ""):
                plain_numbers(getattr(axis, f"{name}axis"))
            if here.empty:
                blank(axis, "no runs with a record")
            handles, labels = axis.get_legend_handles_labels()
            unique = dict(zip(labels, handles, strict=True))
            if len(unique) > 1:
                axis.legend(unique.values(), unique.keys(), fontsize=legend)
        figure.suptitle(title)
    return figure
