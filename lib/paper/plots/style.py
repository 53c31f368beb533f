"""One style for every figure; titles, footnotes that name what is missing, and the files that a figure becomes.

SGD and SAM keep their colours (Okabe and Ito's, told apart by colour-blind readers) through the whole work.
"""

import re
import textwrap

import matplotlib
import matplotlib.pyplot as plt
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from lib.core import files, paths
from lib.paper import experiments
from lib.paper.plots.shown import BY_NAME, Shown, caption
from lib.runs import UNRECORDED, Run

COLOURS = {
    "SGD": "#0072B2",
    "SAM": "#D55E00",
    "unnormalized SAM": "#009E73",
    "SGD, twice the epochs": "#56B4E9",
}


STAND_INS = {"digits": "digits in place of the paper's images", "cifar10-jpeg": "cifar10-jpeg in place of CIFAR-10"}


SCALE = ("#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#000000")


# Nothing of the reader's matplotlibrc shows in a figure; what is no look stays theirs.
_NO_LOOK = ("backend", "date.epoch", "docstring", "figure.max_open", "interactive", "keymap", "savefig.directory")
_NO_LOOK += ("timezone", "tk.", "toolbar", "webagg")
STYLE = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith(_NO_LOOK)} | {
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


def pruner_name(pruner: str) -> str:
    """What a pruner is called in a figure."""
    return "SNIP" if pruner == "snip" else pruner


def footnote(figure: Figure, table: pandas.DataFrame, by: str = "width") -> Figure:
    """Name under the figure what is missing from it, diverged, or has not learned, by network, seed, optimizer and ρ;
    nothing where all runs are done.

    by: the field that tells the networks apart."""
    notes = []
    for status in (*UNRECORDED, "diverged", "not learned"):
        result, kept = table["status"] == status, ", but in the means" * (status == "not learned")
        if result.any():
            notes.append(f"{status}{kept}: {result.sum()} of {len(table)} runs ({_listed(table, result, by)})")
    lost = [(run, (run.provenance or {}).get("collapsed")) for run in table.itertuples()]
    lost = dict.fromkeys(f"{', '.join(names)} of {by} {_network(run, by, True)}" for run, names in lost if names)
    if lost:
        notes.append(f"layers without a weight left: {'; '.join(lost)}")
    if notes:
        figure.supxlabel(_broken("; ".join(notes), 13 * figure.get_figwidth()), fontsize=8, color="#AA3377")
    return figure


def _listed(table: pandas.DataFrame, result: pandas.Series, by: str) -> str:
    """The runs that `marked` has: "width 8: SAM with ρ 0.01, 0.02 of seed 0, all of seeds 1, 2; width 16, 32: all"."""
    several, shortest = len(set(table["model"])) > 1, table.groupby("model")["epochs"].min()
    pruned = bool((table["sparsity"] > 0).any())
    runs = table.assign(
        marked=result,
        kind=[f"{r.model} of {by}" if several else by for r in table.itertuples()],
        network=[_network(r, by, pruned) for r in table.itertuples()],
        method=[
            optimizer_name(r) + (f" for {r.epochs} epochs" if r.epochs > shortest[r.model] else "")
            for r in table.itertuples()
        ],
    )
    sentence = {}
    for (kind, network), cell in runs.groupby(["kind", "network"], sort=False):
        seeds = {}
        for seed, rows in cell.groupby("seed"):
            seeds.setdefault(_methods(rows), []).append(str(seed))
        if set(seeds) != {""}:
            parts = [f"{what} of seed{'s' * (len(s) > 1)} {', '.join(s)}" for what, s in seeds.items() if what]
            sentence.setdefault((kind, ", ".join(parts) if len(seeds) > 1 else next(iter(seeds))), []).append(network)
    return "; ".join(f"{kind} {', '.join(networks)}: {what}" for (kind, what), networks in sentence.items())


def _methods(rows: pandas.DataFrame) -> str:
    """What is found among the rows of one network and seed: optimizers, with their ρ where only some of these are."""
    if rows["marked"].all():
        return "all"
    parts = []
    for method, of_method in rows.groupby("method", sort=False):
        result, rhos = of_method["marked"], set(of_method["rho"])
        if result.any() and (result.all() or len(rhos) == 1):
            parts.append(method)
        elif result.any():
            parts.append(f"{method} with ρ {', '.join(f'{rho:g}' for rho in sorted(set(of_method['rho'][result])))}")
    return ", ".join(parts)


def _broken(text: str, width: float) -> str:
    """The text with every line broken to at most so many characters, between its phrases where these are short enough:
    behind a comma, a colon or a semicolon."""
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for phrase in re.split(r"(?<=[,:;]) ", line):
            longer = f"{lines[-1]} {phrase}".strip()
            if len(longer) <= width or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(phrase)
    return "\n".join(part for line in lines for part in textwrap.wrap(line, round(width)) or [""])


def blank(axis: Axes, text: str) -> None:
    """Say in one line why a panel has no content, in place of its axes; the panel's title stays."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#AA3377", fontsize=9)


def _network(run, by: str, pruned: bool) -> str:
    """Which network a run is of; pruned: among sparse ones."""
    mask = f" {pruner_name(run.pruner)} {100 * run.sparsity:.0f}%" if run.sparsity else " dense" * pruned
    return f"{getattr(run, by):g}{mask}"


def title(what: str, table: pandas.DataFrame, preset: str) -> str:
    """A figure's title: what it shows, at which preset, what that changes of the paper's setting, how many seeds; and
    where the table has runs that are not of the preset, what these change."""
    notes = [STAND_INS.get(name, name) for name in sorted(table["dataset"].unique())]
    if set(table["model"]) == {"mlp"} and set(table["loss"]) == {"squared"}:  # others have the loss of their section
        hidden = " and ".join(f"{round(300 * w)}-{round(100 * w)}" for w in sorted(set(table["width"])))
        notes.append(f"MLP with hidden layers {hidden}, squared loss")
    if preset == "lite" and set(table["model"]) == {"vgg11"}:
        notes.append(f"width {table['width'].max():g} instead of 64, {table['epochs'].max()} epochs instead of 100")
    elif preset == "lite" and table["dataset"].str.startswith("cifar").all():
        notes.append(f"{table['epochs'].min()} epochs instead of 200")
    elif preset == "lite" and set(table["dataset"]) == {"mnist"} and table["epochs"].min() < 100:
        notes.append(f"{table['epochs'].min()} epochs instead of 100")
    changed = _changed(table, preset)
    named = f"{CHANGED} {preset}: {changed}" if changed else f"preset {preset}"
    return f"{what}\n{named}: {', '.join(notes)}, {_seeds(table)}"


CHANGED = "not the preset"


def _changed(table: pandas.DataFrame, preset: str) -> str:
    """In words, what the runs of a table change of the preset's; empty where they are of it."""
    keys = next((table[name] for name in ("run_key", "key") if name in table), None)
    if keys is not None:
        table = table[keys.isin(experiments.changed_keys(keys, preset))]
    try:
        runs = list(dict.fromkeys(Run.of_row(row) for row in table.to_dict("records")))
    except (ValueError, KeyError):  # a column of numbers has the name of a field
        return "other runs"
    return experiments.changed(runs, preset)


def setting(table: pandas.DataFrame) -> str:
    """What the runs of a panel are, in a figure whose panels are of different workloads: images, epochs, seeds."""
    return f"{images(table)}, {_seeds(table)}"


def images(table: pandas.DataFrame) -> str:
    """On which images runs are trained, and for how many epochs: "digits, 30 epochs"."""
    return f"{', '.join(sorted(set(table['dataset'])))}, {table['epochs'].min()} epochs"


def _seeds(table: pandas.DataFrame) -> str:
    seeds = table[~table["status"].isin(UNRECORDED)]["seed"].nunique()
    return f"{seeds} seed{'s' * (seeds != 1)}"


class _Between(LogFormatter):
    """Some of the numbers between the powers of ten, where an axis spans few of these, as they are."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def plain_numbers(numbers: Axis) -> None:
    """Numbers on a log axis as they are, also between the powers of ten where it spans few of these."""
    numbers.set_major_formatter("{x:g}")
    numbers.set_minor_formatter(_Between(minor_thresholds=(2, 0.5)))


def save(figure: Figure, name: str, data: pandas.DataFrame, preset: str) -> Shown:
    """Write figures/<preset>/<name>.png, .svg and, of the plotted `data`, .csv; return the figure with its caption.

    Lines of its title that are wider than the figure are broken. A figure whose title (`title`) or keys say that it
    shows other runs than the preset's goes to figures/<preset>-changed."""
    keys = [text for column in data if column.endswith(("key", "keys")) for text in data[column].dropna()]
    named = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    changed = any(CHANGED in text for text in named) or bool(experiments.changed_keys(keys, preset))
    folder = paths.gallery(preset, changed)
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        if figure.get_suptitle():
            room = 9 if figure.legends else 11.5  # characters an inch; a legend beside the panels takes some
            figure.suptitle(_broken(figure.get_suptitle(), room * figure.get_figwidth()))
        said = {"Description": BY_NAME[name].shows} if name in BY_NAME else {}
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None} | said)):
            with files.replacing(folder / f"{name}.{kind}") as out:
                figure.savefig(out, format=kind, metadata=metadata)
            figure.set_layout_engine("none")  # as the bitmap was laid out: that takes as long as to draw it
    files.replace(folder / f"{name}.csv", data.to_csv(index=False, float_format="%.9g"))
    plt.close(figure)  # the notebook shows what is returned, once
    every = list(dict.fromkeys(key for text in keys for key in str(text).split()))
    return Shown(figure, caption(name, folder / f"{name}.csv", every))
