"""Appendix C: what changes along the scale α."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.plots.style import COLOURS, STYLE

RADII = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))  # lines and markers of SAM by its radius


def along_alpha(
    tidy: pandas.DataFrame,
    *,
    title: str,
    panels: Mapping[str, str],
    logs: Sequence[str] = (),
    levels: Mapping[str, tuple[str, float]] | None = None,
) -> Figure:
    """Quantities against the scale α on a log axis, a panel each: a marker a run, a line through the mean over seeds
    for each `label`, a cross at the foot of the panel for a run that diverged.

    Columns: alpha, rho, label, status, and the quantities. panels: their columns and what the axes are called; logs:
    those on a log axis; levels: for a panel, the label and height of a horizontal line.
    """
    names = list(dict.fromkeys(tidy["label"]))
    sam = [name for name in names if (tidy.loc[tidy["label"] == name, "rho"] > 0).any()]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(max(6.6, 4.1 * len(panels)), 3.9), squeeze=False)
        for axis, (column, ylabel) in zip(axes[0], panels.items(), strict=True):
            for name in names:
                runs = tidy[tidy["label"] == name]
                line, marker = RADII[sam.index(name)] if name in sam else ("-", "o")
                look = {"color": COLOURS["SAM" if name in sam else "SGD"], "marker": marker}
                done = runs.dropna(subset=column)
                axis.plot(done["alpha"], done[column], ls="", ms=4, alpha=0.5, **look)
                mean = done.groupby("alpha")[column].mean()
                axis.plot(mean.index, mean, ls=line, lw=1.8, ms=0, label=name, **look)
                lost = runs[runs["status"] == "diverged"]
                foot = axis.get_xaxis_transform()
                axis.plot(lost["alpha"], [0.02] * len(lost), ls="", ms=8, transform=foot, **look | {"marker": "x"})
            if levels and column in levels:
                label, height = levels[column]
                level = axis.axhline(height, color="black", ls="-.", lw=1, label=label)
                axis.legend(handles=[level], fontsize=8)
            axis.set(xscale="log", xlabel="scale α of the output", ylabel=ylabel)
            axis.set_xlim(tidy["alpha"].min() / 1.5, 1.5 * tidy["alpha"].max())
            axis.set_yscale("log" if column in logs and (tidy[column] > 0).any() else "linear")  # none on an empty one
        axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure
