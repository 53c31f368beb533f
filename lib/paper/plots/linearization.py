"""Appendix C: what changes along the scale α."""

import copy
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.paper.plots.style import COLOURS, STYLE, blank

MARKS = (
    Line2D([], [], ls="", marker="o", mfc="white", color="gray", label="not learned"),
    Line2D([], [], ls="", marker="x", color="gray", label="diverged"),
)
RADII = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))  # lines and markers of SAM by its radius
AXES = {"alpha": "scale α of the output", "lr": "learning rate η"}


def along(
    tidy: pandas.DataFrame,
    *,
    title: str,
    panels: Mapping[str, str],
    by: str = "alpha",
    logs: Sequence[str] = (),
    levels: Mapping[str, tuple[str, float]] | None = None,
) -> Figure:
    """Quantities against the scale α, or another of `AXES`, a panel each: a marker a run, a line through the mean over
    seeds for each `label`, an open marker for a run whose status is "not learned", a cross at the foot of the panel for
    one that diverged, the crosses of each label at a height of their own in the order of the legend.

    Columns: by, rho, label, status, and the quantities. panels: their columns and what the axes are called; by: what
    the horizontal axes show, logarithmically; logs: the quantities on a log axis; levels: for a panel, the label and
    height of a horizontal line. A panel without a value has no vertical axis and says so.
    """
    names = list(dict.fromkeys(tidy["label"]))
    sam = [name for name in names if (tidy.loc[tidy["label"] == name, "rho"] > 0).any()]
    with plt.rc_context(STYLE):
        size = max(6.6, 4.1 * len(panels)), 1.6 if tidy.empty else 3.9
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
        for axis, (column, ylabel) in zip(axes[0], panels.items(), strict=True):
            if tidy.empty:
                blank(axis, f"{ylabel}: no run has a record")
                continue
            for place, name in enumerate(names):
                runs = tidy[tidy["label"] == name]
                line, marker = RADII[sam.index(name)] if name in sam else ("-", "o")
                look = {"color": COLOURS["SAM" if name in sam else "SGD"], "marker": marker}
                done = runs[runs["status"].isin(["done", "not learned"])].dropna(subset=column)
                learned, not_learned = done.query("status == 'done'"), done.query("status == 'not learned'")
                axis.plot(learned[by], learned[column], ls="", ms=4, alpha=0.5, **look)
                axis.plot(not_learned[by], not_learned[column], ls="", ms=7, mfc="white", zorder=3, **look)
                mean = done.groupby(by)[column].mean()
                axis.plot(mean.index, mean, ls=line, lw=1.8, ms=0, label=name, **look)
                lost = runs[runs["status"] == "diverged"]
                foot = axis.get_xaxis_transform()
                crosses = [0.02 + 0.05 * place] * len(lost)
                axis.plot(lost[by], crosses, ls="", ms=8, transform=foot, **look | {"marker": "x"})
            if levels and column in levels:
                label, height = levels[column]
                level = axis.axhline(height, color="black", ls="-.", lw=1, label=label)
                axis.legend(handles=[level], fontsize=8)
            axis.set(xscale="log", xlabel=AXES[by], ylabel=ylabel)
            ticks = sorted(set(tidy[by]))
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
            axis.set_xlim(tidy[by].min() / 1.5, 1.5 * tidy[by].max())
            axis.set_yscale("log" if column in logs and (tidy[column] > 0).any() else "linear")  # none on an empty one
            if tidy[column].isna().all():
                blank(axis, f"{ylabel}: not measured")
        shown = [mark for mark in MARKS if (tidy["status"] == mark.get_label()).any()]
        lines = [copy.copy(handle) for handle in axes[0][0].get_legend_handles_labels()[0]]
        for handle in lines:
            handle.set_markersize(5)
        axes[0][0].legend(handles=[*lines, *shown], fontsize=8)
        figure.suptitle(title)
    return figure
