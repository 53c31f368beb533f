"""What the figures of Section 5 plot, and numbers that sum a whole sweep up, on top of `lib.paper.analysis.gap`."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas

from lib.paper.analysis import effects, gap
from lib.paper.analysis.rho_search import cells, columns_of, middle
from lib.paper.claims import Effect, Finding

ZERO = 0.01  # nats, under which a training loss counts as zero: a probability of 99% for the right class
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


def at_zero_loss(gaps: pandas.DataFrame, since: float) -> Finding:
    """By how much the gaps of the networks from `since` parameters on, which `interpolates` gives, are above those of
    the others."""
    if gaps.empty:
        return Finding("no network has a complete search")
    if math.isnan(since):
        return Finding("SGD does not bring the largest network there")
    inside = gaps["parameters"] >= since
    if inside.all() or not inside.any():
        return Finding(f"{'only' if inside.all() else 'no'} such networks have a complete search")
    return of_effect(inside_over_outside(gaps, since))


def inside_over_outside(gaps: pandas.DataFrame, since: float) -> Effect:
    """The mean gap of the networks from `since` parameters on minus that of the others; unknown where there are not
    both."""
    groups = dict(list(gaps.groupby("parameters")["gap"]))
    inside = np.array([count >= since for count in groups])
    if not inside.any() or inside.all():
        return effects.contrast([], [], "points")
    weights = np.where(inside, 1 / max(1, inside.sum()), -1 / max(1, (~inside).sum()))
    return effects.contrast(list(groups.values()), weights, "points")


def of_effect(effect: Effect) -> Finding:
    """An effect as a finding, in words with what it rests on."""
    if math.isnan(effect.value):
        return Finding("nothing to compare")
    number = f"{effect.networks} networks, " * (effect.networks > 1)
    return Finding(f"{effect}; {number}{effect.seeds} seed{'s' * (effect.seeds != 1)}", effect=effect)


# Gaps in points read off the published Figure 3a (± 0.01), by the parameters of widths 0.25, 0.5, 1, 4 and 10.
PUBLISHED = {61_035: 0.073, 125_810: 0.063, 266_610: 0.18, 1_426_410: 0.19, 5_366_010: 0.187}


def published(parameters: Iterable[float]) -> np.ndarray:
    """The published gaps of the MLP on MNIST at these numbers of parameters, between widths on a line over log₁₀."""
    return np.interp(np.log10(list(parameters)), np.log10(list(PUBLISHED)), list(PUBLISHED.values()))


def published_slope(parameters: Iterable[float]) -> float:
    """The slope over log₁₀ parameters that the published gaps have at these networks; NaN for fewer than two."""
    counts = sorted(set(parameters))
    weights = effects.slope_weights(counts)
    return math.nan if weights is None else float(weights @ published(counts))


def against_published(gaps: pandas.DataFrame) -> Finding:
    """The mean of measured minus published gaps, at the published widths that have a complete search."""
    same = gaps[gaps["parameters"].isin(PUBLISHED)]
    if same.empty:
        return Finding("no published width has a complete search")
    off = same.assign(off=same["gap"] - published(same["parameters"]))
    each = ", ".join(f"{mean:+.3f} at {count:,.0f}" for count, mean in off.groupby("parameters")["off"].mean().items())
    finding = of_effect(effects.over_cells(off, "off"))
    return finding._replace(measured=f"measured minus published: {finding.measured}; {each} parameters")


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
    """The gap of a whole sweep for each reference and protocol: the mean over its cells, with its 95% interval by the
    variance pooled over them, by "both" from one mean a seed; the other of these two beside it. Left out are cells
    whose search is not complete, and partial ones, for which fewer seeds count than for the fullest.

    The intervals take the seeds for independent, but they share test samples, and by "both" any two seeds share those
    that chose: docs/statistics.md tells how often they then miss.

    Columns: reference, protocol, gap, low, high, low_beside, high_beside, cells, seeds, partial (the parameters of
    those left out), effect.
    """
    rows = []
    complete = gaps[gaps["complete"].astype(bool)]
    for (reference, protocol), part in complete.groupby(["reference", "protocol"], sort=False):
        counts = complete[complete["reference"] == reference].groupby("parameters")["seed"].nunique()
        partial = counts.index[counts < counts.max()].tolist()
        effect = effects.over_cells(part[~part["parameters"].isin(partial)], pooled=protocol != "both")
        row = {"reference": reference, "protocol": protocol, "gap": effect.value, "low": effect.low}
        row |= {"high": effect.high, "low_beside": effect.beside[0], "high_beside": effect.beside[1]}
        rows.append(row | {"cells": effect.networks, "seeds": effect.seeds, "partial": partial, "effect": effect})
    numbers = ["gap", "low", "high", "low_beside", "high_beside"]
    kinds = dict.fromkeys(numbers, float) | dict.fromkeys(("cells", "seeds"), int)
    columns = ["reference", "protocol", *numbers, "cells", "seeds", "partial", "effect"]
    return pandas.DataFrame(rows, columns=columns).astype(kinds)


def without_search(table: pandas.DataFrame, reference: str = "SGD") -> str:
    """In words, the networks of a table of `sweep` of which no seed has a complete search, which no verdict takes into
    account; empty if there are none."""
    lost = [cell.labels["width"] for cell in cells(table) if not cell.complete(reference)]
    widths = ", ".join(f"{width:g}" for width in lost)
    return f"; without a complete search: {len(lost)} of {table['width'].nunique()} widths ({widths})" if lost else ""


def gap_in_words(row) -> str:
    """A row of `overall` in words."""
    return f"{row.effect}{gap.left_out(row.partial)}"


def own_radii(table: pandas.DataFrame, widths: Sequence[float], expected: float) -> Finding:
    """How far ρ* that each seed chooses by itself is from an expected one, log₁₀, over the networks of these widths."""
    chosen = {cell.labels["width"]: cell.alone() for cell in cells(table) if cell.complete("SGD")}
    if not set(widths) <= set(chosen):
        return Finding("no complete search at " + ", ".join(f"width {w:g}" for w in widths if w not in chosen))
    logs = [[math.log10(rho / expected) for rho in chosen[width].values()] for width in widths]
    each = ", ".join(f"ρ* = {middle(list(chosen[width].values())):.3g} at width {width:g}" for width in widths)
    finding = of_effect(effects.contrast(logs, [1 / len(widths)] * len(widths), "decades"))
    return finding._replace(measured=f"{each}; {finding.measured}")


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
                edge = any(map(cell.edge, cell.tied())) if seed == "all" else cell.edge(rho)
                rows.append(of | {"seed": str(seed), "rho": rho, "edge": edge, "keys": keys})
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


def continuous(accuracies: pandas.DataFrame) -> Finding:
    """How far the accuracies of SAM are from a parabola in log ρ, over all networks with four ρ and two seeds."""
    sam = accuracies[accuracies["optimizer"] == "sam"]
    networks = [
        [(rho, part["accuracy"].to_numpy()) for rho, part in runs.groupby("rho")] for _, runs in sam.groupby("width")
    ]
    effect = effects.roughness(networks)
    if math.isnan(effect.value):
        return Finding("no network has four ρ with two seeds")
    words = f"root mean square {effect.value:.3f} points (95% {effect.low:.3f} to {effect.high:.3f}) from parabolas"
    return Finding(f"{words}; {effect.networks} networks, {effect.seeds} seeds", effect=effect)


def listed(parts: Iterable[tuple[str, str]]) -> str:
    """ "name: what" of each, in one line."""
    return "; ".join(f"{name}: {what}" for name, what in parts)
