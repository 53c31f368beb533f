"""What the figures of Section 5 plot, and numbers that sum a whole sweep up, on top of `lib.benefit`."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas

from lib import benefit

ZERO = 0.01  # nats, under which a training loss counts as zero: a probability of 99% for the right class
QUANTITIES = {
    "test accuracy": ("test_accuracy", 100),
    "training loss": ("train_loss", 1),
    "test loss": ("test_loss", 1),
}


def points(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """What Figures 3, 4, 9 and 10 plot, one row a point: the columns of `by`, then parameters, method, quantity, ….

    quantity: "gap" by the paper's protocol (percentage points), with the reference as method; or, of the runs that
    `benefit.chosen` gives, "test accuracy" (%), "training loss", "test loss". value is its value for the seed at rho;
    complete, as in `benefit.gaps`. key: of the run; empty for a gap, whose two runs have rows of their own.
    """
    by = [by] if isinstance(by, str) else list(by)
    found = benefit.gaps(table, by).query("protocol == 'paper'")
    gap = found.rename(columns={"reference": "method", "gap": "value"}).assign(quantity="gap", key="")
    runs = benefit.chosen(table, by).merge(found.drop_duplicates(by)[[*by, "complete"]], on=by)
    parts = [runs.assign(quantity=q, value=factor * runs[name]) for q, (name, factor) in QUANTITIES.items()]
    columns = [*by, "parameters", "method", "quantity", "seed", "rho", "value", "complete", "key"]
    return pandas.concat([gap, *parts], ignore_index=True)[columns].astype({"complete": bool})


def interpolates(points: pandas.DataFrame) -> float:
    """The smallest number of parameters from which on SGD's mean training loss is under ZERO; NaN if it never is."""
    losses = points[(points["quantity"] == "training loss") & (points["method"] == "SGD")]
    means = losses.groupby("parameters")["value"].mean().sort_index(ascending=False)
    reached = means[(means < ZERO).cummin()]
    return float(reached.index.min()) if len(reached) else math.nan


def of(points: pandas.DataFrame, quantity: str, method: str, beyond: float = 0) -> pandas.DataFrame:
    """The points of one quantity and method of the cells whose search is complete, from `beyond` parameters on."""
    same = (points["quantity"] == quantity) & (points["method"] == method)
    return points[same & points["complete"] & (points["parameters"] >= beyond)]


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
    low, high = benefit.interval(differences)
    told = f"{differences.mean():+.2f} points (95% {low:+.2f} to {high:+.2f}, {len(differences)} seeds)"
    return told, bool(low > 0)


def lowered(points: pandas.DataFrame) -> pandas.DataFrame:
    """How far SAM's test loss is below SGD's: value, one row a cell and seed."""
    sgd, sam = (of(points, "test loss", method) for method in ("SGD", "SAM"))
    both = sgd.merge(sam, on=["parameters", "seed"], suffixes=("_sgd", "_sam"))
    return both.assign(value=both["value_sgd"] - both["value_sam"])[["parameters", "seed", "value"]]


def overall(gaps: pandas.DataFrame) -> pandas.DataFrame:
    """The gap of a whole sweep for each reference and protocol: averaged over its cells for each seed, then its mean
    over seeds with Student's 95% interval. Only cells whose search is complete, and seeds that all of those have.

    Columns: reference, protocol, gap, low, high, cells, seeds.
    """
    rows = []
    complete = gaps[gaps["complete"].astype(bool)]
    for (reference, protocol), part in complete.groupby(["reference", "protocol"], sort=False):
        wide = part.pivot_table(index="seed", columns="parameters", values="gap").dropna().mean(axis=1)
        low, high = benefit.interval(wide)
        row = {"reference": reference, "protocol": protocol, "gap": wide.mean(), "low": low, "high": high}
        rows.append(row | {"cells": part["parameters"].nunique(), "seeds": len(wide)})
    return pandas.DataFrame(rows, columns=["reference", "protocol", "gap", "low", "high", "cells", "seeds"])


def best_rhos(tables: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """What Figure 5 plots: workload, parameters, seed ("all", or the one that chose alone), rho.

    Of cells whose search is complete; a workload without any has one row of NaN.
    """
    rows = []
    for workload, table in tables.items():
        cells = [cell for cell in benefit.cells(table) if cell.complete("SGD")]
        rows += [{"workload": workload}] * (not cells)
        for cell in cells:
            choices = {"all": cell.best()} | cell.alone()
            rows += [
                {"workload": workload, "parameters": cell.labels["parameters"], "seed": str(seed), "rho": rho}
                for seed, rho in choices.items()
            ]
    return pandas.DataFrame(rows, columns=["workload", "parameters", "seed", "rho"])


def accuracies(table: pandas.DataFrame) -> pandas.DataFrame:
    """What Figures 6 and 11 to 13 plot: width, parameters, optimizer, rho, seed, accuracy (%), key of every run that is
    done, SGD for as many epochs as SAM."""
    done = table[(table["status"] == "done") & (table["epochs"] == table["epochs"].min())]
    sizes = {cell.labels["width"]: cell.labels["parameters"] for cell in benefit.cells(table)}
    tidy = done.assign(accuracy=100 * done["test_accuracy"], parameters=done["width"].map(sizes))
    return tidy[["width", "parameters", "optimizer", "rho", "seed", "accuracy", "key"]]


def roughness(accuracies: pandas.DataFrame) -> list[float]:
    """For every width the F ratio of the lack of fit of accuracy to a parabola in log ρ: how far the means over seeds
    are from it, over what the scatter of the seeds lets expect; about 1 for a smooth trend.

    Widths with fewer than four ρ, or fewer than two seeds at each, are left out.
    """
    ratios = []
    for _, runs in accuracies[accuracies["optimizer"] == "sam"].groupby("width"):
        groups = [g["accuracy"].to_numpy() for _, g in runs.groupby("rho")]
        if len(groups) < 4 or min(map(len, groups)) < 2:
            continue
        x, y = np.log(runs["rho"]), runs["accuracy"]
        residual = np.sum((y - np.polyval(np.polyfit(x, y, 2), x)) ** 2)
        pure = sum(np.sum((g - g.mean()) ** 2) for g in groups)
        free = len(y) - len(groups)
        ratios.append(float((residual - pure) / (len(groups) - 3) / (pure / free)))
    return ratios


def listed(parts: Iterable[tuple[str, str]]) -> str:
    """ "name: what" of each, in one line."""
    return "; ".join(f"{name}: {what}" for name, what in parts)
