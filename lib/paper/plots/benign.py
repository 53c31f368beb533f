"""Where networks that fit flipped labels change their answer (notebook 07)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.paper.plots.style import COLOURS, STYLE


def boundaries(panels: Mapping[str, tuple[pandas.DataFrame, pandas.DataFrame, str]], *, title: str) -> Figure:
    """For each panel, by its title: a grid (s, t, output) whose sign is shaded, the samples (s, t, clean, flipped), and
    what t is. Flipped samples are ringed; a sample has the colour of its clean label."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.4), squeeze=False)
        for axis, (name, (grid, samples, vertical)) in zip(axes[0], panels.items(), strict=True):
            table = grid.pivot_table(index="t", columns="s", values="output")
            colours = [COLOURS["SGD"], COLOURS["SAM"]]
            axis.contourf(table.columns, table.index, table, levels=[-1e9, 0, 1e9], colors=colours, alpha=0.15)
            axis.contour(table.columns, table.index, table, levels=[0], colors="black", linewidths=1)
            for label, colour in zip((-1, 1), colours, strict=True):
                for flipped, style in ((False, {}), (True, {"mfc": "none", "ms": 8, "mew": 1.6})):
                    part = samples[(samples["clean"] == label) & (samples["flipped"] == flipped)]
                    text = f"clean label {label:+d}" + ", flipped" * flipped
                    axis.plot(part["s"], part["t"], "o", color=colour, **{"ms": 4} | style, label=text)
            axis.set(title=name, xlabel="along μ", ylabel=vertical)
            axis.set(xlim=(grid["s"].min(), grid["s"].max()), ylim=(grid["t"].min(), grid["t"].max()))
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        figure.suptitle(title)
    return figure
