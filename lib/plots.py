"""Every figure of the project, in one style: the only module that draws.

A drawing function takes a tidy table, one row a plotted point, and returns a figure; `save` writes it as PNG and SVG
with that table as CSV beside it, so that what is plotted can be read and tested. SGD and SAM keep their colours
(Okabe and Ito's, told apart by colour-blind readers) through the whole work.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib import paths
from lib.experiments import check_preset

COLOURS = {"SGD": "#0072B2", "SAM": "#D55E00", "unnormalized SAM": "#009E73"}
STAND_INS = {"digits": "digits in place of the paper's images", "cifar10-jpeg": "cifar10-jpeg in place of CIFAR-10"}
SCALE = ("#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#000000")

STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "sam",  # the same data give the same file
}


def optimizer_name(run) -> str:
    """What a run's optimizer is called in a legend."""
    if run.rho == 0:
        return "SGD"
    return "SAM" if run.normalized else "unnormalized SAM"


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
            axis.set(yscale="log", xlabel="epoch", title="no run has a record" if value is None else panel_title(value))
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
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


def footnote(figure: Figure, table: pandas.DataFrame) -> Figure:
    """Name under the figure what is missing from it and what diverged; nothing where all runs are done."""
    notes = []
    for status in ("missing", "diverged"):
        runs = table[table["status"] == status]
        if len(runs):
            cells = ", ".join(dict.fromkeys(f"{optimizer_name(r)} at width {r.width:g}" for r in runs.itertuples()))
            notes.append(f"{status}: {len(runs)} of {len(table)} runs ({cells})")
    if notes:
        lines = textwrap.wrap("; ".join(notes), round(13 * figure.get_figwidth()))
        figure.supxlabel("\n".join(lines), fontsize=8, color="#AA3377")
    return figure


def title(what: str, table: pandas.DataFrame, preset: str) -> str:
    """A figure's title: what it shows, at which preset, what that changes of the paper's setting, how many seeds."""
    notes = [STAND_INS.get(name, name) for name in sorted(table["dataset"].unique())]
    if preset == "lite" and set(table["model"]) == {"resnet18"}:
        notes.append(f"{table['epochs'].max()} epochs instead of 200")
    seeds = table[table["status"] != "missing"]["seed"].nunique()
    return f"{what}\npreset {preset}: {', '.join(notes)}, {seeds} seed{'s' * (seeds != 1)}"


def save(figure: Figure, name: str, data: pandas.DataFrame, preset: str) -> Figure:
    """Write figures/<preset>/<name>.png, .svg and, of the plotted `data`, .csv; return the figure."""
    folder = paths.figures() / check_preset(preset)
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    data.to_csv(folder / f"{name}.csv", index=False, float_format="%.9g")
    plt.close(figure)  # the notebook shows what is returned, once
    return figure
