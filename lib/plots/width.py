"""Section 5: accuracies, gaps and radii against the number of parameters."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.plots.style import COLOURS, SCALE, STYLE

UNITS = {
    "gap": "accuracy gap (percentage points)",
    "test accuracy": "test accuracy (%)",
    "training loss": "training loss (nats)",
    "test loss": "test loss (nats)",
}


def against_parameters(
    points: pandas.DataFrame, *, title: str, quantities: Sequence[str], since: float = math.nan
) -> Figure:
    """Quantities of `widths.points` against the number of parameters, a panel each: every seed a dot (hollow where the
    search for ρ is under way), the mean and its standard error over seeds a line with bars. since: parameters from
    which on the training loss is zero, shaded."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(quantities), figsize=(4.2 * len(quantities), 3.9), squeeze=False)
        for axis, quantity in zip(axes[0], quantities, strict=True):
            shown = points[points["quantity"] == quantity]
            if quantity == "gap":
                axis.axhline(0, color="black", lw=0.8)
            for k, (method, line) in enumerate(shown.groupby("method", sort=False)):
                label, colour = method, COLOURS[method]
                if quantity == "gap":
                    label, colour = f"SAM − {method}", COLOURS["SAM" if method == "SGD" else method]
                _seeds_and_mean(axis, line.assign(x=line["parameters"] * 1.04**k), colour, label)
            _parameter_axis(axis, shown, since)
            axis.set(ylabel=UNITS[quantity], yscale="log" if quantity.endswith("loss") else "linear")
            if len(shown):
                axis.legend(fontsize=8)
        figure.suptitle(title)
    return figure


def _seeds_and_mean(axis, line: pandas.DataFrame, colour: str, label: str) -> None:
    """Columns x, value, complete. Only networks whose search is complete are joined."""
    for complete, dots in line.groupby("complete"):
        axis.plot(dots["x"], dots["value"], "o", ms=3.5, color=colour, alpha=0.6, mfc=colour if complete else "none")
    values = line[line["complete"]].groupby("x")["value"]
    axis.errorbar(values.mean().index, values.mean(), values.sem(), color=colour, lw=1.6, capsize=3, label=label)


def _parameter_axis(axis, shown: pandas.DataFrame, since: float = math.nan) -> None:
    counts = sorted(shown["parameters"].unique())
    axis.set(xscale="log", xlabel="trainable parameters")
    axis.set_xticks(counts, [f"{n / 1e6:.3g}M" if n >= 1e6 else f"{n / 1e3:.3g}k" for n in counts], fontsize=8)
    axis.minorticks_off()
    axis.margins(x=0.12)
    if not math.isnan(since):
        axis.axvspan(
            since * 0.9, axis.get_xlim()[1], color="grey", alpha=0.13, lw=0, label="training loss < 0.01 (SGD)"
        )


def accuracy_against_rho(table: pandas.DataFrame, *, title: str) -> Figure:
    """Test accuracy against ρ, a panel a width: every seed of SAM a dot, their mean a line with its standard error;
    SGD's seeds and mean horizontal. Columns of `table`: width, optimizer, rho, seed, accuracy (%), parameters."""
    widths = sorted(table["width"].unique()) or [None]
    columns = min(len(widths), 4)
    rows = -(-len(widths) // columns)
    with plt.rc_context(STYLE):
        size = (max(3.1 * columns, 7.5), 2.9 * rows + 0.5)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for axis, width in zip(axes.flat, widths, strict=False):
            shown = table[table["width"] == width].assign(complete=True)
            sam = shown[shown["optimizer"] == "sam"].rename(columns={"rho": "x", "accuracy": "value"})
            if len(sam):
                _seeds_and_mean(axis, sam, COLOURS["SAM"], "SAM")
            sgd = shown.loc[shown["optimizer"] == "sgd", "accuracy"]
            for value in sgd:
                axis.axhline(value, color=COLOURS["SGD"], lw=0.6, alpha=0.6)
            if len(sgd):
                axis.axhline(sgd.mean(), color=COLOURS["SGD"], lw=1.6, label="SGD")
            parameters = f", {shown['parameters'].iloc[0]:,} parameters" if len(shown) else ""
            axis.set(xscale="log", xlabel="ρ", title="no run has a record" if width is None else f"width {width:g}")
            axis.set_title(axis.get_title() + parameters, fontsize=9)
            ticks = sorted(sam["x"].unique())
            axis.set_xticks(ticks, [f"{rho:g}" for rho in ticks], fontsize=8)
            axis.minorticks_off()
        for axis in axes.flat[len(widths) :]:
            axis.set_axis_off()
        for row in axes:
            row[0].set_ylabel(UNITS["test accuracy"])
        if len(table):
            axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


def best_rho(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """ρ* against the number of parameters, a panel a workload: chosen by all seeds (line) and by each alone (dots).

    Columns: workload, parameters, seed ("all" for the line), rho.
    """
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["workload"]))
        figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(4 * max(len(panels), 2), 3.7), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=False):
            shown = tidy[(tidy["workload"] == panel) & tidy["rho"].notna()]
            alone, line = shown[shown["seed"] != "all"], shown[shown["seed"] == "all"].sort_values("parameters")
            for k, (_, dots) in enumerate(alone.groupby("seed")):
                axis.plot(dots["parameters"] * 1.05**k, dots["rho"], "o", ms=4, mfc="none", color="grey")
            axis.plot([], [], "o", ms=4, mfc="none", color="grey", label="by one seed alone")
            axis.plot(line["parameters"], line["rho"], "o-", color=COLOURS["SAM"], label="by the mean over seeds")
            _parameter_axis(axis, shown)
            axis.set(yscale="log", title=panel if len(shown) else f"{panel}: no search is complete")
            ticks = sorted(shown["rho"].unique())
            axis.set_yticks(ticks, [f"{rho:g}" for rho in ticks])
            axis.minorticks_off()
        axes[0][0].set_ylabel("ρ*")
        if panels:
            axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


def protocols(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The gap by each protocol, a panel a workload: means over seeds with their standard errors against parameters.

    Columns: workload, parameters, protocol, gap, error.
    """
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["workload"]))
        figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(4 * max(len(panels), 2), 3.8), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=False):
            shown = tidy[(tidy["workload"] == panel) & tidy["gap"].notna()]
            axis.axhline(0, color="black", lw=0.8)
            for k, (name, line) in enumerate(shown.groupby("protocol", sort=False)):
                look = dict(color=SCALE[-1] if name == "paper" else SCALE[k], marker="o", ms=4, lw=1.4, capsize=3)
                axis.errorbar(
                    line["parameters"] * 1.06**k, line["gap"], line["error"], elinewidth=0.8, label=name, **look
                )
            _parameter_axis(axis, shown)
            axis.set(title=panel if len(shown) else f"{panel}: no search is complete")
        axes[0][0].set_ylabel("SAM − SGD (percentage points)")
        if panels and len(tidy["gap"].dropna()):
            figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", title="ρ chosen by")
        figure.suptitle(title)
    return figure
