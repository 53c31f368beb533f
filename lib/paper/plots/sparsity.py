"""Section 6: pruning methods side by side."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from lib.paper.plots.style import STYLE, blank, plain_numbers, pruner_name

# None of the colours of SGD and SAM (`style.COLOURS`), which keep theirs.
PRUNERS = {"dense": "#000000", "random": "#E69F00", "snip": "#332288", "2:4": "#CC79A7", "1:4": "#117733"}
HOLLOW = "some ρ missing"


def by_pruner(
    tidy: pandas.DataFrame,
    *,
    title: str,
    x: str,
    xlabel: str,
    ylabel: str,
    log: str = "",
    joined: bool = True,
    yticks: Sequence[float] = (),
    xlim: tuple[float, float] | None = None,
    panels: Iterable[str] = (),
    above: str = "",
) -> Figure:
    """Values of sparse networks against the column `x`, a colour a pruner, a panel a value of `panel`.

    Columns: panel, pruner (a name of PRUNERS), x, seed, value. Every seed is a dot, hollow where a column `complete` is
    false; the mean of the others, or the column `chosen` if there is one, is a square: a search that is not complete
    has fewer ρ to choose from, and is not to be averaged with others. Where `x` holds names, those of a panel stand at
    equal distances, the pruners side by side, and of one pruner the seeds that have the same value.
    joined: the squares of a pruner are joined by a line that begins at the dense network.
    log: the axes that are logarithmic, "x", "y" or "xy"; such an x spans the same in all panels but those in which it
    is the same for all networks, up to a fifth: there the pruners stand side by side. yticks: where the values can only
    lie, if that is so.
    panels: those that are drawn whether they have values or not; by default those of `tidy`. One without says so.
    above: a column of numbers, such as the width, that name the values of `x` above each panel.
    """
    panels = list(panels) or list(dict.fromkeys(tidy["panel"])) or ["no run has a record"]
    named = not pandas.api.types.is_numeric_dtype(tidy[x])
    tidy = _placed(tidy.assign(complete=tidy.get("complete", True)), x, named)
    with plt.rc_context(STYLE):
        size = max(7.6, 4.1 * len(panels) + 0.4), 3.9 if len(tidy) else 1.9
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            part = tidy[tidy["panel"] == panel]
            axis.set(xlabel=xlabel, title=panel)
            if part.empty:
                blank(axis, "not enough records")
                continue
            if "x" in log and not named and _alike(part[x]):
                part = _side_by_side(axis, part, x, xlabel)
                _draw(axis, part, joined)
                _scale(axis, log.replace("x", ""), yticks)
                axis.axhline(0, color="black", lw=0.8)
                continue
            _draw(axis, part, joined)
            _scale(axis, log, yticks)
            if "x" in log:
                spread = [g[x] for _, g in tidy.groupby("panel") if not _alike(g[x])]
                ends = min(map(min, spread)), max(map(max, spread))
                axis.set_xlim(ends[0] / 1.15, ends[1] * 1.15)
            if named:
                names = list(dict.fromkeys(part[x]))
                axis.set_xticks(range(len(names)), names)
                axis.set_xlim(-0.5, len(names) - 0.5)
            elif xlim:
                axis.set_xlim(xlim)
            elif pandas.api.types.is_integer_dtype(tidy[x]):
                axis.set_xlim(part[x].min() - 0.5, part[x].max() + 0.5)
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            if "y" not in log:
                axis.axhline(0, color="black", lw=0.8)
            if above:
                networks = part.drop_duplicates(x)
                top = axis.secondary_xaxis("top")
                top.set_xticks(networks[x], [f"{value:g}" for value in networks[above]], fontsize=7, rotation=90)
                top.set_xlabel(f"{above} before pruning", fontsize=7)
        shown = [axis for axis, panel in zip(axes[0], panels, strict=True) if panel in set(tidy["panel"])]
        for axis in shown[:1]:
            axis.set_ylabel(ylabel)
            axis.tick_params(labelleft=True)
        looks = {label: look for axis in axes[0] for look, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        if looks:
            shown = [name for name in (*map(pruner_name, PRUNERS), HOLLOW) if name in looks]
            figure.legend([looks[name] for name in shown], shown, loc="outside right upper", fontsize=8)
        figure.suptitle(title)
    return figure


def _alike(values: pandas.Series) -> bool:
    return bool(values.max() < 1.2 * values.min())


def _side_by_side(axis: Axes, part: pandas.DataFrame, x: str, xlabel: str) -> pandas.DataFrame:
    """The points of a panel in which x tells nothing apart, a column a pruner, the networks of one pruner side by side
    by their width (where there is that column); the axis says so."""
    names = [name for name in PRUNERS if name in set(part["pruner"])]
    axis.set_xticks(range(len(names)), map(pruner_name, names))
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_xlabel(f"{xlabel}: {part[x].min():.2f} to {part[x].max():.2f} for all", fontsize=8)
    column = part["pruner"].map(names.index)
    order = part.get("width", part[x]).groupby(part["pruner"])
    at = column + 0.22 * (order.rank("dense") - (order.transform("nunique") + 1) / 2)
    return part.assign(at=at, dot=at)


def _placed(tidy: pandas.DataFrame, x: str, named: bool) -> pandas.DataFrame:
    """The table with two more columns: at, where the square of a point's network stands on the x axis, and dot, where
    the point itself does."""
    if not named:
        return tidy.assign(at=tidy[x], dot=tidy[x])
    place = tidy.groupby("panel")[x].transform(lambda names: pandas.factorize(names)[0])
    order = tidy["pruner"].map(list(PRUNERS).index).groupby([tidy["panel"], tidy[x]])
    at = place + 0.2 * (order.rank("dense") - (order.transform("nunique") + 1) / 2)
    equal = tidy.groupby(["panel", "pruner", x, "value"])["value"]
    return tidy.assign(at=at, dot=at + 0.065 * (equal.cumcount() - (equal.transform("size") - 1) / 2))


def _draw(axis: Axes, part: pandas.DataFrame, joined: bool) -> None:
    """The dots and squares of one panel."""
    square = "chosen" if "chosen" in part else "value"
    for name in (name for name in PRUNERS if name in set(part["pruner"])):
        for complete, dots in part[part["pruner"] == name].groupby("complete"):
            look = {"color": PRUNERS[name], "mfc": PRUNERS[name] if complete else "none"}
            axis.plot(dots["dot"], dots["value"], "o", ms=3.5, alpha=0.45, **look)
        line = part[part["complete"] & part["pruner"].isin([name, "dense"] if joined else [name])]
        mean = line.groupby("at")[square].mean()
        style = {"ls": "-" if joined else "none", "lw": 1.5, "marker": "s", "ms": 5}
        style |= {"mfc": "none", "ms": 10} if square == "chosen" else {}  # the dots inside can be counted
        style |= {"zorder": 3} if name == "dense" else {}  # upon the beginnings of the lines
        axis.plot(mean.index, mean, color=PRUNERS[name], label=pruner_name(name), **style)
    if not part["complete"].all():
        axis.plot([], [], "o", ms=3.5, color="black", mfc="none", label=HOLLOW)


def _scale(axis: Axes, log: str, yticks: Sequence[float]) -> None:
    for letter, numbers in (("x", axis.xaxis), ("y", axis.yaxis)):
        if letter in log:
            axis.set(**{f"{letter}scale": "log"})
            plain_numbers(numbers)
    if yticks:
        axis.set_yticks(yticks, [f"{tick:g}" for tick in yticks])
        axis.yaxis.set_minor_locator(NullLocator())
