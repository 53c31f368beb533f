"""What SAM gains over SGD, cell by cell of a sweep, by the paper's protocol and by unbiased ones (Section 5).

A cell is one network, such as one width. Its gap for the seed s, in percentage points of test accuracy, is

    gap_s = 100 (SAM_s(ρ*) − SGD_s),    ρ* = argmax_ρ Σ_s SAM_s(ρ).

The paper takes ρ* from the numbers that it then reports, and so adds luck to the gap: with m radii that do nothing and
runs that scatter by σ, n seeds give σ/√n times the expected maximum of m normal variables. A run scatters as it was
trained on its seed, and as it is tested on these samples; a protocol is free of the luck that it chooses without.

| protocol | ρ is chosen on | the gap is reported on | luck that is left |
|---|---|---|---|
| paper | all seeds, all test samples | the same | of seeds and of samples |
| samples | all seeds, one half of the test samples | the other half, and vice versa | of seeds |
| seeds | the other seeds, all test samples | the seed left out | of samples |
| both | the other seeds, one half | the seed left out, the other half, and vice versa | none |
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas
from scipy import stats

from lib import data, models, sparsity
from lib.runs import Run

PARTS = {"all": "test_accuracy", "even": "test_accuracy_even", "odd": "test_accuracy_odd"}
# What SAM is compared with: SGD for as many epochs, and for twice as many, which cost as many gradients.
REFERENCES = {"SGD": 1, "SGD, twice the epochs": 2}
# Mean accuracies that differ by less are equal: adding up in another order changes the last bits of a mean, and one
# test sample in one run of three changes it by more than 1e-6 on every data set here.
TIE = 1e-9


class Fold(NamedTuple):
    """One way to choose ρ: on the other seeds only or on all, on a part of the test samples; and where to report."""

    others: bool
    choose: str
    report: str


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
    records at every ρ: a search that is still under way has less luck to choose from, so such cells are not to be
    compared with others; keys, of the runs that ρ was chosen from and of the reference, in one string.

    A seed counts if the reference is done and SAM has records at the same ρ as for the other seeds that count: of all
    such groups of seeds the one with the most ρ, then the largest, then that of the smallest seed. So no search is
    averaged with another. A ρ at which SAM diverged for such a seed cannot be chosen. Of equal ρ the smallest is.
    Cells without such a seed or ρ have no row here; `summary` names them.

    Raises ValueError for an unknown column in `by`, and for cells in which runs differ by more than ρ and seed.
    """
    rows = []
    for cell in cells(table, by):
        for reference in cell.references:
            rows += [cell.labels | {"reference": reference} | row for row in cell.gaps(reference)]
    columns = [*_columns(by), "parameters", "reference", "protocol", "seed", "rho", "sgd", "sam", "gap"]
    columns += ["searched", "radii", "complete", "keys"]
    kinds = dict.fromkeys(("rho", "sgd", "sam", "gap"), float)
    kinds |= dict.fromkeys(("parameters", "seed", "searched", "radii"), int)
    kinds |= {"complete": bool, **table.dtypes[_columns(by)]}  # also where there is no row
    return pandas.DataFrame(rows, columns=columns).astype(kinds)


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
    """
    found, rows = gaps(table, by), []
    grouped = dict(list(found.groupby([*_columns(by), "reference", "protocol"], dropna=False)))
    for cell in cells(table, by):
        for reference, protocol in itertools.product(cell.references, PROTOCOLS):
            part = grouped.get((*(cell.labels[c] for c in _columns(by)), reference, protocol), found.iloc[:0])
            low, high = interval(part["gap"])
            row = {"seeds": len(part), "rho": _middle(part["rho"])}
            row |= {
                "edge": cell.edge(cell.best(reference)),
                "searched": len(cell.search(reference, "all")),
                "complete": cell.complete(reference),
                **part[["sgd", "sam", "gap"]].mean(),
                "error": part["gap"].sem(),
                "low": low,
                "high": high,
            }
            rows.append(cell.labels | {"reference": reference, "protocol": protocol} | row | cell.counts(reference))
    return pandas.DataFrame(rows)


def chosen(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> pandas.DataFrame:
    """The runs that the paper's protocol compares: each reference, and SAM at ρ*, for the seeds that count.

    Rows of `table` with two more columns, parameters and method ("SAM" or a name of REFERENCES).
    """
    parts = [table.iloc[:0].assign(parameters=0, method="").astype({"parameters": int})]
    for cell in cells(table, by):
        for reference in cell.references:
            seeds, rho = cell.seeds(reference), cell.best(reference)
            rows = cell.rows[cell.rows["seed"].isin(seeds)].assign(parameters=cell.labels["parameters"])
            parts.append(rows[_is(rows, reference, cell.epochs)].assign(method=reference))
            if reference == cell.references[0]:
                parts.append(rows[(rows["rho"] == rho) & (rows["optimizer"] == "sam")].assign(method="SAM"))
    return pandas.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent normal values; NaN for fewer than two."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


def highest(accuracies: np.ndarray) -> np.ndarray:
    """Which rows, one a ρ in ascending order, have the highest mean over their columns, the seeds: several if equal.

    Whatever chooses ρ* takes the first of these, so that no two results rest on different radii of equal mean.
    """
    means = np.mean(accuracies, axis=1)
    return np.flatnonzero(means >= means.max() - TIE)


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


def parameters(run: Run) -> int:
    """The trainable numbers of the run's network; of a sparse one, those that its mask keeps or never covers."""
    return _parameters(run.dataset, run.model, run.width, run.sparsity, run.pruner, **run.options)


@functools.cache
def _parameters(dataset: str, model: str, width: float, removed: float, pruner: str, **options: str | int) -> int:
    classes, in_shape = data.shapes(dataset)
    outline = models.outline(model, width=width, in_shape=in_shape, classes=classes, **options)
    return sparsity.remaining(outline, removed, pruner)


# ---------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True)
class Cell:
    """The runs of one network: accuracies of SAM for every ρ and seed, and of what it is compared with."""

    labels: dict
    rows: pandas.DataFrame
    epochs: int  # of SAM

    @property
    def references(self) -> list[str]:
        """The names of REFERENCES of which the table has runs; always SGD, so that a cell without it is named."""
        return [name for name in REFERENCES if name == "SGD" or _is(self.rows, name, self.epochs).any()]

    @functools.cached_property
    def sam(self) -> pandas.DataFrame:
        return self.rows[self.rows["optimizer"] == "sam"]

    def reference(self, name: str) -> pandas.DataFrame:
        return self.rows[_is(self.rows, name, self.epochs)]

    def seeds(self, reference: str) -> list[int]:
        """The seeds that count; see `gaps`."""
        compared = self.reference(reference)
        done = compared["seed"][compared["status"] == "done"]
        recorded = self.sam[(self.sam["status"] != "missing") & self.sam["seed"].isin(done)]
        groups = {}
        for seed, rhos in recorded.groupby("seed")["rho"]:
            groups.setdefault(frozenset(rhos), []).append(seed)
        return groups[max(groups, key=lambda rhos: (len(rhos), len(groups[rhos])))] if groups else []

    def complete(self, reference: str) -> bool:
        """Whether the seeds that count have records at every ρ of the cell."""
        counted = self.sam[self.sam["seed"].isin(self.seeds(reference))]
        return bool(len(counted)) and not (counted["status"] == "missing").any()

    def search(self, reference: str, part: str) -> pandas.DataFrame:
        """Accuracies on a part of the test samples, ρ × the seeds that count, without the ρ that cannot be chosen."""
        accuracy = self.sam.set_index(["rho", "seed"])[PARTS[part]].unstack()  # noqa: PD010 (there is one run each)
        seeds = self.seeds(reference)
        return accuracy.reindex(columns=seeds).dropna() if seeds else accuracy.iloc[:0, :0]

    def best(self, reference: str = "SGD") -> float:
        """ρ* by the paper's protocol; NaN if there is none."""
        search = self.search(reference, "all")
        return search.index[highest(search.to_numpy())[0]] if search.size else math.nan

    def alone(self) -> dict[int, float]:
        """The ρ that each seed that counts against SGD chooses by itself."""
        search = self.search("SGD", "all")
        return {seed: search.index[highest(search[[seed]].to_numpy())[0]] for seed in search} if search.size else {}

    def edge(self, rho: float) -> bool:
        """Whether ρ is the smallest or the largest that the table asks for, so that a better one may lie beyond."""
        return rho in (self.sam["rho"].min(), self.sam["rho"].max())

    def keys(self, seeds: Sequence[int]) -> str:
        """Of the runs of SAM for these seeds, from which a ρ is chosen, in one string."""
        return " ".join(self.sam["key"][self.sam["seed"].isin(seeds) & (self.sam["status"] != "missing")])

    def counts(self, reference: str) -> dict[str, int]:
        status = pandas.concat([self.sam, self.reference(reference)])["status"]
        return {name: int((status == name).sum()) for name in ("missing", "diverged")} | {"runs": len(status)}

    def gaps(self, reference: str) -> Iterator[dict]:
        """The rows of `gaps` for one reference."""
        search = {part: self.search(reference, part) for part in PARTS}
        rhos, seeds = search["all"].index, search["all"].columns
        if not len(rhos):
            return
        told = {"searched": len(rhos), "radii": len(set(self.sam["rho"])), "complete": self.complete(reference)}
        sam = {part: found.to_numpy() for part, found in search.items()}
        sgd = self.reference(reference).set_index("seed").loc[seeds]
        keys = self.keys(seeds) + " " + sgd["key"].to_numpy()
        sgd = {part: 100 * sgd[column].to_numpy() for part, column in PARTS.items()}
        for (protocol, folds), (i, seed) in itertools.product(PROTOCOLS.items(), enumerate(seeds)):
            on = [j for j in range(len(seeds)) if j != i or not folds[0].others]
            if on:
                best = [highest(sam[fold.choose][:, on])[0] for fold in folds]
                at_best = 100 * np.mean([sam[fold.report][k, i] for fold, k in zip(folds, best, strict=True)])
                base = np.mean([sgd[fold.report][i] for fold in folds])
                row = {"protocol": protocol, "seed": seed, "rho": _middle(rhos[best])}
                yield row | {"sgd": base, "sam": at_best, "gap": at_best - base} | told | {"keys": keys[i]}


def cells(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> Iterator[Cell]:
    """The cells of a table of `sweep`, in the order of `by`. Raises ValueError as `gaps` does."""
    by = _columns(by)
    unknown = [name for name in by if name not in table]
    if unknown:
        raise ValueError(f"by = {by!r}: the table has no column {', '.join(unknown)}; it has {', '.join(table)}")
    for values, rows in table.drop_duplicates("key").groupby(by, dropna=False):
        sam = rows[rows["optimizer"] == "sam"]
        epochs = int((sam if len(sam) else rows)["epochs"].min())
        _check(rows, dict(zip(by, values, strict=True)), epochs)
        count = parameters(_run(rows.iloc[0]))
        yield Cell(dict(zip(by, values, strict=True)) | {"parameters": count}, rows, epochs)


def _check(rows: pandas.DataFrame, values: dict, epochs: int) -> None:
    where = ", ".join(f"{name} = {value!r}" for name, value in values.items())
    allowed = ("optimizer", "rho", "seed", "epochs")
    mixed = [f.name for f in fields(Run) if f.name not in allowed and len(set(rows[f.name])) > 1]
    if mixed:
        raise ValueError(f"the cell {where}: its runs differ in {', '.join(mixed)}; add that to `by`, or choose one")
    lengths = set(rows.loc[rows["optimizer"] == "sam", "epochs"]) | set(rows["epochs"]) - {2 * epochs}
    if lengths != {epochs}:
        raise ValueError(f"the cell {where}: runs of {sorted(lengths)} epochs; choose one, or add `epochs` to `by`")


def _is(rows: pandas.DataFrame, reference: str, epochs: int) -> pandas.Series:
    return (rows["optimizer"] == "sgd") & (rows["epochs"] == REFERENCES[reference] * epochs)


def _run(row: pandas.Series) -> Run:
    return Run(**{f.name: row[f.name] for f in fields(Run)})


def _middle(rhos: Sequence[float]) -> float:
    """The geometric mean, to the last bit where all are equal."""
    if len(set(rhos)) == 1:
        return next(iter(rhos))
    return math.exp(np.mean(np.log(rhos))) if len(rhos) else math.nan


def _columns(by: str | Sequence[str]) -> list[str]:
    return [by] if isinstance(by, str) else list(by)
