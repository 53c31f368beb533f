"""What SAM gains over SGD, cell by cell of a sweep, by the paper's protocol and by unbiased ones (Section 5).

A cell is one network, such as one width. Its gap for the seed s, in percentage points of test accuracy, is

    gap_s = 100 (SAM_s(ρ*) − SGD_s),    ρ* = argmax_ρ Σ_s SAM_s(ρ).

The paper chooses ρ* on the accuracies that it then reports. This adds a selection bias: if m radii have no effect and
runs scatter by σ, the gap over n seeds is σ/√n times the expected maximum of m normal variables. Runs scatter for two
reasons, their seed and the finite test set. A protocol removes the bias from a source that it does not choose on.

| protocol | ρ is chosen on | the gap is reported on | selection bias that is left |
|---|---|---|---|
| paper | all seeds, all test samples | the same | of seeds and of samples |
| samples | all seeds, one half of the test samples | the other half, and vice versa | of seeds |
| seeds | the other seeds, all test samples | the seed left out | of samples |
| both | the other seeds, one half | the seed left out, the other half, and vice versa | none |
"""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas
from scipy import stats

from lib import data
from lib.paper.analysis.rho_search import PARTS, REFERENCES, Cell, cells, columns_of, highest, middle


class Fold(NamedTuple):
    """One way to choose ρ: on the other seeds only or on all, on a part of the test samples; and where to report."""

    others: bool
    choose: str
    report: str


OUTCOMES = ("train_loss", "train_accuracy", "test_loss", *PARTS.values())
PROTOCOLS = {
    "paper": (Fold(False, "all", "all"),),
    "samples": (Fold(False, "even", "odd"), Fold(False, "odd", "even")),
    "seeds": (Fold(True, "all", "all"),),
    "both": (Fold(True, "even", "odd"), Fold(True, "odd", "even")),
}


def gaps(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """The gap of every cell, reference, protocol and seed, one row each, from a table of `sweep`.

    by: the columns whose values make a cell, such as "width" or ("width", "sparsity", "pruner").

    Columns: those of `by`; parameters (that are trained; of a sparse network those that remain); reference, protocol;
    seed; rho, the chosen one (its geometric mean over folds); sgd and sam, the accuracies (%); gap (percentage points);
    searched, from how many ρ it was chosen; radii, how many the table asks for; complete, whether those seeds have
    records at every ρ (an incomplete search has a smaller selection bias, so do not compare such cells with others);
    keys, of the runs that ρ was chosen from and of the reference, in one string.

    `lib.paper.analysis.rho_search` says which seeds count. A ρ at which SAM diverged for such a seed is open to none of
    them, so that no such failure counts against SAM. The gap is the mean over equal ρ. Cells without such a seed or ρ
    have no row here; `summary` names them.

    Raises ValueError for an unknown column in `by`, and for cells in which runs differ by more than ρ and seed.

    >>> from lib.runs import Run
    >>> runs = [Run(dataset="digits"), *(Run(dataset="digits", optimizer="sam", rho=rho) for rho in (0.1, 0.2))]
    >>> table = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"} for run in runs])
    >>> table = table.assign(**dict.fromkeys(PARTS.values(), [0.9, 0.92, 0.91]))
    >>> gaps(table).query("protocol == 'paper'")[["rho", "gap"]].round(6).values.tolist()
    [[0.1, 2.0]]
    """
    rows = []
    for cell in cells(table, by):
        for reference in cell.references:
            rows += [cell.labels | {"reference": reference} | row for row in _gaps(cell, reference)]
    columns = [*columns_of(by), "parameters", "reference", "protocol", "seed", "rho", "sgd", "sam", "gap"]
    columns += ["searched", "radii", "complete", "keys"]
    kinds = dict.fromkeys(("rho", "sgd", "sam", "gap"), float)
    kinds |= dict.fromkeys(("parameters", "seed", "searched", "radii"), int)
    kinds |= {"complete": bool, **table.dtypes[columns_of(by)]}  # also where there is no row
    return pandas.DataFrame(rows, columns=columns).astype(kinds)


def _gaps(cell: Cell, reference: str) -> Iterator[dict]:
    """The rows of `gaps` for one cell and reference, without what these have in common."""
    search = {part: cell.search(reference, part) for part in PARTS}
    rhos, seeds = search["all"].index, search["all"].columns
    if not len(rhos):
        return
    sentence = {"searched": len(rhos), "radii": len(set(cell.sam["rho"])), "complete": cell.complete(reference)}
    sam = {part: result.to_numpy() for part, result in search.items()}
    sgd = cell.reference(reference).set_index("seed").loc[seeds]
    keys = cell.keys(seeds) + " " + sgd["key"].to_numpy()
    sgd = {part: 100 * sgd[column].to_numpy() for part, column in PARTS.items()}
    for (protocol, folds), (i, seed) in itertools.product(PROTOCOLS.items(), enumerate(seeds)):
        on = [j for j in range(len(seeds)) if j != i or not folds[0].others]
        if on:
            best = [highest(sam[fold.choose][:, on]) for fold in folds]
            at_best = 100 * np.mean([sam[fold.report][k, i].mean() for fold, k in zip(folds, best, strict=True)])
            base = np.mean([sgd[fold.report][i] for fold in folds])
            row = {"protocol": protocol, "seed": seed, "rho": middle([middle(rhos[k]) for k in best])}
            yield row | {"sgd": base, "sam": at_best, "gap": at_best - base} | sentence | {"keys": keys[i]}


def summary(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """Every cell, reference and protocol, one row each: what `gaps` says, averaged over the seeds.

    Columns: those of `by`, parameters, reference, protocol, then
    seeds: how many count; 0 where nothing can be said, and the numbers are NaN.
    rho: the chosen one, its geometric mean over seeds and folds; edge: whether the paper's ρ* is the largest or the
        smallest that was tried, so that the best one may lie beyond.
    sgd, sam, gap: means; error: the standard error of the mean gap over seeds, and low, high: its 95% interval from
        Student's t; NaN for one seed. They treat ρ* as given.
    searched: from how many ρ it was chosen; complete, as in `gaps`.
    missing, diverged: how many runs of SAM and of this reference have no record, or have diverged; runs: of how many.

    >>> from lib.runs import Run
    >>> runs = [Run(dataset="digits"), *(Run(dataset="digits", optimizer="sam", rho=rho) for rho in (0.1, 0.2))]
    >>> table = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"} for run in runs])
    >>> table = table.assign(**dict.fromkeys(PARTS.values(), [0.9, 0.92, 0.91]))
    >>> summary(table).query("protocol == 'paper'")["edge"].tolist()  # ρ* is the smallest that was tried
    [True]
    """
    result, rows = gaps(table, by), []
    grouped = dict(list(result.groupby([*columns_of(by), "reference", "protocol"], dropna=False)))
    for cell in cells(table, by):
        for reference in cell.references:
            whole = {
                "edge": any(map(cell.edge, cell.tied(reference))),
                "searched": len(cell.search(reference, "all")),
                "complete": cell.complete(reference),
            }
            counts = cell.counts(reference)
            for protocol in PROTOCOLS:
                part = grouped.get((*(cell.labels[c] for c in columns_of(by)), reference, protocol), result.iloc[:0])
                low, high = interval(part["gap"])
                row = {"reference": reference, "protocol": protocol, "seeds": len(part), "rho": middle(part["rho"])}
                row |= whole | part[["sgd", "sam", "gap"]].mean().to_dict()
                rows.append(cell.labels | row | {"error": part["gap"].sem(), "low": low, "high": high} | counts)
    return pandas.DataFrame(rows)


def chosen(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """The runs that the paper's protocol compares: each reference, and SAM at ρ*, for the seeds that count.

    Rows of `table` with two more columns, parameters and method ("SAM" or a name of REFERENCES). Where several ρ are
    equally good, one row has the means over them, their geometric mean as ρ, and all keys in one string.

    >>> from lib.runs import Run
    >>> runs = [Run(dataset="digits"), *(Run(dataset="digits", optimizer="sam", rho=rho) for rho in (0.1, 0.2))]
    >>> table = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"} for run in runs])
    >>> table = table.assign(**dict.fromkeys(PARTS.values(), [0.9, 0.92, 0.91]))
    >>> chosen(table)[["method", "rho"]].values.tolist()
    [['SGD', 0.0], ['SAM', 0.1]]
    """
    parts = [table.iloc[:0].assign(parameters=0, method="").astype({"parameters": int})]
    for cell in cells(table, by):
        first, *others = cell.references
        methods = {first: cell.reference(first), "SAM": _averaged(cell.sam[cell.sam["rho"].isin(cell.tied())])}
        methods |= {other: cell.reference(other) for other in others}
        for method, rows in methods.items():
            seeds = cell.seeds(method if method in REFERENCES else "SGD")
            parts.append(rows[rows["seed"].isin(seeds)].assign(parameters=cell.labels["parameters"], method=method))
    return pandas.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _averaged(rows: pandas.DataFrame) -> pandas.DataFrame:
    """One row a seed: the means of what was measured over its runs at several ρ."""
    if not rows["seed"].duplicated().any():
        return rows
    means = {name: "mean" for name in OUTCOMES if name in rows}
    others = {name: "first" for name in rows if name not in means and name != "seed"}
    together = rows.groupby("seed", as_index=False).agg(others | means | {"rho": middle, "key": " ".join})
    return together[rows.columns]


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent normal values; NaN for fewer than two.

    >>> [round(float(bound), 3) for bound in interval([0.0, 1.0, 2.0])]
    [-1.484, 3.484]
    """
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of fewer than two values, or equal ones
        low, high = stats.ttest_1samp(np.asarray(values, dtype=float), 0.0).confidence_interval(level)
    return low, high


def mark_failures(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table of `sweep` with the status "not learned" for each run that is done and whose final test accuracy is
    below three times chance (below one half, of fewer than six classes): for what is said under a figure, as `gaps` and
    all means keep such runs."""
    done, failed = table["status"] == "done", pandas.Series(False, table.index)
    for dataset in table["dataset"][done].unique():
        limit = min(3 / data.shapes(dataset)[0], 0.5)
        failed |= done & (table["dataset"] == dataset) & (table["test_accuracy"] < limit)
    return table.assign(status=table["status"].mask(failed, "not learned"))


def left_out(partial: Sequence[int]) -> str:
    """In words, networks that have fewer seeds than the fullest of their sweep, by their parameters; empty for none.

    What rests on the seeds that all networks share leaves these out: else a network with its first seed would take the
    other seeds from all others."""
    return f"; partial, left out: {', '.join(f'{count:,}' for count in partial)} parameters" if partial else ""
