"""Does the best radius of a sparse network depend on which weights remain? (Figures 8 and 16)

Each seed chooses ρ* for each network by itself; whether networks differ by more than seeds do is told by a permutation
test. Verdicts are as in `lib.sparse_cells`.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas

from lib import sparsity, trends
from lib.cells import cells
from lib.claims import Verdict
from lib.sparse_cells import CELL, asked, labelled, unfinished, with_lacks

SHUFFLES = 20_000


def choices(table: pandas.DataFrame) -> pandas.DataFrame:
    """The radius that each seed would choose by itself, one row a cell and seed: the columns of CELL, seed, value (ρ),
    chosen (ρ* of all seeds together, the paper's), keys (of the runs that the seed chose from), removed, label.

    Cells whose search is not complete are left out. A ρ at which SAM diverged for one seed is chosen by none.
    """
    rows = []
    for cell in cells(table, CELL):
        if cell.complete("SGD"):
            labels = {name: cell.labels[name] for name in CELL}
            for seed, rho in cell.alone().items():
                rows.append(labels | {"seed": seed, "value": rho, "chosen": cell.best(), "keys": cell.keys([seed])})
    return labelled(pandas.DataFrame(rows, columns=[*CELL, "seed", "value", "chosen", "keys"]))


class Difference(NamedTuple):
    """p: how often cells shuffled within each seed choose as unequal radii as were found; NaN for fewer than two cells
    or seeds. least: the smallest that p could be for radii all different; 1 where p is NaN. chosen: the distinct ρ* of
    the paper's protocol, ascending. cells, seeds: how many there are."""

    p: float
    least: float
    chosen: list[float]
    cells: int
    seeds: int

    def __str__(self) -> str:
        if self.cells < 2:
            return "fewer than two networks are complete"
        told = f"ρ* of {self.cells} networks: {', '.join(f'{rho:g}' for rho in self.chosen)}; "
        if self.seeds < 2:
            return f"{told}fewer than two seeds are in all of them, so nothing tells masks from chance"
        test = f"p = {self.p:.2g} if networks made no difference (smallest possible {self.least:.2g})"
        return f"{told}{test}, {self.seeds} seeds"


def differ(found: pandas.DataFrame) -> Difference:
    """Whether ρ* depends on the cell, from rows of `choices`: a permutation test blocked by the seed.

    The statistic is Σ_cells (Σ_seeds log ρ)², as Friedman's on values in place of ranks. Only seeds of all cells count.
    It is largest where all seeds order the cells alike: cells! of cells!^seeds orders.
    """
    logs = np.log(found.pivot_table(index="seed", columns=list(CELL), values="value").dropna().astype(float)).to_numpy()
    chosen = sorted(set(found["chosen"]))
    seeds, cells = logs.shape
    if seeds < 2 or cells < 2:
        return Difference(np.nan, 1.0, chosen, cells, seeds)
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.broadcast_to(logs, (SHUFFLES, *logs.shape)), axis=2)
    statistic, null = (np.square(part.sum(-2)).sum(-1) for part in (logs, shuffled))
    # The observed order counts as one of the shuffles, so that p is never 0.
    p = (1 + np.count_nonzero(null >= statistic * (1 - 1e-12))) / (1 + SHUFFLES)
    least = max(math.factorial(cells) ** (1 - seeds), 1 / (1 + SHUFFLES))
    return Difference(float(p), least, chosen, cells, seeds)


def depends(table: pandas.DataFrame) -> Verdict:
    """Whether ρ* depends on which weights remain (Figures 8, 16)."""
    judged = asked(table, *sparsity.PRUNERS)
    found = differ(choices(judged))
    tells = not unfinished(judged) and found.least <= trends.LEVEL
    return with_lacks(str(found), judged), found.p <= trends.LEVEL if tells else None


def same(table: pandas.DataFrame) -> Verdict:
    """Whether ρ* is one for all networks (Figure 8). That a test finds no difference does not say so, and that ρ*
    differs on a mean over few seeds is no finding: between the two the claim counts as not tested."""
    judged = asked(table, *sparsity.PRUNERS)
    found = differ(choices(judged))
    if unfinished(judged) or found.seeds < 2:
        return with_lacks(str(found), judged), None
    holds = True if len(found.chosen) == 1 else False if found.p <= trends.LEVEL else None
    return with_lacks(str(found), judged), holds
