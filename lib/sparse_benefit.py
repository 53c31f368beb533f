"""SAM's benefit in large sparse networks beside a small dense one of as many parameters. (Figures 7, 14 and 15)

Gaps and the protocols that choose ρ* are those of `lib.benefit`; what is asked here is whether the gap grows with the
sparsity, and whether the sparse networks are the better ones. Verdicts are as in `lib.sparse_cells`.
"""

import math

import numpy as np
import pandas

from lib import benefit, sparsity, trends
from lib.cells import PARTS, cells
from lib.claims import Verdict, mean_and_spread
from lib.sparse_cells import CELL, SPARSEST, asked, incomplete, labelled, unfinished, with_lacks

UNBIASED = "both"  # the protocol of `benefit.PROTOCOLS` that leaves no luck


def gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """`benefit.gaps` over SGD of the cells of a table of `sweep`. More columns: removed (the sparsity in %), label (the
    same as text)."""
    return labelled(benefit.gaps(table, CELL).query("reference == 'SGD'"))


def trend(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED, most: float = SPARSEST) -> trends.Trend:
    """The trend of the gap over the share removed (points per percent), of `gaps` of networks of one count.

    most: the largest share removed, in %, that takes part. Cells whose search is not complete do not."""
    return trends.trend(_complete(found, pruner, protocol).query("removed <= @most"), over="removed", log=False)


def described(table: pandas.DataFrame, pruner: str = "random") -> str:
    """The mean gap at each sparsity, what `trend` says, what it would say with the networks that are sparser than the
    paper's, in words: first with ρ chosen without luck, then as in the paper; and how many of the networks that are
    judged are not complete."""
    return with_lacks(_described(gaps(table), pruner), asked(table, pruner))


def _described(found: pandas.DataFrame, pruner: str) -> str:
    unbiased, paper = (_trend_of(found, pruner, protocol) for protocol in (UNBIASED, "paper"))
    return f"{unbiased}; with ρ chosen as in the paper: {paper}"


def _trend_of(found: pandas.DataFrame, pruner: str, protocol: str) -> str:
    rows = _complete(found, pruner, protocol)
    if rows.empty:
        return "no network has a complete search" + " of two seeds" * (protocol == UNBIASED)
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
    return told, None if unfinished(asked(table, pruner)) else trends.grows(trend(gaps(table), pruner))


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
    found, judged = gaps(table), asked(table, *sparsity.UNSTRUCTURED)
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
    open_ = unfinished(judged) or up is None or len(more) < 2 or (up and low <= 0 <= high)
    return with_lacks(told, judged), None if open_ else bool(up and low > 0)


def size(table: pandas.DataFrame) -> Verdict:
    """Whether the paper's gap grows by random pruning as the paper reads it: from about 0.4 points in the dense network
    to about 0.9 at 94%. The growth has to be real, and both ends within a factor of two."""
    judged = asked(table, "random")
    judged = judged[(judged["sparsity"] == 0) | (judged["sparsity"] >= 0.93)]
    if not judged["sparsity"].any():
        return "no network here is pruned to 94%", None
    rows = _complete(gaps(judged), "random", "paper")
    by_seed = rows.assign(sparse=rows["removed"] > 0).pivot_table(index="seed", columns="sparse", values="gap")
    by_seed = by_seed.reindex(columns=[False, True]).dropna()
    if len(by_seed) < 2:
        return with_lacks("fewer than two seeds are in the dense network and in that of 94%", judged), None
    low, high = benefit.interval(by_seed[True] - by_seed[False])
    told = f"{mean_and_spread(by_seed[False], 'points')} dense, {mean_and_spread(by_seed[True], 'points')} at 94%; "
    told += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    dense, sparse = by_seed.mean()
    holds = bool(low > 0 and 0.2 <= dense <= 0.8 and 0.45 <= sparse <= 1.8)
    return with_lacks(told, judged), None if unfinished(judged) else holds


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
        judged = asked(table, pruner)
        more = {part: _over_dense(judged, part) for part in PARTS}
        of_seeds = more["all"].mean(axis=1)
        low, high = benefit.interval(of_seeds)
        each = ", ".join(f"{points:+.2f} at {removed:.0f}%" for removed, points in more["all"].mean().items())
        row = {"pruner": pruner, "points": of_seeds.mean(), "low": low, "high": high, "each": each}
        row |= {part: more[part].mean(axis=1).mean() for part in ("even", "odd")}
        rows.append(row | {"cells": more["all"].shape[1], "lacking": len(incomplete(judged))})
    return pandas.DataFrame(
        rows, columns=["pruner", "points", "low", "high", "each", "even", "odd", "cells", "lacking"]
    )


def _over_dense(judged: pandas.DataFrame, part: str) -> pandas.DataFrame:
    """Points of SGD over the dense network on a part of the test samples, seeds × % removed, of complete networks."""
    accuracy = {
        100 * cell.labels["sparsity"]: 100 * cell.reference("SGD").set_index("seed")[PARTS[part]].loc[cell.seeds("SGD")]
        for cell in cells(judged, CELL)
        if cell.complete("SGD") and cell.search("SGD", "all").size
    }
    dense = accuracy.pop(0.0, None)
    if dense is None or not accuracy:
        return pandas.DataFrame(dtype=float)
    return pandas.DataFrame(accuracy).sort_index(axis=1).sub(dense, axis=0).dropna()


def better(found: pandas.DataFrame) -> Verdict:
    """Whether the 95% interval is above zero in every row of `advantage`, of all families together, which a column
    `network` may name. One complete row whose interval is below zero refutes it, whatever the others lack."""
    known = found.dropna(subset=["low", "high"])
    told = f"the 95% interval is above zero in {(known['low'] > 0).sum()} of {len(found)} cases, below in "
    told += f"{(known['high'] < 0).sum()}"
    for row in known.itertuples():
        case = f"{row.network}, {row.pruner}" if "network" in known else row.pruner
        told += f"; {case} {row.points:+.2f} points ({row.low:+.2f} to {row.high:+.2f}): {row.each}; "
        told += f"{row.even:+.2f} on even and {row.odd:+.2f} on odd test samples"
    partial = found["lacking"] > 0
    few = ~partial & found["low"].isna()
    for rows, what in ((partial, "not complete"), (few, "complete with fewer than two seeds")):
        told += f"; {rows.sum()} of them {what}" * bool(rows.any())
    if (known["high"][known["lacking"] == 0] < 0).any():
        return told, False
    return told, None if found.empty or partial.any() or few.any() else bool((known["low"] > 0).all())


def structured(table: pandas.DataFrame) -> Verdict:
    """Whether the 95% interval of SAM's mean gap in networks with an N:M pattern is above zero; how it differs from the
    gap with masks of their count is told."""
    wide = gaps(table).query("protocol == @UNBIASED and complete")
    wide = wide.pivot_table(index="seed", columns=list(CELL), values="gap").dropna()
    pattern = wide.columns.get_level_values("pruner").isin(list(sparsity.PATTERNS))
    if unfinished(table) or len(wide) < 2 or pattern.all() or not pattern.any():
        return unfinished(table) or "fewer than two seeds are in all networks, with a pattern and without", None
    with_one, without = wide.loc[:, pattern].mean(axis=1), wide.loc[:, ~pattern].mean(axis=1)
    parts = {"with a pattern": with_one, "without": without, "difference": with_one - without}
    intervals = {name: benefit.interval(part) for name, part in parts.items()}
    told = "; ".join(
        f"{name} {part.mean():+.2f} points (95% {intervals[name][0]:+.2f} to {intervals[name][1]:+.2f})"
        for name, part in parts.items()
    )
    return with_lacks(f"{told}; {len(wide)} seeds", table), bool(intervals["with a pattern"][0] > 0)


def _complete(found: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> pandas.DataFrame:
    """The rows of `gaps` of a pruner and of the dense network, of complete searches."""
    return found[found["pruner"].isin([pruner, "dense"]) & (found["protocol"] == protocol) & found["complete"]]
