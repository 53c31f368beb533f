"""SAM's benefit in large sparse networks beside a small dense one of as many parameters (Section 6).

A cell is a width, a sparsity and a pruner. The dense cell is where every pruner begins, at sparsity 0. Gaps and the
protocols that choose ρ* are those of `lib.benefit`; what is asked here is whether the gap grows with the sparsity, and
whether ρ* depends on the mask more than on the seed.

A verdict on a claim is what was measured, in words, and whether the claim holds: None where the records that would tell
are not there, or could not reject at `trends.LEVEL` whatever they said.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas

from lib import benefit, sparsity, trends
from lib.claims import mean_and_spread

CELL = ("width", "sparsity", "pruner")
UNBIASED = "both"  # the protocol of `benefit.PROTOCOLS` that leaves no luck
SHUFFLES = 20_000
SPARSEST = 95  # % removed; the paper's networks go up to about 94, and its claims are judged on no sparser ones

Verdict = tuple[str, bool | None]


def gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """`benefit.gaps` over SGD of the cells of a table of `sweep`, with the dense cell once for each pruner.

    More columns: removed (the sparsity in %), label (the same as text).
    """
    return _under_every_pruner(benefit.gaps(table, CELL).query("reference == 'SGD'"))


def trend(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED, most: float = SPARSEST) -> trends.Trend:
    """The trend of the gap over the share removed (points per percent), of `gaps` of networks of one count.

    most: the largest share removed, in %, that takes part. Cells whose search is not complete do not."""
    return trends.trend(_complete(found, pruner, protocol).query("removed <= @most"), over="removed", log=False)


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
    """The mean gap at each sparsity of rows of `gaps`, and what their trend is; in words what `trend` says, and what it
    would say with the networks that are sparser than the paper's."""
    rows = _complete(found, pruner, protocol)
    if rows.empty:
        return "no cell is complete"
    means = rows.groupby("label", sort=False)["gap"].mean().items()
    told = f"{', '.join(f'{gap:+.2f} points at {label}' for label, gap in means)}; "
    told += _described(trend(found, pruner, protocol))
    if (rows["removed"] > SPARSEST).any():
        told += f"; up to {rows['label'].iloc[-1]}: {_described(trend(found, pruner, protocol, most=100))}"
    return told


def _described(t: trends.Trend) -> str:
    if not t.seeds:
        return "no seed has two of them"
    return f"τ = {t.tau:.2f}, p = {t.p_grows:.2g}, at best {t.least:.2g}, {t.seeds} seed{'s' * (t.seeds != 1)}"


def grows(found: pandas.DataFrame, pruner: str = "random") -> Verdict:
    """Whether the gap grows with the sparsity, from rows of `gaps` (Figures 7, 14, 15)."""
    return described(found, pruner), trends.grows(trend(found, pruner))


def clearer(found: pandas.DataFrame) -> Verdict:
    """Whether the gap grows with SNIP, and τ is larger than with random masks of the same sparsities and seeds."""
    both = (_complete(found, pruner)[["removed", "seed"]] for pruner in sparsity.UNSTRUCTURED)
    shared = found.merge(pandas.merge(*both))
    random, snip = (trend(shared, pruner) for pruner in sparsity.UNSTRUCTURED)
    told = f"SNIP: {described(found, 'snip')}"
    if random.seeds:
        told += f"; τ = {random.tau:.2f} with random masks of the same networks and seeds"
    up = trends.grows(snip)
    return told, None if up is None else up and snip.tau > random.tau


def size(found: pandas.DataFrame) -> Verdict:
    """Whether the paper's gap grows by random pruning as the paper reads it: from about 0.4 points in the dense network
    to about 0.9 at 94%. The growth has to be real, and both ends within a factor of two."""
    rows = _complete(found, "random", "paper").query("removed == 0 or 93 <= removed <= @SPARSEST")
    by_seed = rows.assign(sparse=rows["removed"] > 0).pivot_table(index="seed", columns="sparse", values="gap")
    by_seed = by_seed.reindex(columns=[False, True]).dropna()
    if len(by_seed) < 2:
        return "fewer than two seeds are complete in the dense network and at 94%", None
    low, high = benefit.interval(by_seed[True] - by_seed[False])
    told = f"{mean_and_spread(by_seed[False], 'points')} dense, {mean_and_spread(by_seed[True], 'points')} at 94%; "
    told += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    dense, sparse = by_seed.mean()
    return told, bool(low > 0 and 0.2 <= dense <= 0.8 and 0.45 <= sparse <= 1.8)


def advantage(table: pandas.DataFrame) -> pandas.DataFrame:
    """How much better SGD is in sparse networks than in the dense one of as many parameters, one row a pruner.

    points: of test accuracy, the mean over sparsities for each seed, then over seeds; low, high: its 95% interval
    (Student's t over seeds). cells: how many sparse ones are complete; lacking: how many cells are not, the dense one
    included. Only seeds that all complete cells have. NaN where the dense cell or every sparse one is not complete.
    """
    found, rows = gaps(table).query("protocol == 'paper' and complete"), []
    cells = table[list(CELL)].drop_duplicates()
    for pruner in dict.fromkeys(cells["pruner"][cells["sparsity"] > 0]):
        asked = cells[(cells["pruner"] == pruner) & (cells["sparsity"] > 0)]
        sgd = found[found["pruner"] == pruner].pivot_table(index="seed", columns="removed", values="sgd").dropna()
        sparse = [removed for removed in sgd if removed > 0]
        more = sgd[sparse].mean(axis=1) - sgd[0] if 0 in sgd and sparse else pandas.Series(dtype=float)
        low, high = benefit.interval(more)
        row = {"pruner": pruner, "points": more.mean(), "low": low, "high": high, "cells": len(sparse)}
        rows.append(row | {"lacking": len(asked) - len(sparse) + (0 not in sgd)})
    return pandas.DataFrame(rows, columns=["pruner", "points", "low", "high", "cells", "lacking"])


def better(found: pandas.DataFrame) -> Verdict:
    """Whether the sparse networks are surely better in every row of `advantage`, of all families together."""
    known = found.dropna(subset=["low", "high"])
    if known.empty:
        return "no sparse network has two seeds that are complete, in it and in the dense one", None
    told = f"surely better in {(known['low'] > 0).sum()} of {len(found)} families and methods, surely worse in "
    told += f"{(known['high'] < 0).sum()}; {known['points'].min():+.2f} to {known['points'].max():+.2f} points"
    lacking = (found["lacking"] > 0) | found["low"].isna()
    if lacking.any():
        return f"{told}; {lacking.sum()} of them are not complete", None
    return told, bool((known["low"] > 0).all())


def structured(table: pandas.DataFrame) -> Verdict:
    """Whether SAM's mean gap in networks with an N:M pattern is surely above zero, beside masks of their count."""
    wide = gaps(table).query("protocol == @UNBIASED and complete")
    wide = wide.pivot_table(index="seed", columns=list(CELL), values="gap").dropna()
    cells = len(table[list(CELL)].drop_duplicates())
    if wide.shape[1] < cells or len(wide) < 2:
        return f"{wide.shape[1]} of {cells} networks are complete, {len(wide)} seeds in all of these", None
    pattern = wide.columns.get_level_values("pruner").isin(list(sparsity.PATTERNS))
    with_one, without = wide.loc[:, pattern].mean(axis=1), wide.loc[:, ~pattern].mean(axis=1)
    low, high = benefit.interval(with_one - without)
    told = f"{mean_and_spread(with_one, 'points')} with a pattern, {mean_and_spread(without, 'points')} without; "
    told += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    return told, bool(benefit.interval(with_one)[0] > 0)


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
        return f"{told}p = {self.p:.2g} if masks made no difference, at best {self.least:.2g}, {self.seeds} seeds"


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
    found = differ(choices(table))
    return str(found), found.p <= trends.LEVEL if found.least <= trends.LEVEL else None


def same(table: pandas.DataFrame) -> Verdict:
    """Whether ρ* is one for all networks of the table (Figure 8). That a test finds no difference does not say so, and
    that ρ* differs on a mean over few seeds is no finding: between the two the claim counts as not tested."""
    found, cells = differ(choices(table)), len(table[list(CELL)].drop_duplicates())
    if found.cells < cells or found.seeds < 2:
        return f"{found}; {cells - found.cells} of {cells} networks are not complete", None
    return str(found), True if len(found.chosen) == 1 else False if found.p <= trends.LEVEL else None


def _complete(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> pandas.DataFrame:
    return found[(found["pruner"] == pruner) & (found["protocol"] == protocol) & found["complete"]]


def _under_every_pruner(found: pandas.DataFrame) -> pandas.DataFrame:
    dense = found["sparsity"] == 0
    pruners = list(dict.fromkeys(found["pruner"][~dense])) or ["dense"]
    return _labelled(pandas.concat([*(found[dense].assign(pruner=pruner) for pruner in pruners), found[~dense]]))


def _labelled(found: pandas.DataFrame) -> pandas.DataFrame:
    removed = 100 * found["sparsity"].astype(float)
    return found.assign(removed=removed, label=removed.map("{:.0f}%".format)).sort_values("removed", kind="stable")
