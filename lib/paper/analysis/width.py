"""What the figures of Section 5 plot, and numbers that sum a whole sweep up, on top of `lib.paper.analysis.gap`."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas
from scipy import stats

from lib.paper.analysis import gap
from lib.paper.analysis.rho_search import cells, columns_of

ZERO = 0.01  # nats, under which a training loss counts as zero: a probability of 99% for the right class
SMOOTH = 2  # the F ratio under which we call a trend continuous; nothing in the paper, or in statistics, sets it
QUANTITIES = {
    "test accuracy": ("test_accuracy", 100),
    "training loss": ("train_loss", 1),
    "test loss": ("test_loss", 1),
}


def same_epochs(table: pandas.DataFrame) -> pandas.DataFrame:
    """The runs without those of SGD for twice the epochs."""
    return table[table["epochs"] == table["epochs"].min()]


def points(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """What Figures 3, 4, 9 and 10 plot, one row a point: the columns of `by`, then parameters, method, quantity, ….

    quantity: "gap" by the paper's protocol (percentage points), with the reference as method; or, of the runs that
    `gap.chosen` gives, "test accuracy" (%), "training loss", "test loss". value is its value for the seed at rho;
    searched, radii, complete, as in `gap.gaps`. key: of the run; for a gap those of all runs behind it: of SGD's,
    and of SAM's that ρ was chosen from.
    """
    by = columns_of(by)
    result = gap.gaps(table, by).query("protocol == 'paper'")
    shown = result.rename(columns={"reference": "method", "gap": "value"}).assign(quantity="gap", key=result["keys"])
    search = ["searched", "radii", "complete"]
    runs = gap.chosen(table, by).merge(result.drop_duplicates(by)[[*by, *search]], on=by)
    parts = [runs.assign(quantity=q, value=factor * runs[name]) for q, (name, factor) in QUANTITIES.items()]
    columns = [*by, "parameters", "method", "quantity", "seed", "rho", "value", *search, "key"]
    return pandas.concat([shown, *parts], ignore_index=True)[columns].astype({"complete": bool})


def interpolates(points: pandas.DataFrame) -> float:
    """The smallest number of parameters from which on SGD's mean training loss is under ZERO; NaN if it never is."""
    losses = points[(points["quantity"] == "training loss") & (points["method"] == "SGD")]
    means = losses.groupby("parameters")["value"].mean().sort_index(ascending=False)
    reached = means[(means < ZERO).cummin()]
    return float(reached.index.min()) if len(reached) else math.nan


def complete_points(points: pandas.DataFrame, quantity: str, method: str, beyond: float = 0) -> pandas.DataFrame:
    """The points of one quantity and method of the cells whose search is complete, from `beyond` parameters on."""
    same = (points["quantity"] == quantity) & (points["method"] == method)
    return points[same & points["complete"] & (points["parameters"] >= beyond)]


def at_zero_loss(gaps: pandas.DataFrame, since: float) -> tuple[str, bool | None]:
    """By how much the gaps of the cells from `since` parameters on, which `interpolates` gives, are above those of the
    others: in words, and whether they are; None with the reason where that cannot be told."""
    if gaps.empty:
        return "no network has a complete search", None
    if math.isnan(since):
        return "SGD does not bring the largest network there", None
    inside = gaps["parameters"] >= since
    if inside.all() or not inside.any():
        return f"{'only' if inside.all() else 'no'} such networks have a complete search", None
    return above_zero(inside_over_outside(gaps, since))


def inside_over_outside(gaps: pandas.DataFrame, since: float) -> pandas.Series:
    """By how much, for each seed, the mean gap of the cells from `since` parameters on is above that of the others;
    empty where there are not both."""
    by_region = gaps.assign(inside=gaps["parameters"] >= since).pivot_table(
        index="seed", columns="inside", values="gap"
    )
    return (by_region[True] - by_region[False]).dropna() if by_region.shape[1] == 2 else pandas.Series(dtype=float)


def above_zero(differences: pandas.Series) -> tuple[str, bool | None]:
    """Differences in points, one a seed: their mean with Student's 95% interval in words, and whether that interval is
    above zero; None for fewer than two seeds."""
    if len(differences) < 2:
        return "fewer than two seeds tell", None
    low, high = gap.interval(differences)
    sentence = f"{differences.mean():+.2f} points (95% {low:+.2f} to {high:+.2f}, {len(differences)} seeds)"
    return sentence, bool(low > 0)


def lowered(points: pandas.DataFrame) -> pandas.DataFrame:
    """How far SAM's test loss is below SGD's: value, one row a cell and seed."""
    sgd, sam = (complete_points(points, "test loss", method) for method in ("SGD", "SAM"))
    both = sgd.merge(sam, on=["parameters", "seed"], suffixes=("_sgd", "_sam"))
    return both.assign(value=both["value_sgd"] - both["value_sam"])[["parameters", "seed", "value"]]


def matched(gaps: pandas.DataFrame) -> pandas.DataFrame:
    """Of `gap.gaps` the rows over SGD for twice the epochs, and with the same networks, seeds and runs of SAM those
    over SGD for as many epochs as SAM; only where there are both."""
    same = ["parameters", "protocol", "seed"]
    plain = gaps.loc[gaps["reference"] == "SGD", [*same, "sgd"]]
    longer = gaps[gaps["reference"] != "SGD"].merge(plain, on=same, suffixes=("", "_plain"))
    shorter = longer.assign(reference="SGD", sgd=longer["sgd_plain"], gap=longer["sam"] - longer["sgd_plain"])
    return pandas.concat([longer, shorter], ignore_index=True).drop(columns="sgd_plain")


def overall(gaps: pandas.DataFrame) -> pandas.DataFrame:
    """The gap of a whole sweep for each reference and protocol: averaged over its cells for each seed, then its mean
    over seeds with Student's 95% interval. Only seeds that all cells have; cells whose search is not complete are left
    out, and partial ones, for which fewer seeds count than for the fullest.

    The interval takes the seeds for independent, but they share test samples, and by "both" any two seeds share those
    that chose. In 20,000 simulated sweeps of 4 networks and 3 seeds, in which SAM did nothing and runs scattered by
    1 point, that of "both" covered 0 in 93, 92 and 89% where either half of the test samples favoured this or that ρ
    by 0, 0.4 and 0.8 points (`tests/test_analysis_null.py`).

    Columns: reference, protocol, gap, low, high, cells, seeds, partial (the parameters of those left out).
    """
    rows = []
    complete = gaps[gaps["complete"].astype(bool)]
    for (reference, protocol), part in complete.groupby(["reference", "protocol"], sort=False):
        counts = complete[complete["reference"] == reference].groupby("parameters")["seed"].nunique()
        partial = counts.index[counts < counts.max()].tolist()
        part = part[~part["parameters"].isin(partial)]
        wide = part.pivot_table(index="seed", columns="parameters", values="gap").dropna().mean(axis=1)
        low, high = gap.interval(wide)
        row = {"reference": reference, "protocol": protocol, "gap": wide.mean(), "low": low, "high": high}
        rows.append(row | {"cells": part["parameters"].nunique(), "seeds": len(wide), "partial": partial})
    columns = ["reference", "protocol", "gap", "low", "high", "cells", "seeds", "partial"]
    kinds = dict.fromkeys(("gap", "low", "high"), float) | dict.fromkeys(("cells", "seeds"), int)
    return pandas.DataFrame(rows, columns=columns).astype(kinds)


def without_search(table: pandas.DataFrame, reference: str = "SGD") -> str:
    """In words, the networks of a table of `sweep` of which no seed has a complete search, which no verdict takes into
    account; empty if there are none."""
    lost = [cell.labels["width"] for cell in cells(table) if not cell.complete(reference)]
    widths = ", ".join(f"{width:g}" for width in lost)
    return f"; without a complete search: {len(lost)} of {table['width'].nunique()} widths ({widths})" if lost else ""


def gap_in_words(row) -> str:
    """A row of `overall` in words."""
    return f"{row.gap:+.2f} points (95% {row.low:+.2f} to {row.high:+.2f}){gap.left_out(row.partial)}"


def best_rhos(tables: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """What Figure 5 plots: workload, parameters, seed ("all", or the one that chose alone), rho, edge (whether that is
    the smallest or the largest that was tried, and so only a bound), keys (of the runs it was chosen from).

    Of cells whose search is complete; a workload without any has one row of NaN.
    """
    rows = []
    for workload, table in tables.items():
        complete = [cell for cell in cells(table) if cell.complete("SGD")]
        rows += [{"workload": workload}] * (not complete)
        for cell in complete:
            of = {"workload": workload, "parameters": cell.labels["parameters"]}
            for seed, rho in ({"all": cell.best()} | cell.alone()).items():
                keys = cell.keys(cell.seeds("SGD") if seed == "all" else [seed])
                rows.append(of | {"seed": str(seed), "rho": rho, "edge": cell.edge(rho), "keys": keys})
    return pandas.DataFrame(rows, columns=["workload", "parameters", "seed", "rho", "edge", "keys"])


def selection(gaps: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """What the figure of the protocols plots, from `gap.gaps` of each workload: the gap over SGD of every protocol
    and seed in the cells whose search is complete, with its mean and standard error (error) over seeds, and keys.

    A workload without any has one row of NaN.
    """
    columns = ["workload", "width", "parameters", "protocol", "seed", "rho", "sgd", "sam", "gap"]
    parts = [pandas.DataFrame(columns=[*columns, "mean", "error", "keys"])]
    for workload, result in gaps.items():
        shown = result[(result["reference"] == "SGD") & result["complete"]].assign(workload=workload)[columns]
        over_seeds = shown.groupby(["width", "protocol"])["gap"]
        shown = shown.assign(mean=over_seeds.transform("mean"), error=over_seeds.transform("sem"))
        shown["keys"] = result["keys"]
        parts.append(shown if len(shown) else pandas.DataFrame({"workload": [workload]}))
    return pandas.concat(parts[1:] or parts, ignore_index=True).reindex(columns=parts[0].columns)


def accuracies(table: pandas.DataFrame) -> pandas.DataFrame:
    """What Figures 6 and 11 to 13 plot: width, parameters, optimizer, rho, seed, accuracy (%), key of every run that is
    done, SGD for as many epochs as SAM.

    searched, radii: at how many ρ the seed of this width that has most is done, and of how many that the table asks
    for; complete: whether the run's seed counts and has a record at all of them. (`lib.paper.analysis.rho_search` says
    which count.)
    """
    parts = [table.iloc[:0].assign(parameters=0, searched=0, radii=0, complete=False)]
    for cell in cells(table):
        seeds = cell.seeds("SGD") if cell.complete("SGD") else []
        result = cell.rows[(cell.rows["status"] == "done") & (cell.rows["epochs"] == cell.epochs)]
        done = result[result["optimizer"] == "sam"].groupby("seed").size()
        search = {"searched": done.max() if len(done) else 0, "radii": cell.sam["rho"].nunique()}
        parts.append(result.assign(parameters=cell.labels["parameters"], **search, complete=result["seed"].isin(seeds)))
    tidy = pandas.concat([part for part in parts if len(part)] or parts[:1])
    tidy = tidy.assign(accuracy=100 * tidy["test_accuracy"].astype(float))
    columns = ["width", "parameters", "optimizer", "rho", "seed", "accuracy", "searched", "radii", "complete", "key"]
    return tidy[columns].astype({"complete": bool})


def roughness(accuracies: pandas.DataFrame) -> pandas.DataFrame:
    """For every width the lack of fit of accuracy to a parabola in log ρ. Columns: ratio, F, how far the means over
    seeds are from it, over what the scatter of the seeds lets expect, about 1 for a smooth trend; p, the chance of one
    as large then, if that scatter is normal and the same at every ρ.

    Widths with fewer than four ρ, or fewer than two seeds at each, are left out.
    """
    rows = []
    for _, runs in accuracies[accuracies["optimizer"] == "sam"].groupby("width"):
        groups = [g["accuracy"].to_numpy() for _, g in runs.groupby("rho")]
        if len(groups) < 4 or min(map(len, groups)) < 2:
            continue
        x, y = np.log(runs["rho"]), runs["accuracy"]
        residual = np.sum((y - np.polyval(np.polyfit(x, y, 2), x)) ** 2)
        pure = sum(np.sum((g - g.mean()) ** 2) for g in groups)
        lack, free = len(groups) - 3, len(y) - len(groups)
        ratio = float((residual - pure) / lack / (pure / free))
        rows.append({"ratio": ratio, "p": stats.f.sf(ratio, lack, free)})
    return pandas.DataFrame(rows, columns=["ratio", "p"], dtype=float)


def continuous(accuracies: pandas.DataFrame) -> tuple[str, bool | None]:
    """Whether the median F of `roughness` is below SMOOTH, in words with Fisher's combined p; None without any F."""
    result = roughness(accuracies)
    if result.empty:
        return "no network has four ρ with two seeds", None
    middle, p = result["ratio"].median(), stats.combine_pvalues(result["p"], "fisher").pvalue
    sentence = f"F = {middle:.2g} in the median of {len(result)} network{'s' * (len(result) != 1)}"
    sentence += f" (threshold, of our choice: {SMOOTH}); Fisher's combined p of smooth trends = {p:.2g}"
    return sentence, bool(middle < SMOOTH)


def listed(parts: Iterable[tuple[str, str]]) -> str:
    """ "name: what" of each, in one line."""
    return "; ".join(f"{name}: {what}" for name, what in parts)
