"""Section 3: losses against epochs and steps, and bounds on them."""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.paper.plots.style import COLOURS, SCALE, STYLE, blank, optimizer_name, plain_numbers


def curves(table: pandas.DataFrame, fields: Sequence[str] = ("width", "rho", "seed")) -> pandas.DataFrame:
    """The epoch curves of a table from `sweep`, one row an epoch: key, optimizer, `fields`, epoch, losses, ….

    Only of runs that have a record; empty where none has."""
    parts = [
        pandas.DataFrame(run.curves).assign(
            key=run.key, optimizer=optimizer_name(run), status=run.status, **{f: getattr(run, f) for f in fields}
        )
        for run in table.itertuples()
        if run.curves
    ]
    columns = ["key", "optimizer", *fields, "status"]
    if not parts:
        return pandas.DataFrame(columns=[*columns, "epoch", "train_loss"])
    tidy = pandas.concat(parts, ignore_index=True)
    return tidy[[*columns, *(c for c in tidy if c not in columns)]]


def training_loss(
    tidy: pandas.DataFrame,
    *,
    title: str,
    panels: str = "width",
    panel_title: Callable[[object], str] = "width {:g}".format,
    lines: str | None = None,
    levels: Mapping[object, tuple[str, float]] | None = None,
    ylabel: str = "training loss",
) -> Figure:
    """Training loss against epoch on a log axis: a panel a value of the column `panels`, a thin line a run, a thick
    one the geometric mean over its seeds, dashed by the column `lines`. levels: for a panel, the label and height of
    a horizontal line."""
    values = sorted(tidy[panels].unique()) if len(tidy) else [None]
    styles = dict(zip(sorted(tidy[lines].unique()), ("--", "-", ":"), strict=False)) if lines else {}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(values), figsize=(max(8.4, 3.9 * len(values) + 0.6), 3.7), sharey=True, squeeze=False
        )
        for axis, value in zip(axes[0], values, strict=True):
            shown = tidy[(tidy[panels] == value) & (tidy["train_loss"] > 0)]
            for (name, *style), runs in shown.groupby(["optimizer", *([lines] if lines else [])], sort=False):
                look = {"color": COLOURS[name], "ls": styles[style[0]] if style else "-"}
                for _, run in runs.groupby("key"):
                    axis.plot(run["epoch"], run["train_loss"], **look, lw=0.7, alpha=0.45)
                mean = runs.groupby("epoch")["train_loss"].agg(lambda s: math.exp(s.map(math.log).mean()))
                label = f"{name}, {lines} {style[0]:g}" if style else name
                axis.plot(mean.index, mean, **look, lw=2, label=label)
            if levels and value in levels:
                label, height = levels[value]
                axis.axhline(height, color="black", ls="-.", lw=1, label=label)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set(yscale="log", xlabel="epoch", title="" if value is None else panel_title(value))
            if value is None:
                blank(axis, "no run has a record")
            elif shown["key"].nunique() > shown["optimizer"].nunique():
                axis.plot([], [], color="grey", lw=0.7, label="thin: single seeds")
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
        low, high = axes[0][0].get_ylim()
        if high < 100 * low:
            plain_numbers(axes[0][0].yaxis)
        axes[0][0].set_ylabel(ylabel)
        figure.suptitle(title)
    return figure


def loss_bounds(
    tidy: pandas.DataFrame, *, title: str, panel_title: Callable[[object], str], ylabel: str = "E f(x_t)"
) -> Figure:
    """A measured mean (solid, with its 95% interval) and a bound (dashed) against the step, on a log axis.

    Columns: panel, label, step, mean, low, high, bound (NaN where there is none).
    """
    with plt.rc_context(STYLE):
        values = list(dict.fromkeys(tidy["panel"]))
        figure, axes = plt.subplots(1, len(values), figsize=(4 * len(values), 3.8), squeeze=False)
        for axis, value in zip(axes[0], values, strict=True):
            for colour, (label, line) in zip(
                SCALE, tidy[tidy["panel"] == value].groupby("label", sort=False), strict=False
            ):
                axis.plot(line["step"], line["mean"], color=colour, label=label)
                axis.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.2, lw=0)
                axis.plot(line["step"], line["bound"], color=colour, ls="--", lw=1.2)
            axis.set(yscale="log", xlabel="step t", title=panel_title(value))
            if not line["bound"].isna().all():
                axis.plot([], [], color="grey", ls="--", lw=1.2, label="bound of Theorem 12")
            axis.legend(fontsize=8)
        axes[0][0].set_ylabel(ylabel)
        figure.suptitle(title)
    return figure
