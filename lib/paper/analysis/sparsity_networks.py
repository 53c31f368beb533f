"""The sparse networks of Section 6 as cells: which of them a claim speaks of, and what they lack to be judged.

A cell is a width, a sparsity and a pruner; that of the dense network is called "dense" and is where every pruner
begins.

A finding on a claim is what was measured, in words, and the effect with its interval. It speaks of networks up to
SPARSEST, and is untested until all of their runs have records: the last of them could reverse what the others say.
"""

import pandas

from lib.paper.analysis.rho_search import Cell, cells
from lib.paper.claims import lacking
from lib.runs import UNRECORDED

CELL = ("width", "sparsity", "pruner")
SPARSEST = 95  # % removed; the paper's networks go up to about 94, and its claims are judged on no sparser ones


def judged_runs(table: pandas.DataFrame, *pruners: str) -> pandas.DataFrame:
    """The runs that a claim on these pruners speaks of: of the dense network, and of theirs up to SPARSEST."""
    judged = (table["sparsity"] == 0) | table["pruner"].isin(pruners)
    return table[judged & (100 * table["sparsity"] <= SPARSEST)]


def incomplete(table: pandas.DataFrame) -> list[Cell]:
    """The cells that lack the record of a run, or have no seed or no ρ that did not diverge."""
    return [
        cell
        for cell in cells(table, CELL)
        if cell.rows["status"].isin(UNRECORDED).any() or not cell.search("SGD", "all").size
    ]


def unfinished(table: pandas.DataFrame) -> str:
    """How many networks of the table are not complete, and why; empty where all are."""
    if not (lost := incomplete(table)):
        return ""
    why = lacking(table, without=UNRECORDED) or lacking(table)
    return f"not complete: {len(lost)} of {len(table[list(CELL)].drop_duplicates())} networks ({why})"


def with_lacks(sentence: str, table: pandas.DataFrame) -> str:
    """What was measured, and what it lacks: where all networks are complete still the runs that diverged."""
    return "; ".join(filter(None, (sentence, unfinished(table) or lacking(table, without=["diverged"]))))


def labelled(result: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of cells with more columns: removed (the sparsity in %) and label (the same as text); the pruner of the
    dense network is "dense". In the order of what is removed."""
    removed = 100 * result["sparsity"].astype(float)
    named = result.assign(removed=removed, label=removed.map("{:.0f}%".format))
    return named.assign(pruner=named["pruner"].where(removed > 0, "dense")).sort_values("removed", kind="stable")
