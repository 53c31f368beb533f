"""Companion on the implicit bias of SAM: level sets, residuals, losses over steps and over ρ, and fitted functions."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from lib.paper.plots.style import COLOURS, SCALE, STYLE, plain_numbers

METHODS = {
    "GD": COLOURS["SGD"],
    "n-SAM": "#009E73",
    "1-SAM": COLOURS["SAM"],
    "1-SAM, c = 1": COLOURS["SAM"],
    "1-SAM, c = 2": "#E69F00",
    "1-SAM, c = 4": "#CC79A7",
    "α → 0": "#000000",
}


def _colour(name: str, position: int) -> str:
    return METHODS.get(name, SCALE[position % len(SCALE)])


def level_sets(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The curves φ_α(β) = φ_α((1, 0)) in the plane, with those of ℓ₁ and ℓ₂. Columns: alpha, x, y."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 4.6))
        turn = np.linspace(0, 2 * np.pi, 361)
        axis.plot(np.cos(turn), np.sin(turn), color="grey", ls="--", lw=1, label="‖β‖₂ = 1")
        axis.plot([1, 0, -1, 0, 1], [0, 1, 0, -1, 0], color="grey", ls=":", lw=1.4, label="‖β‖₁ = 1")
        alphas = sorted(tidy["alpha"].unique(), reverse=True)
        for colour, alpha in zip(plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(alphas))), alphas, strict=True):
            curve = tidy[tidy["alpha"] == alpha]
            axis.plot(curve["x"], curve["y"], color=colour, lw=1.8, label=f"α = {alpha:g}")
        axis.set(xlabel="β₁", ylabel="β₂", aspect="equal")
        figure.legend(loc="outside right center", fontsize=8)
        figure.suptitle(title)
    return figure


def strips(tidy: pandas.DataFrame, *, title: str, xlabel: str, ylabel: str, log: bool = True, line=None) -> Figure:
    """Every value, and the median as a bar, side by side for each series over each x, a panel a value of `panel`.

    Columns: panel, x (a category), series, value. line: a height at which to draw a line.
    """
    with plt.rc_context(STYLE):
        panels, series = list(dict.fromkeys(tidy["panel"])), list(dict.fromkeys(tidy["series"]))
        size = (max(6.4, 4.2 * len(panels)), 3.9)
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            shown = tidy[tidy["panel"] == panel]
            places = list(dict.fromkeys(shown["x"]))
            for position, name in enumerate(series):
                shift = (position - (len(series) - 1) / 2) * 0.8 / len(series)
                for place, x in enumerate(places):
                    values = shown[(shown["x"] == x) & (shown["series"] == name)]["value"].to_numpy()
                    jitter = np.linspace(-0.25, 0.25, len(values)) / len(series)
                    look = {"color": _colour(name, position), "label": name if place == 0 else None}
                    axis.plot(place + shift + jitter, values, "o", ms=3, alpha=0.6, mew=0, **look)
                    width = 0.3 / len(series)
                    if len(values):
                        axis.hlines(np.median(values), place + shift - width, place + shift + width, color="black")
            if line is not None:
                axis.axhline(line, color="grey", ls="--", lw=1)
            axis.set_xticks(range(len(places)), places)
            axis.set(title=panel, xlabel=xlabel, yscale="log" if log else "linear")
        axes[0][0].set_ylabel(ylabel)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(series)), fontsize=8)
        figure.suptitle(title)
        if log:
            low, high = axes[0][0].get_ylim()
            if high < 100 * low:
                plain_numbers(axes[0][0].yaxis)
    return figure


def loss_curves(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """Training and test loss over steps: the median over data seeds and the middle half of them, by label.

    Columns: label, seed, step, train_loss, test_loss and, where curves are to be dashed, batch. A median that diverged
    ends.
    """
    names = {"train_loss": "training loss", "test_loss": "test loss"}
    batches = list(dict.fromkeys(tidy["batch"])) if "batch" in tidy else []
    styles = dict(zip(batches, ("-", "--"), strict=True)) if len(batches) > 1 else {}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.2))
        for axis, (column, name) in zip(axes, names.items(), strict=True):
            groups = tidy.groupby(["label", *(["batch"] if styles else [])], sort=False)
            labels = list(dict.fromkeys(tidy["label"]))
            for (label, *batch), runs in groups:
                low, middle, high = (
                    runs.groupby("step")[column].quantile(q, interpolation="nearest") for q in (0.25, 0.5, 0.75)
                )
                look = {"color": _colour(label, labels.index(label)), "ls": styles[batch[0]] if batch else "-"}
                finite = np.isfinite(middle) & (middle > 0)
                axis.plot(middle.index[finite], middle[finite], label=", ".join((label, *batch)), **look)
                inside = finite & np.isfinite(high) & (low > 0)
                axis.fill_between(low.index[inside], low[inside], high[inside], color=look["color"], alpha=0.12, lw=0)
            axis.set(yscale="log", xlabel="step", ylabel=name)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
        figure.suptitle(title)
    return figure


def over_radius(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The test loss over ρ, median and middle half of the seeds, a panel a step size; GD (ρ = 0) is a horizontal line.

    Columns: step_size, label, rho, seed, test_loss.
    """
    with plt.rc_context(STYLE):
        sizes = sorted(tidy["step_size"].unique())
        figure, axes = plt.subplots(1, len(sizes), figsize=(4.6 * len(sizes), 4), sharey=True, squeeze=False)
        for axis, size in zip(axes[0], sizes, strict=True):
            for position, (label, runs) in enumerate(tidy[tidy["step_size"] == size].groupby("label", sort=False)):
                colour = _colour(label, position)
                low, middle, high = (
                    runs.groupby("rho")["test_loss"].quantile(q, interpolation="nearest") for q in (0.25, 0.5, 0.75)
                )
                if label == "GD":
                    axis.axhline(middle.iloc[0], color=colour, label=label)
                    continue
                axis.plot(middle.index, middle, "o-", ms=3.5, color=colour, label=label)
                kept = np.isfinite(high)
                axis.fill_between(middle.index[kept], low[kept], high[kept], color=colour, alpha=0.12, lw=0)
            axis.set(xscale="log", yscale="log", xlabel="ρ", title=f"step size {size:g}/d")
            axis.xaxis.set_major_formatter("{x:g}")
        axes[0][0].set_ylabel("test loss")
        axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


def line_losses(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """Training and test loss on the line between two minima, one curve a data seed, a panel a label. Columns: label,
    seed, t, train_loss, test_loss."""
    with plt.rc_context(STYLE):
        labels = list(dict.fromkeys(tidy["label"]))
        figure, axes = plt.subplots(1, len(labels), figsize=(4.6 * len(labels), 3.8), sharey=True, squeeze=False)
        for axis, label in zip(axes[0], labels, strict=True):
            shown = tidy[(tidy["label"] == label) & np.isfinite(tidy["train_loss"])]
            for column, colour, name in (
                ("train_loss", "#0072B2", "training loss"),
                ("test_loss", "#D55E00", "test loss"),
            ):
                for position, (_, run) in enumerate(shown.groupby("seed")):
                    axis.plot(run["t"], run[column], color=colour, lw=0.9, alpha=0.6, label=None if position else name)
            for end in (0, 1):
                axis.axvline(end, color="grey", ls=":", lw=1)
            seeds = shown["seed"].nunique()
            axis.set(
                yscale="log",
                xlabel="t: 0 is GD, 1 the end after the switch",
                title=f"{label}, {seeds} seed{'s' * (seeds != 1)}",
            )
        axes[0][0].set_ylabel("loss")
        axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


def fitted(tidy: pandas.DataFrame, points: tuple[np.ndarray, np.ndarray], *, title: str) -> Figure:
    """Functions of one variable, one curve a seed, a panel a label, with the points that they fit. Columns: label,
    seed, x, f."""
    with plt.rc_context(STYLE):
        labels = list(dict.fromkeys(tidy["label"]))
        figure, axes = plt.subplots(
            1, max(1, len(labels)), figsize=(3.9 * max(1, len(labels)), 3.5), sharey=True, squeeze=False
        )
        for axis, label in zip(axes[0], labels, strict=False):
            for position, (_, run) in enumerate(tidy[tidy["label"] == label].groupby("seed")):
                axis.plot(run["x"], run["f"], color=SCALE[position % len(SCALE)], lw=1.2)
            axis.plot(*points, "o", color="black", ms=4, zorder=3)
            axis.set(xlabel="x", title=label)
        axes[0][0].set_ylabel("f(x)")
        figure.suptitle(title)
    return figure
