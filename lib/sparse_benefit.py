"""SAM's benefit in large sparse networks beside a small dense one of as many parameters (Section 6).

A cell is a width, a sparsity and a pruner. The dense cell is where every pruner begins, at sparsity 0. Gaps and the
protocols that choose ρ* are those of `lib.benefit`; what is asked here is whether the gap grows with the sparsity, and
whether ρ* depends on the mask more than on the seed.
"""

from typing import NamedTuple

import numpy as np
import pandas

from lib import benefit, trends

CELL = ("width", "sparsity", "pruner")
UNBIASED = "both"  # the protocol of `benefit.PROTOCOLS` that leaves no luck
SHUFFLES = 20_000


def gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """`benefit.gaps` over SGD of the cells of a table of `sweep`, with the dense cell once for each pruner.

    More columns: removed (the sparsity in %), label (the same as text).
    """
    return _under_every_pruner(benefit.gaps(table, CELL).query("reference == 'SGD'"))


def trend(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> trends.Trend:
    """The trend of the gap over the share removed (points per percent), of `gaps` of networks of one count."""
    rows = found[(found["pruner"] == pruner) & (found["protocol"] == protocol) & found["complete"]]
    return trends.trend(rows, over="removed", log=False)


def choices(table: pandas.DataFrame) -> pandas.DataFrame:
    """The radius that each seed would choose by itself, one row a cell and seed: the columns of CELL (the pruner of the
    dense cell is called "dense"), seed, value (ρ), chosen (ρ* of all seeds together, the paper's), removed, label.

    Cells whose search is not complete are left out.
    """
    rows = []
    for cell in benefit.cells(table, CELL):
        if cell.complete("SGD"):
            labels = {name: cell.labels[name] for name in CELL}
            own = cell.alone().items()
            rows += [labels | {"seed": s, "value": rho, "chosen": cell.best()} for s, rho in own]
    columns = [*CELL, "seed", "value", "chosen"]
    found = pandas.DataFrame(rows, columns=columns)
    return _labelled(found.assign(pruner=found["pruner"].where(found["sparsity"] > 0, "dense")))


def described(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> str:
    """The mean gap at each sparsity of rows of `gaps`, and what their trend is; in words what `trend` says."""
    rows = found[(found["pruner"] == pruner) & (found["protocol"] == protocol) & found["complete"]]
    if rows.empty:
        return "no cell is complete"
    means = rows.groupby("label", sort=False)["gap"].mean().items()
    t = trend(found, pruner, protocol)
    told = f"τ = {t.tau:.2f}, p = {t.p_grows:.2g}, at best {t.least:.2g}, {t.seeds} seeds"
    return f"{', '.join(f'{gap:+.2f} points at {label}' for label, gap in means)}; {told}"


def advantage(table: pandas.DataFrame) -> pandas.DataFrame:
    """How much better SGD is in sparse networks than in the dense one of as many parameters, one row a pruner.

    points: of test accuracy, the mean over sparsities for each seed, then over seeds; low, high: its 95% interval
    (Student's t over seeds).
    """
    found, rows = gaps(table).query("protocol == 'paper' and pruner != 'dense'"), []
    for pruner, part in found.groupby("pruner"):
        sgd = part.pivot_table(index="seed", columns="removed", values="sgd")
        if 0 in sgd:
            more = (sgd.drop(columns=0).mean(axis=1) - sgd[0]).dropna()
            low, high = benefit.interval(more)
            rows.append({"pruner": pruner, "points": more.mean(), "low": low, "high": high})
    return pandas.DataFrame(rows, columns=["pruner", "points", "low", "high"])


class Difference(NamedTuple):
    """p: how often cells shuffled within each seed choose as unequal radii as were found; NaN for fewer than two cells
    or seeds. chosen: the distinct ρ* of the paper's protocol, ascending. cells, seeds: how many there are."""

    p: float
    chosen: list[float]
    cells: int
    seeds: int

    def __str__(self) -> str:
        if self.cells < 2 or self.seeds < 2:
            return "fewer than two networks are complete"
        listed = ", ".join(f"{rho:g}" for rho in self.chosen)
        return f"ρ* of {self.cells} networks: {listed}; they differ with p = {self.p:.2g}, {self.seeds} seeds"


def differ(found: pandas.DataFrame) -> Difference:
    """Whether ρ* depends on the cell, from rows of `choices`: a permutation test blocked by the seed.

    The statistic is Σ_cells (Σ_seeds log ρ)², as Friedman's on values in place of ranks. Only seeds of all cells count.
    """
    logs = np.log(found.pivot_table(index="seed", columns=list(CELL), values="value").dropna().astype(float)).to_numpy()
    chosen = sorted(set(found["chosen"]))
    seeds, cells = logs.shape
    if seeds < 2 or cells < 2:
        return Difference(np.nan, chosen, cells, seeds)
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.broadcast_to(logs, (SHUFFLES, *logs.shape)), axis=2)
    statistic, null = (np.square(part.sum(-2)).sum(-1) for part in (logs, shuffled))
    # The observed order counts as one of the shuffles, so that p is never 0.
    p = (1 + np.count_nonzero(null >= statistic * (1 - 1e-12))) / (1 + SHUFFLES)
    return Difference(float(p), chosen, cells, seeds)


def _under_every_pruner(found: pandas.DataFrame) -> pandas.DataFrame:
    dense = found["sparsity"] == 0
    pruners = list(dict.fromkeys(found["pruner"][~dense])) or ["dense"]
    return _labelled(pandas.concat([*(found[dense].assign(pruner=pruner) for pruner in pruners), found[~dense]]))


def _labelled(found: pandas.DataFrame) -> pandas.DataFrame:
    removed = 100 * found["sparsity"].astype(float)
    return found.assign(removed=removed, label=removed.map("{:.0f}%".format)).sort_values("removed", kind="stable")
