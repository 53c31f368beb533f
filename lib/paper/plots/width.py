"""Section 5: accuracies, gaps and radii against the number of parameters."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.paper.analysis.gap import interval
from lib.paper.plots.style import COLOURS, SCALE, STYLE, blank

BARS = "; lines: mean over seeds, bars: its standard error"  # in titles of figures that have bars
NO_SEARCH = "no search is complete"
EDGE = "D"  # the marker of a ρ* at the edge of the grid
# That of SAM, and of SGD for twice the epochs, are for their own curves.
PROTOCOLS = {"paper": SCALE[5], "samples": SCALE[1], "seeds": SCALE[2], "both": SCALE[4]}
UNITS = {
    "gap": "accuracy gap (percentage points)",
    "test accuracy": "test accuracy (%)",
    "training loss": "training loss (nats)",
    "test loss": "test loss (nats)",
}


def against_parameters(
    points: pandas.DataFrame, *, title: str, quantities: Sequence[str], since: float = math.nan
) -> Figure:
    """Quantities of `width.points` against the number of parameters, a panel each: every seed a dot (hollow where the
    search for ρ is under way), the mean and its standard error over seeds a line with bars. since: parameters from
    which on SGD's training loss is zero, shaded; NaN where no network reaches that."""
    bars = False
    with plt.rc_context(STYLE):
        size = 4.2 * len(quantities), 3.9 if points["value"].notna().any() else 1.6
        figure, axes = plt.subplots(1, len(quantities), figsize=size, squeeze=False)
        for axis, quantity in zip(axes[0], quantities, strict=True):
            shown = points[points["quantity"] == quantity]
            if quantity == "gap" and len(shown):
                axis.axhline(0, color="black", lw=0.8)
            for k, (method, line) in enumerate(shown.groupby("method", sort=False)):
                label, colour = method, COLOURS[method]
                if quantity == "gap":
                    label, colour = f"SAM − {method}", COLOURS["SAM" if method == "SGD" else method]
                bars |= _seeds_and_mean(axis, line.assign(x=line["parameters"] * 1.04**k), colour, label)
            parameter_axis(axis, shown)
            axis.set(ylabel=UNITS[quantity], yscale="log" if quantity.endswith("loss") else "linear")
            if len(shown):
                _hollow(axis, shown)
                _zero_loss(axis, since, shown["parameters"].min())
                axis.legend(fontsize=8)
            else:
                blank(axis, "no record of both SGD and SAM")
        figure.suptitle(title + BARS * bars)
    return figure


def _seeds_and_mean(axis, line: pandas.DataFrame, colour: str, label: str) -> bool:
    """Columns x, value, complete. Only networks whose search is complete are joined, with bars where there are two
    seeds; whether there are any. The label is that of the line, or of the dots where no two networks are joined."""
    values = line[line["complete"]].groupby("x")["value"]
    mean, error = values.mean(), values.sem()
    joined, bars = len(mean) > 1, bool(error.notna().any())
    for complete, dots in line.groupby("complete"):
        look = {"mfc": colour if complete else "none"}
        look["label"] = None if joined or complete != line["complete"].any() else label
        axis.plot(dots["x"], dots["value"], "o", ms=3.5, color=colour, alpha=0.6, **look)
    look = dict(color=colour, lw=1.6, label=label if joined else None)
    if bars:
        axis.errorbar(mean.index, mean, error, capsize=3, **look)
    else:
        axis.plot(mean.index, mean, **look)
    return bars


def _hollow(axis, shown: pandas.DataFrame) -> None:
    """The entry of the legend that says what a hollow dot is; columns searched, radii, complete."""
    partial = shown.loc[~shown["complete"], ["searched", "radii"]].drop_duplicates().sort_values("searched")
    if len(partial):
        sentence = ", ".join(f"{k} of {m}" for k, m in partial.itertuples(index=False))
        axis.plot([], [], "o", ms=3.5, color="grey", mfc="none", label=f"hollow: {sentence} ρ")


def _zero_loss(axis, since: float, smallest: float) -> None:
    if math.isnan(since) or since <= smallest:  # a region that covers all points tells nothing apart
        where = "nowhere" if math.isnan(since) else "everywhere"
        axis.plot([], [], " ", label=f"{where} training loss < 0.01 (SGD)")
        return
    low, high = axis.get_xlim()
    axis.axvspan(since * 0.9, high, color="grey", alpha=0.13, lw=0, label="training loss < 0.01 (SGD)")
    axis.set_xlim(low, high)


def parameter_axis(axis, shown: pandas.DataFrame) -> None:
    """A log axis with a tick at each number of parameters (column parameters)."""
    counts = sorted(shown["parameters"].unique())
    axis.set(xscale="log", xlabel="trainable parameters")
    axis.set_xticks(counts, [f"{n / 1e6:.3g}M" if n >= 1e6 else f"{n / 1e3:.3g}k" for n in counts], fontsize=8)
    axis.minorticks_off()
    axis.margins(x=0.12)
    if len(counts) == 1:  # else the methods' small shifts would span the axis
        axis.set_xlim(counts[0] / 3, counts[0] * 3)


def accuracy_against_rho(table: pandas.DataFrame, *, title: str) -> Figure:
    """Test accuracy against ρ, a panel a width: every seed of SAM a dot (hollow where its search is under way), their
    mean a line with its standard error; SGD's seeds and mean horizontal. `table`: as from `width.accuracies`."""
    widths = sorted(table["width"].unique()) or [None]
    columns = min(len(widths), 4)
    rows, bars = -(-len(widths) // columns), False
    with plt.rc_context(STYLE):
        size = (max(3.1 * columns, 7.5), 2.9 * rows + 0.5)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for axis, width in zip(axes.flat, widths, strict=False):
            shown = table[table["width"] == width]
            sam = shown[shown["optimizer"] == "sam"].rename(columns={"rho": "x", "accuracy": "value"})
            if len(sam):
                bars |= _seeds_and_mean(axis, sam, COLOURS["SAM"], "SAM")
            sgd = shown[shown["optimizer"] == "sgd"]
            for value in sgd["accuracy"]:
                axis.axhline(value, color=COLOURS["SGD"], lw=0.6, alpha=0.6)
            if len(sgd):
                mean = (sgd[sgd["complete"]] if sgd["complete"].any() else sgd)["accuracy"].mean()
                axis.axhline(mean, color=COLOURS["SGD"], lw=1.6, label="SGD, mean")
                axis.plot([], [], color=COLOURS["SGD"], lw=0.6, alpha=0.6, label="SGD, single seeds")
            parameters = f", {shown['parameters'].iloc[0]:,} parameters" if len(shown) else ""
            axis.set(xscale="log", xlabel="ρ", title="no run has a record" if width is None else f"width {width:g}")
            if len(shown) and not shown["complete"].any():
                parameters += f"\nhollow: {shown['searched'].iloc[0]} of {shown['radii'].iloc[0]} ρ"
            axis.set_title(axis.get_title() + parameters, fontsize=9)
            ticks = sorted(sam["x"].unique())
            axis.set_xticks(ticks, [f"{rho:g}" for rho in ticks], fontsize=8)
            axis.minorticks_off()
            if shown.empty:
                blank(axis, "no record")
        for axis in axes.flat[len(widths) :]:
            axis.set_axis_off()
        for row in axes:
            row[0].set_ylabel(UNITS["test accuracy"])
        if len(table):
            axes[0][0].legend(fontsize=8)
        figure.suptitle(title + BARS * bars + "; each panel has its own scale" * (len(widths) > 1))
    return figure


def best_rho(tidy: pandas.DataFrame, *, title: str, settings: Mapping[str, str] | None = None) -> Figure:
    """ρ* against the number of parameters, a panel a workload: chosen by all seeds (line) and by each alone (dots); a
    diamond in place of a dot where it is at the edge of the grid.

    Columns: workload, parameters, seed ("all" for the line), rho, edge. settings: what else to say of a workload.
    """
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["workload"]))
        figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(4 * max(len(panels), 2), 3.7), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=False):
            shown = tidy[(tidy["workload"] == panel) & tidy["rho"].notna()]
            alone, line = shown[shown["seed"] != "all"], shown[shown["seed"] == "all"].sort_values("parameters")
            for k, (_, dots) in enumerate(alone.groupby("seed")):
                _radii(axis, dots, dots["parameters"] * 1.05**k, **ALONE)
            axis.plot(line["parameters"], line["rho"], color=COLOURS["SAM"])
            _radii(axis, line, line["parameters"], color=COLOURS["SAM"])
            parameter_axis(axis, shown)
            axis.set(yscale="log", title=_panel(panel, settings, shown))
            ticks = sorted(shown["rho"].unique())
            axis.set_yticks(ticks, [f"{rho:.2g}" for rho in ticks])
            axis.minorticks_off()
            if shown.empty:
                blank(axis, NO_SEARCH)
        axes[0][0].set_ylabel("ρ*")
        if panels:
            axes[0][0].plot([], [], "o", **ALONE, label="by one seed alone")
            joined = tidy[tidy["seed"] == "all"].groupby("workload").size().gt(1).any()
            axes[0][0].plot([], [], "o-" if joined else "o", color=COLOURS["SAM"], label="by the mean over seeds")
            if tidy["edge"].eq(True).any():
                axes[0][0].plot([], [], EDGE, **ALONE, label="at the edge of the grid: a bound")
            figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
        figure.suptitle(title)
    return figure


ALONE = {"ms": 4, "mfc": "none", "color": "grey"}


def _radii(axis, dots: pandas.DataFrame, x: pandas.Series, **look) -> None:
    for edge, part in dots.groupby("edge"):
        axis.plot(x[part.index], part["rho"], EDGE if edge else "o", **look)


def _panel(workload: str, settings: Mapping[str, str] | None, shown: pandas.DataFrame) -> str:
    lines = [workload, (settings or {}).get(workload, "") if len(shown) else ""]
    return "\n".join(line for line in lines if line)


def fixed_radius(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The gap at radii that are not chosen against the number of parameters: a dot a seed, and its mean with a 95%
    interval. `tidy`: columns parameters, seed, gap, as `analysis.fixed_rho.fixed_gaps` gives them; and perhaps setting,
    of which each has a colour."""
    settings = tidy.get("setting", pandas.Series("", tidy.index))
    colours = dict(zip(dict.fromkeys(settings), (COLOURS["SAM"], SCALE[0], SCALE[1], SCALE[4]), strict=False))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8 if len(colours) > 1 else 6, 3.4))
        for k, (setting, colour) in enumerate(colours.items()):
            for i, (parameters, part) in enumerate(tidy[settings == setting].groupby("parameters")):
                x, (low, high) = parameters * 1.14**k, interval(part["gap"])
                axis.plot([x] * len(part), part["gap"], "o", ms=4, alpha=0.4, color=colour)
                look = dict(fmt="D", color=colour, capsize=4, mec="black", ms=6, label=None if i else setting or None)
                mean = part["gap"].mean()
                axis.errorbar(x * 1.05, mean, [[mean - low], [high - mean]], **look)
        if len(colours) > 1:
            figure.legend(loc="outside right upper", fontsize=8)
        axis.axhline(0, color="black", lw=0.8)
        if len(tidy):
            parameter_axis(axis, tidy)
        else:
            blank(axis, "no seed is complete")
        axis.set(ylabel="SAM − SGD, test accuracy (points)")
        figure.suptitle(title)
    return figure


def protocols(tidy: pandas.DataFrame, *, title: str, settings: Mapping[str, str] | None = None) -> Figure:
    """The gap by each protocol against parameters, a panel a workload: every seed a dot, their mean and its standard
    error a line with bars. `tidy`: as from `width.selection`; settings: what else to say of a workload."""
    bars = False
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["workload"]))
        figure, axes = plt.subplots(1, max(len(panels), 1), figsize=(4 * max(len(panels), 2), 3.8), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=False):
            shown = tidy[(tidy["workload"] == panel) & tidy["gap"].notna()]
            if len(shown):
                axis.axhline(0, color="black", lw=0.8)
            for k, (name, line) in enumerate(shown.groupby("protocol", sort=False)):
                dots = line.assign(x=line["parameters"] * 1.06**k, value=line["gap"], complete=True)
                bars |= _seeds_and_mean(axis, dots, PROTOCOLS[name], name)
            parameter_axis(axis, shown)
            axis.set(title=_panel(panel, settings, shown))
            if shown.empty:
                blank(axis, NO_SEARCH)
        axes[0][0].set_ylabel("SAM − SGD (percentage points)")
        if panels and len(tidy["gap"].dropna()):
            figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", title="ρ chosen by")
        figure.suptitle(title + BARS * bars)
    return figure
