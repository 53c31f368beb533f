"""Does the best radius of a sparse network depend on which weights remain? (Figures 8 and 16)

Each seed chooses ρ* for each network by itself. How far networks differ beyond what seeds do is judged by an interval;
a permutation test is told beside it. Findings are as in `lib.paper.analysis.sparsity_networks`.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas
from scipy import stats

from lib.models import masking
from lib.paper.analysis import effects
from lib.paper.analysis.rho_search import cells
from lib.paper.analysis.sparsity_networks import CELL, judged_runs, labelled, unfinished, with_lacks
from lib.paper.claims import Finding

SHUFFLES = 20_000  # orders of all seeds but one are all tried if they are no more, else so many are drawn


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
        sentence = f"ρ* of {self.cells} networks: {', '.join(f'{rho:g}' for rho in self.chosen)}; "
        if self.seeds < 2:
            return f"{sentence}fewer than two seeds are in all of them, so nothing tells masks from chance"
        test = f"p = {self.p:.2g} if networks made no difference (smallest possible {self.least:.2g})"
        return f"{sentence}{test}, {self.seeds} seeds"


def differ(result: pandas.DataFrame) -> Difference:
    """Whether ρ* depends on the cell, from rows of `choices`: a permutation test blocked by the seed.

    The statistic is Σ_cells (Σ_seeds log ρ)², as Friedman's on values in place of ranks. Only seeds of all cells count.
    It is largest where all seeds order the cells alike: cells! of cells!^seeds orders.
    """
    logs = np.log(
        result.pivot_table(index="seed", columns=list(CELL), values="value").dropna().astype(float)
    ).to_numpy()
    chosen = sorted(set(result["chosen"]))
    seeds, cells = logs.shape
    if seeds < 2 or cells < 2:
        return Difference(np.nan, 1.0, chosen, cells, seeds)
    first, *others = logs  # only their pairing counts, so one seed may keep its order
    test = stats.permutation_test(
        others,
        lambda *logs, axis: np.square(first + sum(logs)).sum(axis),
        permutation_type="pairings",
        n_resamples=SHUFFLES,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    # Of orders that are drawn the observed one counts as one more, so that p is never 0.
    least = max(math.factorial(cells) ** (1 - seeds), 1 / (1 + SHUFFLES))
    return Difference(float(test.pvalue), least, chosen, cells, seeds)


def varies(table: pandas.DataFrame) -> Finding:
    """How far ρ* differs between networks beyond what seeds differ (Figures 8, 16), in decades; each seed chooses."""
    judged = judged_runs(table, *masking.PRUNERS)
    result = choices(judged)
    logs = [np.log10(part.to_numpy(float)) for _, part in result.groupby(list(CELL))["value"]]
    effect = effects.spread(logs, "decades")
    words = with_lacks(str(differ(result)), judged)
    if not math.isnan(effect.value):
        words = f"root mean square {effect.value:.2f} decades (95% {effect.low:.2f} to {effect.high:.2f}); {words}"
    return Finding(words, effect=effect, untested=unfinished(judged))
