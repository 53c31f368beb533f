"""SAM's benefit in large sparse networks beside a small dense one of as many parameters. (Figures 7, 14 and 15)

Gaps and the protocols that choose ρ* are those of `lib.paper.analysis.gap`; what is asked here is whether the gap grows
with the sparsity, and whether the sparse networks are the better ones. Verdicts are as in
`lib.paper.analysis.sparsity_networks`.
"""

import math

import numpy as np
import pandas

from lib.models import masking
from lib.paper.analysis import gap, trends
from lib.paper.analysis.rho_search import PARTS, cells
from lib.paper.analysis.sparsity_networks import (
    CELL,
    SPARSEST,
    incomplete,
    judged_runs,
    labelled,
    unfinished,
    with_lacks,
)
from lib.paper.claims import Verdict, mean_and_spread

UNBIASED = "both"  # the protocol of `gap.PROTOCOLS` without selection bias


def sparse_gaps(table: pandas.DataFrame) -> pandas.DataFrame:
    """`gap.gaps` over SGD of the cells of a table of `sweep`. More columns: removed (the sparsity in %), label (the
    same as text)."""
    return labelled(gap.gaps(table, CELL).query("reference == 'SGD'"))


def trend(result: pandas.DataFrame, pruner: str, protocol: str = UNBIASED, most: float = SPARSEST) -> trends.Trend:
    """The trend of the gap over the share removed (points per percent), of `gaps` of networks of one count.

    most: the largest share removed, in %, that takes part. Cells whose search is not complete do not."""
    return trends.trend(_complete(result, pruner, protocol).query("removed <= @most"), over="removed", log=False)


def described(table: pandas.DataFrame, pruner: str = "random") -> str:
    """The mean gap at each sparsity, what `trend` says, what it would say with the networks that are sparser than the
    paper's, in words: first without selection bias, then as in the paper; and how many of the networks that are
    judged are not complete."""
    return with_lacks(_described(sparse_gaps(table), pruner), judged_runs(table, pruner))


def _described(result: pandas.DataFrame, pruner: str) -> str:
    unbiased, paper = (_trend_of(result, pruner, protocol) for protocol in (UNBIASED, "paper"))
    return f"{unbiased}; with ρ chosen as in the paper: {paper}"


def _trend_of(result: pandas.DataFrame, pruner: str, protocol: str) -> str:
    rows = _complete(result, pruner, protocol)
    if rows.empty:
        return "no network has a complete search" + " of two seeds" * (protocol == UNBIASED)
    means = rows.groupby("removed")["gap"].mean().items()
    sentence = f"{', '.join(f'{mean:+.2f} points at {removed:.0f}%' for removed, mean in means)}; "
    sentence += _sentence(trend(result, pruner, protocol))
    if (rows["removed"] > SPARSEST).any():
        sentence += f"; up to {rows['label'].iloc[-1]}: {_sentence(trend(result, pruner, protocol, most=100))}"
    return sentence


def _sentence(t: trends.Trend) -> str:
    if not t.seeds:
        return "no seed is in two of these networks"
    spread = "" if math.isnan(t.low) else f" (95% {10 * t.low:+.2g} to {10 * t.high:+.2g})"
    test = f"τ = {t.tau:.2f}, p = {t.p_grows:.2g} (smallest possible {t.least:.2g})"
    return f"{10 * t.slope:+.2g} points for every 10% removed{spread}, {test}, {t.seeds} seed{'s' * (t.seeds != 1)}"


def grows(table: pandas.DataFrame, pruner: str = "random") -> Verdict:
    """Whether the gap grows with the sparsity, of a table of `sweep` of networks of one count (Figures 7, 14, 15)."""
    sentence = described(table, pruner)
    return sentence, None if unfinished(judged_runs(table, pruner)) else trends.grows(trend(sparse_gaps(table), pruner))


def steeper(result: pandas.DataFrame) -> pandas.Series:
    """How much steeper the gap rises with SNIP than with random masks, for each seed: its slope over the share removed
    (points a percent, least squares), minus theirs. From rows of `gaps`; only seeds that all of the networks have."""
    random, snip = (
        _complete(result, pruner)
        .query("removed <= @SPARSEST")
        .pivot_table(index="seed", columns="removed", values="gap")
        for pruner in masking.UNSTRUCTURED
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
    result, judged = sparse_gaps(table), judged_runs(table, *masking.UNSTRUCTURED)
    more, up = steeper(result), trends.grows(trend(result, "snip"))
    low, high = gap.interval(more)
    sentence = f"SNIP: {_described(result, 'snip')}"
    if len(more) > 1:
        sentence += f"; SNIP's slope minus that of random masks: {10 * more.mean():+.2g} points for every 10% removed"
        sentence += f" (95% {10 * low:+.2g} to {10 * high:+.2g})"
    if len(more) < 2:
        sentence += "; fewer than two seeds have both slopes"
    elif up and low <= 0 <= high:
        sentence += ", which leaves open whose is larger"
    open_ = unfinished(judged) or up is None or len(more) < 2 or (up and low <= 0 <= high)
    return with_lacks(sentence, judged), None if open_ else bool(up and low > 0)


def size(table: pandas.DataFrame) -> Verdict:
    """Whether the paper's gap grows by random pruning as the paper reads it: from about 0.4 points in the dense network
    to about 0.9 at 94%. The growth has to be real, and both ends within a factor of two."""
    judged = judged_runs(table, "random")
    judged = judged[(judged["sparsity"] == 0) | (judged["sparsity"] >= 0.93)]
    if not judged["sparsity"].any():
        return "no network here is pruned to 94%", None
    rows = _complete(sparse_gaps(judged), "random", "paper")
    by_seed = rows.assign(sparse=rows["removed"] > 0).pivot_table(index="seed", columns="sparse", values="gap")
    by_seed = by_seed.reindex(columns=[False, True]).dropna()
    if len(by_seed) < 2:
        return with_lacks("fewer than two seeds are in the dense network and in that of 94%", judged), None
    low, high = gap.interval(by_seed[True] - by_seed[False])
    sentence = f"{mean_and_spread(by_seed[False], 'points')} dense, {mean_and_spread(by_seed[True], 'points')} at 94%; "
    sentence += f"the difference is in {low:+.2f} to {high:+.2f} (95%)"
    dense, sparse = by_seed.mean()
    holds = bool(low > 0 and 0.2 <= dense <= 0.8 and 0.45 <= sparse <= 1.8)
    return with_lacks(sentence, judged), None if unfinished(judged) else holds


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
        judged = judged_runs(table, pruner)
        more = {part: _over_dense(judged, part) for part in PARTS}
        of_seeds = more["all"].mean(axis=1)
        low, high = gap.interval(of_seeds)
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


def better(result: pandas.DataFrame) -> Verdict:
    """Whether the 95% interval is above zero in every row of `advantage`, of all families together, which a column
    `network` may name. One complete row whose interval is below zero refutes it, whatever the others lack."""
    known = result.dropna(subset=["low", "high"])
    sentence = f"the 95% interval is above zero in {(known['low'] > 0).sum()} of {len(result)} cases, below in "
    sentence += f"{(known['high'] < 0).sum()}"
    for row in known.itertuples():
        case = f"{row.network}, {row.pruner}" if "network" in known else row.pruner
        sentence += f"; {case} {row.points:+.2f} points ({row.low:+.2f} to {row.high:+.2f}): {row.each}; "
        sentence += f"{row.even:+.2f} on even and {row.odd:+.2f} on odd test samples"
    partial = result["lacking"] > 0
    few = ~partial & result["low"].isna()
    for rows, what in ((partial, "not complete"), (few, "complete with fewer than two seeds")):
        sentence += f"; {rows.sum()} of them {what}" * bool(rows.any())
    if (known["high"][known["lacking"] == 0] < 0).any():
        return sentence, False
    return sentence, None if result.empty or partial.any() or few.any() else bool((known["low"] > 0).all())


def structured(table: pandas.DataFrame) -> Verdict:
    """Whether the 95% interval of SAM's mean gap in networks with an N:M pattern is above zero; how it differs from the
    gap with masks of their count is told."""
    wide = sparse_gaps(table).query("protocol == @UNBIASED and complete")
    wide = wide.pivot_table(index="seed", columns=list(CELL), values="gap").dropna()
    pattern = wide.columns.get_level_values("pruner").isin(list(masking.PATTERNS))
    if unfinished(table) or len(wide) < 2 or pattern.all() or not pattern.any():
        return unfinished(table) or "fewer than two seeds are in all networks, with a pattern and without", None
    with_one, without = wide.loc[:, pattern].mean(axis=1), wide.loc[:, ~pattern].mean(axis=1)
    parts = {"with a pattern": with_one, "without": without, "difference": with_one - without}
    intervals = {name: gap.interval(part) for name, part in parts.items()}
    sentence = "; ".join(
        f"{name} {part.mean():+.2f} points (95% {intervals[name][0]:+.2f} to {intervals[name][1]:+.2f})"
        for name, part in parts.items()
    )
    return with_lacks(f"{sentence}; {len(wide)} seeds", table), bool(intervals["with a pattern"][0] > 0)


def _complete(result: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> pandas.DataFrame:
    """The rows of `gaps` of a pruner and of the dense network, of complete searches."""
    return result[result["pruner"].isin([pruner, "dense"]) & (result["protocol"] == protocol) & result["complete"]]
