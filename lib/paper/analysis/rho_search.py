"""The runs of one network in a table of `sweep`, a cell: which of its seeds count, and which radius ρ* is best for it.

A seed counts if the reference is done and SAM has records at the same ρ as for the other seeds that count: of all such
groups of seeds the one with the most ρ, then the largest, then that of the smallest seed. So no search is averaged with
another.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas

from lib.runs import UNRECORDED, Run, parameter_count

PARTS = {"all": "test_accuracy", "even": "test_accuracy_even", "odd": "test_accuracy_odd"}
# What SAM is compared with: SGD for as many epochs, and for twice as many, which cost as many gradients.
REFERENCES = {"SGD": 1, "SGD, twice the epochs": 2}
# Mean accuracies that differ by less are equal: adding up in another order changes the last bits of a mean, and one
# test sample in one run of three changes it by more than 1e-6 on every data set here.
TIE = 1e-9


def highest(accuracies: np.ndarray) -> np.ndarray:
    """Which rows, one a ρ in ascending order, have the highest mean over their columns, the seeds: several if equal.

    Whatever rests on ρ* takes the mean over these, so that no result depends on which of equal radii is taken.

    >>> import numpy as np
    >>> highest(np.array([[0.9, 0.8], [0.9, 0.9]])).tolist()  # rows are radii, columns seeds
    [1]
    """
    means = np.mean(accuracies, axis=1)
    return np.flatnonzero(means >= means.max() - TIE)


def middle(rhos: Sequence[float]) -> float:
    """The geometric mean, to the last bit where all are equal; NaN of none.

    >>> round(middle([0.05, 0.2]), 3)
    0.1
    """
    if len(set(rhos)) == 1:
        return next(iter(rhos))
    return math.exp(np.mean(np.log(rhos))) if len(rhos) else math.nan


@dataclass(frozen=True)
class Cell:
    """The runs of one network: accuracies of SAM for every ρ and seed, and of what it is compared with."""

    labels: dict
    rows: pandas.DataFrame
    epochs: int  # of SAM

    @property
    def references(self) -> list[str]:
        """The names of REFERENCES of which the table has runs; always SGD, so that a cell without it is named."""
        return [name for name in REFERENCES if name == "SGD" or len(self.reference(name))]

    @functools.cached_property
    def sam(self) -> pandas.DataFrame:
        return self.rows[self.rows["optimizer"] == "sam"]

    def reference(self, name: str) -> pandas.DataFrame:
        """The runs of SGD that SAM is compared with; name: of REFERENCES."""
        return self._references[name]

    @functools.cached_property
    def _references(self) -> dict[str, pandas.DataFrame]:
        sgd = self.rows[self.rows["optimizer"] == "sgd"]
        return {name: sgd[sgd["epochs"] == times * self.epochs] for name, times in REFERENCES.items()}

    def seeds(self, reference: str) -> list[int]:
        """The seeds that count."""
        return self._seeds[reference]

    @functools.cached_property
    def _seeds(self) -> dict[str, list[int]]:
        return {name: self._counted(name) for name in REFERENCES}

    def _counted(self, reference: str) -> list[int]:
        compared = self.reference(reference)
        done = compared["seed"][compared["status"] == "done"]
        sam = self.sam[["status", "seed", "rho"]]
        recorded = sam[~sam["status"].isin(UNRECORDED) & sam["seed"].isin(done)]
        groups = {}
        for seed, rhos in recorded.groupby("seed")["rho"]:
            groups.setdefault(frozenset(rhos), []).append(seed)
        return groups[max(groups, key=lambda rhos: (len(rhos), len(groups[rhos])))] if groups else []

    def complete(self, reference: str) -> bool:
        """Whether the seeds that count have records at every ρ of the cell."""
        status = self.sam["status"][self.sam["seed"].isin(self.seeds(reference))]
        return bool(len(status)) and not status.isin(UNRECORDED).any()

    def search(self, reference: str, part: str) -> pandas.DataFrame:
        """Accuracies on a part of the test samples, ρ × the seeds that count, without the ρ that cannot be chosen."""
        sam = self.sam[["rho", "seed", PARTS[part]]].set_index(["rho", "seed"])
        accuracy = sam[PARTS[part]].unstack()  # noqa: PD010 (there is one run each)
        seeds = self.seeds(reference)
        return accuracy.reindex(columns=seeds).dropna() if seeds else accuracy.iloc[:0, :0]

    def tied(self, reference: str = "SGD") -> list[float]:
        """ρ* by the paper's protocol, ascending: several where their means are equal, none without a search."""
        search = self.search(reference, "all")
        return search.index[highest(search.to_numpy())].tolist() if search.size else []

    def best(self, reference: str = "SGD") -> float:
        """ρ* by the paper's protocol, the geometric mean of equal ones; NaN if there is none."""
        return middle(self.tied(reference))

    def alone(self) -> dict[int, float]:
        """The ρ that each seed that counts against SGD chooses by itself, the geometric mean of equal ones."""
        search = self.search("SGD", "all")
        if not search.size:
            return {}
        return {seed: middle(search.index[highest(search[[seed]].to_numpy())]) for seed in search}

    def edge(self, rho: float) -> bool:
        """Whether ρ is the smallest or the largest that the table asks for, so that a better one may lie beyond."""
        return rho in (self.sam["rho"].min(), self.sam["rho"].max())

    def keys(self, seeds: Sequence[int]) -> str:
        """Of the runs of SAM for these seeds, from which a ρ is chosen, in one string."""
        return " ".join(self.sam["key"][self.sam["seed"].isin(seeds) & ~self.sam["status"].isin(UNRECORDED)])

    def counts(self, reference: str) -> dict[str, int]:
        status = pandas.concat([self.sam["status"], self.reference(reference)["status"]])
        counts = {"missing": status.isin(UNRECORDED), "diverged": status == "diverged"}
        return {name: int(result.sum()) for name, result in counts.items()} | {"runs": len(status)}


def cells(table: pandas.DataFrame, by: str | Sequence[str] = "width") -> Iterator[Cell]:
    """The cells of a table of `sweep`, in the order of `by`, the columns whose values make a cell.

    Raises ValueError for an unknown column in `by`, and for cells in which runs differ by more than ρ and seed.

    >>> runs = [Run(dataset="digits", seed=seed, optimizer="sam", rho=rho) for seed in (0, 1) for rho in (0.1, 0.2)]
    >>> runs += [Run(dataset="digits", seed=seed) for seed in (0, 1)]
    >>> table = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"} for run in runs])
    >>> [(cell.labels["width"], cell.seeds("SGD")) for cell in cells(table)]
    [(1.0, [0, 1])]
    """
    by = columns_of(by)
    unknown = [name for name in by if name not in table]
    if unknown:
        raise ValueError(f"by = {by!r}: the table has no column {', '.join(unknown)}; it has {', '.join(table)}")
    for values, rows in table.drop_duplicates("key").groupby(by, dropna=False):
        sam = rows[rows["optimizer"] == "sam"]
        epochs = int((sam if len(sam) else rows)["epochs"].min())
        _check(rows, dict(zip(by, values, strict=True)), epochs)
        count = parameter_count.remaining(Run.of_row(rows.iloc[0]))
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


def columns_of(by: str | Sequence[str]) -> list[str]:
    """The names in `by`, be it one or several."""
    return [by] if isinstance(by, str) else list(by)
