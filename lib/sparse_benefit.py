"""SAM's benefit in large sparse networks beside a small dense one of as many parameters (Section 6).

A cell is a width, a sparsity and a pruner; that of the dense network is called "dense" and is where every pruner
begins. Gaps and the protocols that choose ρ* are those of `lib.benefit`; what is asked here is whether the gap grows
with the sparsity, and whether ρ* depends on the mask more than on the seed.

A verdict on a claim is what was measured, in words, and whether the claim holds. It holds or not for networks up to
SPARSEST, and only once all of their runs have records: the last of them could reverse what the others say. It is None
until then, and where even complete records could not reject at `trends.LEVEL` whatever they said.

Intervals and tests are over seeds, taken for independent, with the test samples given: `tests/test_null.py` shows how
much too often such find something where SAM does nothing.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas

from lib import benefit, sparsity, trends
from lib.cells import PARTS, Cell, cells
from lib.claims import Verdict, lacking, mean_and_spread

CELL = ("width", "sparsity", "pruner")
UNBIASED = "both"  # the protocol of `benefit.PROTOCOLS` that leaves no luck
SHUFFLES = 20_000
SPARSEST = 95  # % removed; the paper's networks go up to about 94, and its claims are judged on no sparser ones


def gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """`benefit.gaps` over SGD of the cells of a table of `sweep`. More columns: removed (the sparsity in %), label (the
    same as text)."""
    return _labelled(benefit.gaps(table, CELL).query("reference == 'SGD'"))


def trend(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED, most: float = SPARSEST) -> trends.Trend:
    """The trend of the gap over the share removed (points per percent), of `gaps` of networks of one count.

    most: the largest share removed, in %, that takes part. Cells whose search is not complete do not."""
    return trends.trend(_complete(found, pruner, protocol).query("removed <= @most"), over="removed", log=False)


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
    return _labelled(pandas.DataFrame(rows, columns=[*CELL, "seed", "value", "chosen", "keys"]))


def described(table: pandas.DataFrame, pruner: str = "random") -> str:
    """The mean gap at each sparsity, what `trend` says, what it would say with the networks that are sparser than the
    paper's, in words: first with ρ chosen without luck, then as in the paper; and how many of the networks that are
    judged are not complete."""
    return _and_lacking(_described(gaps(table), pruner), _asked(table, pruner))


def _described(found: pandas.DataFrame, pruner: str) -> str:
    unbiased, paper = (_trend_of(found, pruner, protocol) for protocol in (UNBIASED, "paper"))
    return f"{unbiased}; with ρ chosen as in the paper: {paper}"


def _trend_of(found: pandas.DataFrame, pruner: str, protocol: str) -> str:
    rows = _complete(found, pruner, protocol)
    if rows.empty:
        return "no network has a complete search of as many seeds as that takes"
    means = rows.groupby("removed")["gap"].mean().items()
    told = f"{', '.join(f'{gap:+.2f} points at {removed:.0f}%' for removed, gap in means)}; "
    told += _told(trend(found, pruner, protocol))
    if (rows["removed"] > SPARSEST).any():
        told += f"; up to {rows['label'].iloc[-1]}: {_told(trend(found, pruner, protocol, most=100))}"
    return told


def _told(t: trends.Trend) -> str:
    if not t.seeds:
        return "no seed is in two of these networks"
    spread = "" if math.isnan(t.low) else f" (95% {10 * t.low:+.2g} to {10 * t.high:+.2g})"
    test = f"τ = {t.tau:.2f}, p = {t.p_grows:.2g} (smallest possible {t.least:.2g})"
    return f"{10 * t.slope:+.2g} points for every 10% removed{spread}, {test}, {t.seeds} seed{'s' * (t.seeds != 1)}"


def grows(table: pandas.DataFrame, pruner: str = "random") -> Verdict:
    """Whether the gap grows with the sparsity, of a table of `sweep` of networks of one count (Figures 7, 14, 15)."""
    told = described(table, pruner)
    return told, None if _lacking(_asked(table, pruner)) else trends.grows(trend(gaps(table), pruner))


def steeper(found: pandas.DataFrame) -> pandas.Series:
    """How much steeper the gap rises with SNIP than with random masks, for each seed: its slope over the share removed
    (points a percent, least squares), minus theirs. From rows of `gaps`; only seeds that all of the networks have."""
    random, snip = (
        _complete(found, pruner)
        .query("removed <= @SPARSEST")
        .pivot_table(index="seed", columns="removed", values="gap")
        for pruner in sparsity.UNSTRUCTURED
    )
    more = (snip - random).dropna()  # slopes are linear in the gaps
    if more.empty or more.shape[1] < 2:
        return pandas.Series(dtype=float)
    return pandas.Series(np.polyfit(more.columns.to_numpy(float), more.to_numpy().T, 1)[0], index=more.index)


def clearer(table: pandas.DataFrame) -> Verdict:
    """Whether the trend is clearer with SNIP: the gap grows, and by more for each percent than with random masks.

    The second is so where Student's 95% interval over seeds of `steeper` is above zero. The claim fails where it is
    below, or where no growth is found with SNIP. Growth and an interval that holds zero leave it open (None): with
    three seeds that is no finding. τ measures no clearness: it stops at 1, and of two equal trends one has the larger.
    """
    found, asked = gaps(table), _asked(table, *sparsity.UNSTRUCTURED)
    more, up = steeper(found), trends.grows(trend(found, "snip"))
    low, high = benefit.interval(more)
    told = f"SNIP: {_described(found, 'snip')}"
    if len(more) > 1:
        told += f"; SNIP's slope minus that of random masks: {10 * more.mean():+.2g} points for every 10% removed"
        told += f" (95% {10 * low:+.2g} to {10 * high:+.2g})"
    if len(more) < 2:
        told += "; fewer than two seeds have both slopes"
    elif up and low <= 0 <= high:
        told += ", which leaves open whose is larger"
    open_ = _lacking(asked) or up is None or len(more) < 2 or (up and low <= 0 <= high)
    return _and_lacking(told, asked), None if open_ else bool(up and low > 0)


def size(table: pandas.DataFrame) -> Verdict:
    """Whether the paper's gap grows by random pruning as the paper reads it: from about 0.4 points in the dense network
    to about 0.9 at 94%. The growth has to be real, and both ends within a factor of two."""
    asked = _asked(table, "random")
    asked = asked[(asked["sparsity"] == 0) | (asked["sparsity"] >= 0.93)]
    if not asked["sparsity"].any():
        return "no network here is pruned to 94%", None
    rows = _complete(gaps(asked), "random", "paper")
    by_seed = rows.assign(sparse=rows["removed"] > 0).pivot_table(index="seed", columns="sparse", values="gap")
    by_seed = by_seed.reindex(columns=[False, True]).dropna()
    if len(by_seed) < 2:
        return _and_lacking("fewer than two seeds are in the dense network and in that of 94%", asked), None
    low, high = benefit.interval(by_seed[True] - by_seed[False])
    told = f"{mean_and_spread(by_seed[False], 'points')} dense, {mean_and_spread(by_seed[True], 'points')} at 94%; "
    told += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    dense, sparse = by_seed.mean()
    holds = bool(low > 0 and 0.2 <= dense <= 0.8 and 0.45 <= sparse <= 1.8)
    return _and_lacking(told, asked), None if _lacking(asked) else holds


def advantage(table: pandas.DataFrame) -> pandas.DataFrame:
    """How much better SGD is in sparse networks than in the dense one of as many parameters, one row a pruner.

    points: of test accuracy, the mean over sparsities up to SPARSEST for each seed, then over seeds; low, high: its 95%
    interval (Student's t over seeds). each: the points at each sparsity, in words; even, odd: those on either half of
    the test samples, which the interval takes as given. cells: in how many sparse networks; lacking: how many networks
    are not complete, the dense one included. Only seeds that all these networks have. NaN without the dense one or a
    sparse one.
    """
    rows = []
    sparse = table[(table["sparsity"] > 0) & (100 * table["sparsity"] <= SPARSEST)]
    for pruner in dict.fromkeys(sparse["pruner"]):
        asked = _asked(table, pruner)
        more = {part: _over_dense(asked, part) for part in PARTS}
        of_seeds = more["all"].mean(axis=1)
        low, high = benefit.interval(of_seeds)
        each = ", ".join(f"{points:+.2f} at {removed:.0f}%" for removed, points in more["all"].mean().items())
        row = {"pruner": pruner, "points": of_seeds.mean(), "low": low, "high": high, "each": each}
        row |= {part: more[part].mean(axis=1).mean() for part in ("even", "odd")}
        rows.append(row | {"cells": more["all"].shape[1], "lacking": len(_incomplete(asked))})
    return pandas.DataFrame(
        rows, columns=["pruner", "points", "low", "high", "each", "even", "odd", "cells", "lacking"]
    )


def _over_dense(asked: pandas.DataFrame, part: str) -> pandas.DataFrame:
    """Points of SGD over the dense network on a part of the test samples, seeds × % removed, of complete networks."""
    accuracy = {
        100 * cell.labels["sparsity"]: 100 * cell.reference("SGD").set_index("seed")[PARTS[part]].loc[cell.seeds("SGD")]
        for cell in cells(asked, CELL)
        if cell.complete("SGD") and cell.search("SGD", "all").size
    }
    dense = accuracy.pop(0.0, None)
    if dense is None or not accuracy:
        return pandas.DataFrame(dtype=float)
    return pandas.DataFrame(accuracy).sort_index(axis=1).sub(dense, axis=0).dropna()


def better(found: pandas.DataFrame) -> Verdict:
    """Whether the 95% interval is above zero in every row of `advantage`, of all families together. One complete row
    whose interval is below zero refutes it, whatever the others lack."""
    known = found.dropna(subset=["low", "high"])
    told = f"the 95% interval is above zero in {(known['low'] > 0).sum()} of {len(found)} cases, below in "
    told += f"{(known['high'] < 0).sum()}"
    for row in known.itertuples():
        told += f"; {row.pruner} {row.points:+.2f} points ({row.low:+.2f} to {row.high:+.2f}): {row.each}; "
        told += f"{row.even:+.2f} on even and {row.odd:+.2f} on odd test samples"
    partial = found["lacking"] > 0
    few = ~partial & found["low"].isna()
    for rows, what in ((partial, "not complete"), (few, "complete with fewer than two seeds")):
        told += f"; {rows.sum()} of them {what}" * bool(rows.any())
    if (known["high"][known["lacking"] == 0] < 0).any():
        return told, False
    return told, None if found.empty or partial.any() or few.any() else bool((known["low"] > 0).all())


def structured(table: pandas.DataFrame) -> Verdict:
    """Whether SAM's mean gap in networks with an N:M pattern is surely above zero, beside masks of their count."""
    wide = gaps(table).query("protocol == @UNBIASED and complete")
    wide = wide.pivot_table(index="seed", columns=list(CELL), values="gap").dropna()
    pattern = wide.columns.get_level_values("pruner").isin(list(sparsity.PATTERNS))
    if _lacking(table) or len(wide) < 2 or pattern.all() or not pattern.any():
        return _lacking(table) or "fewer than two seeds are in all networks, with a pattern and without", None
    with_one, without = wide.loc[:, pattern].mean(axis=1), wide.loc[:, ~pattern].mean(axis=1)
    low, high = benefit.interval(with_one - without)
    told = f"{mean_and_spread(with_one, 'points')} with a pattern, {mean_and_spread(without, 'points')} without; "
    told += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    return _and_lacking(told, table), bool(benefit.interval(with_one)[0] > 0)


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
    asked = _asked(table, *sparsity.PRUNERS)
    found = differ(choices(asked))
    tells = not _lacking(asked) and found.least <= trends.LEVEL
    return _and_lacking(str(found), asked), found.p <= trends.LEVEL if tells else None


def same(table: pandas.DataFrame) -> Verdict:
    """Whether ρ* is one for all networks (Figure 8). That a test finds no difference does not say so, and that ρ*
    differs on a mean over few seeds is no finding: between the two the claim counts as not tested."""
    asked = _asked(table, *sparsity.PRUNERS)
    found = differ(choices(asked))
    if _lacking(asked) or found.seeds < 2:
        return _and_lacking(str(found), asked), None
    holds = True if len(found.chosen) == 1 else False if found.p <= trends.LEVEL else None
    return _and_lacking(str(found), asked), holds


def _asked(table: pandas.DataFrame, *pruners: str) -> pandas.DataFrame:
    """The runs that a claim on these pruners speaks of: of the dense network, and of theirs up to SPARSEST."""
    judged = (table["sparsity"] == 0) | table["pruner"].isin(pruners)
    return table[judged & (100 * table["sparsity"] <= SPARSEST)]


def _incomplete(table: pandas.DataFrame) -> list[Cell]:
    """The cells that lack the record of a run, or have no seed or no ρ that did not diverge."""
    return [
        cell
        for cell in cells(table, CELL)
        if (cell.rows["status"] == "missing").any() or not cell.search("SGD", "all").size
    ]


def _lacking(table: pandas.DataFrame) -> str:
    """How many networks of the table are not complete, and why; empty where all are."""
    if not (lost := _incomplete(table)):
        return ""
    why = lacking(table, without=["missing"]) or lacking(table)
    return f"not complete: {len(lost)} of {len(table[list(CELL)].drop_duplicates())} networks ({why})"


def _and_lacking(told: str, table: pandas.DataFrame) -> str:
    """What was measured, and what it lacks: where all networks are complete still the runs that diverged."""
    return "; ".join(filter(None, (told, _lacking(table) or lacking(table, without=["diverged"]))))


def _complete(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> pandas.DataFrame:
    """The rows of `gaps` of a pruner and of the dense network, of complete searches."""
    return found[found["pruner"].isin([pruner, "dense"]) & (found["protocol"] == protocol) & found["complete"]]


def _labelled(found: pandas.DataFrame) -> pandas.DataFrame:
    removed = 100 * found["sparsity"].astype(float)
    named = found.assign(removed=removed, label=removed.map("{:.0f}%".format))
    return named.assign(pruner=named["pruner"].where(removed > 0, "dense")).sort_values("removed", kind="stable")
