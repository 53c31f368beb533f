"""SAM's benefit in large sparse networks beside a small dense one of as many parameters. (Figures 7, 14 and 15)

Gaps and the protocols that choose ρ* are those of `lib.paper.analysis.gap`; what is asked here is whether the gap grows
with the sparsity, and whether the sparse networks are the better ones. Verdicts are as in
`lib.paper.analysis.sparsity_networks`.
"""

import math

import numpy as np
import pandas

from lib.models import masking
from lib.paper.analysis import effects, gap, trends
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
from lib.paper.claims import Effect, Finding, mean_and_spread

UNBIASED = "both"  # the protocol of `gap.PROTOCOLS` without selection bias
PER_TEN = "points for every 10% removed"


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


def _tens(result: pandas.DataFrame, pruner: str, most: float = SPARSEST) -> pandas.DataFrame:
    """The rows that a trend is judged on, with the share removed in units of 10% (`tens`)."""
    rows = _complete(result, pruner)
    return rows[rows["removed"] <= most].assign(tens=rows["removed"] / 10)


def grows(table: pandas.DataFrame, pruner: str = "random") -> Finding:
    """The slope of the gap over the share removed, of a table of `sweep` of networks of one count (Figures 7, 14, 15),
    without selection bias."""
    effect = effects.slope(_tens(sparse_gaps(table), pruner), unit=PER_TEN, over="tens", log=False, pooled=False)
    words = f"{_stated(effect)}{described(table, pruner)}"
    return Finding(words, effect=effect, untested=unfinished(judged_runs(table, pruner)))


def _stated(effect: Effect) -> str:
    return "" if math.isnan(effect.value) else f"{effect}; "


def steeper(result: pandas.DataFrame) -> Effect:
    """How much steeper the gap rises with SNIP than with random masks: its slope over the share removed minus theirs,
    from rows of `gaps`; the dense network, where both begin, cancels. Only sparsities that both have."""
    groups = [dict(list(_tens(result, pruner).groupby("tens")["gap"])) for pruner in masking.UNSTRUCTURED]
    random, snip = groups
    shared = sorted(set(random) & set(snip))
    weights = effects.slope_weights(shared, log=False)
    if weights is None:
        return effects.contrast([], [], PER_TEN)
    pairs = [
        (values[x], sign * w)
        for values, sign in ((snip, 1), (random, -1))
        for x, w in zip(shared, weights, strict=True)
        if x
    ]
    effect = effects.contrast([values for values, _ in pairs], [weight for _, weight in pairs], PER_TEN)
    wide = [
        _tens(result, p).pivot_table(index="seed", columns="tens", values="gap")[shared] for p in masking.UNSTRUCTURED
    ]
    return effects.with_seeds(effect, (wide[1] - wide[0]).dropna() @ weights, pooled=False)


def clearer(table: pandas.DataFrame) -> Finding:
    """Whether the trend is clearer with SNIP: the gap grows with SNIP, and by more for each percent than with random
    masks. The effect is the weaker of the two. τ measures no clearness: it stops at 1, and of two equal trends one has
    the larger."""
    result, judged = sparse_gaps(table), judged_runs(table, *masking.UNSTRUCTURED)
    up = effects.slope(_tens(result, "snip"), unit=PER_TEN, over="tens", log=False, pooled=False)
    more = steeper(result)
    words = "" if math.isnan(more.value) else f"SNIP's slope minus that of random masks {more}; "
    words += f"SNIP: {_stated(up)}{_described(result, 'snip')}"
    return Finding(with_lacks(words, judged), effect=effects.weakest([up, more]), untested=unfinished(judged))


def size(table: pandas.DataFrame) -> Finding:
    """How much larger the paper's gap is at 94% sparsity, by random pruning, than in the dense network."""
    judged = judged_runs(table, "random")
    judged = judged[(judged["sparsity"] == 0) | (judged["sparsity"] >= 0.93)]
    if not judged["sparsity"].any():
        return Finding("no network here is pruned to 94%")
    rows = _complete(sparse_gaps(judged), "random", "paper")
    sparse, dense = rows["gap"][rows["removed"] > 0], rows["gap"][rows["removed"] == 0]
    effect = effects.difference(sparse, dense, "points")
    if math.isnan(effect.value):
        return Finding(with_lacks("the dense network or that of 94% has no seed", judged), untested=unfinished(judged))
    words = f"{effect}: {mean_and_spread(dense, 'points')} dense, {mean_and_spread(sparse, 'points')} at 94%"
    return Finding(with_lacks(words, judged), effect=effect, untested=unfinished(judged))


def trainable(table: pandas.DataFrame) -> Finding:
    """How much lower SGD's training loss is with SNIP than with random masks, at the same sparsities (decades)."""
    judged = judged_runs(table, *masking.UNSTRUCTURED)
    sgd = judged[(judged["optimizer"] == "sgd") & (judged["sparsity"] > 0) & (judged["status"] == "done")]
    losses = np.log10(sgd.set_index(["sparsity", "pruner"])["train_loss"].astype(float)).groupby(level=[0, 1])
    groups = {key: part.to_numpy() for key, part in losses}
    shared = sorted({s for s, _ in groups if {(s, p) for p in masking.UNSTRUCTURED} <= set(groups)})
    signs = {"random": 1, "snip": -1}
    values = [groups[s, p] for s in shared for p in signs]
    effect = effects.contrast(values, [sign / len(shared) for _ in shared for sign in signs.values()], "decades")
    each = ", ".join(
        f"{np.mean(groups[s, 'random']) - np.mean(groups[s, 'snip']):+.2f} at {100 * s:.0f}%" for s in shared
    )
    words = f"log₁₀ of the training losses, random over SNIP: {effect}; {each}" if shared else "no sparsity has both"
    return Finding(with_lacks(words, judged), effect=effect, untested=unfinished(judged))


def restores(sparse: pandas.DataFrame, dense: pandas.DataFrame) -> Finding:
    """The mean gap of sparse networks minus that of their dense parents, of equal weight, by the paper's protocol.

    sparse: a table of networks of one count; dense: one of unpruned networks, of which those of the same widths count.
    """
    judged = judged_runs(sparse, *masking.UNSTRUCTURED)
    rows = sparse_gaps(judged).query("protocol == 'paper' and complete and removed > 0")
    parents = gap.gaps(dense).query("protocol == 'paper' and complete and reference == 'SGD'")
    widths = sorted(set(rows["width"]) & set(parents["width"]))
    values, weights = [], []
    for width in widths:
        pruned = [part.to_numpy() for _, part in rows[rows["width"] == width].groupby("pruner")["gap"]]
        values += [*pruned, parents["gap"][parents["width"] == width].to_numpy()]
        weights += [1 / len(pruned) / len(widths)] * len(pruned) + [-1 / len(widths)]
    effect = effects.contrast(values, weights, "points")
    words = f"sparse minus dense {effect}; widths {', '.join(f'{w:g}' for w in widths)}" if widths else "no pair"
    return Finding(with_lacks(words, judged), effect=effect, untested=unfinished(judged))


def advantage(table: pandas.DataFrame) -> pandas.DataFrame:
    """How much better SGD is in sparse networks than in the dense one of as many parameters, one row a pruner.

    points: of test accuracy, the mean over sparsities up to SPARSEST; low, high: its 95% interval by the variance
    pooled over the networks, and the whole as `effect`. each: the points at each sparsity, in words; even, odd: those
    on either half of the test samples, which the interval takes as given. cells: in how many sparse networks; lacking:
    how many networks are not complete, the dense one included. NaN without the dense one or a sparse one.
    """
    rows = []
    sparse = table[(table["sparsity"] > 0) & (100 * table["sparsity"] <= SPARSEST)]
    for pruner in dict.fromkeys(sparse["pruner"]):
        judged = judged_runs(table, pruner)
        more = {part: _over_dense(judged, part) for part in PARTS}
        effect, points = more["all"]
        each = ", ".join(f"{value:+.2f} at {removed:.0f}%" for removed, value in points.items())
        row = {"pruner": pruner, "points": effect.value, "low": effect.low, "high": effect.high, "each": each}
        row |= {part: more[part][0].value for part in ("even", "odd")}
        rows.append(row | {"cells": len(points), "lacking": len(incomplete(judged)), "effect": effect})
    columns = ["pruner", "points", "low", "high", "each", "even", "odd", "cells", "lacking", "effect"]
    return pandas.DataFrame(rows, columns=columns)


def _over_dense(judged: pandas.DataFrame, part: str) -> tuple[Effect, dict[float, float]]:
    """Points of SGD over the dense network on a part of the test samples, of complete networks: their mean, and those
    at each % removed."""
    accuracy = {
        100 * cell.labels["sparsity"]: 100 * cell.reference("SGD").set_index("seed")[PARTS[part]].loc[cell.seeds("SGD")]
        for cell in cells(judged, CELL)
        if cell.complete("SGD") and cell.search("SGD", "all").size
    }
    dense = accuracy.pop(0.0, None)
    if dense is None or not accuracy:
        return effects.contrast([], [], "points"), {}
    weights = [1 / len(accuracy)] * len(accuracy) + [-1.0]
    effect = effects.contrast([*accuracy.values(), dense], weights, "points")
    return effect, {removed: values.mean() - dense.mean() for removed, values in sorted(accuracy.items())}


def better(result: pandas.DataFrame) -> Finding:
    """The weakest effect of the rows of `advantage`, of all families together, which a column `network` may name."""
    known = result.dropna(subset=["low", "high"])
    words = f"the 95% interval is above zero in {(known['low'] > 0).sum()} of {len(result)} cases, below in "
    words += f"{(known['high'] < 0).sum()}"
    for row in known.itertuples():
        case = f"{row.network}, {row.pruner}" if "network" in known else row.pruner
        words += f"; {case} {row.points:+.2f} points ({row.low:+.2f} to {row.high:+.2f}): {row.each}; "
        words += f"{row.even:+.2f} on even and {row.odd:+.2f} on odd test samples"
    partial = result["lacking"] > 0
    against = known[(known["lacking"] == 0) & (known["high"] < 0)]  # which refutes it, whatever others lack
    lacks = f"{partial.sum()} of {len(result)} cases are not complete" if partial.any() or result.empty else ""
    some = list(against["effect"] if len(against) else result["effect"])
    effect = effects.weakest(some) if some else None
    return Finding("; ".join(filter(None, (words, lacks))), effect=effect, untested="" if len(against) else lacks)


def structured(table: pandas.DataFrame) -> Finding:
    """SAM's mean gap in networks with an N:M pattern; how it differs from that with masks of their count is told."""
    rows = sparse_gaps(table).query("protocol == @UNBIASED and complete")
    groups = {cell: part["gap"].to_numpy() for cell, part in rows.groupby(list(CELL))}
    pattern = np.array([pruner in masking.PATTERNS for _, _, pruner in groups])
    if unfinished(table) or not len(groups) or pattern.all() or not pattern.any():
        return Finding("no network with a pattern, or none without", untested=unfinished(table) or "no such networks")
    shares = {"with a pattern": pattern / pattern.sum(), "without": ~pattern / (~pattern).sum()}
    shares["difference"] = shares["with a pattern"] - shares["without"]
    wide, parts = rows.pivot_table(index="seed", columns=list(CELL), values="gap")[list(groups)].dropna(), {}
    for name, weights in shares.items():
        used = np.flatnonzero(weights)
        effect = effects.contrast([list(groups.values())[i] for i in used], weights[used], "points")
        parts[name] = effects.with_seeds(effect, wide @ weights, pooled=False)
    words = "; ".join(f"{name} {part}" for name, part in parts.items())
    seeds = parts["difference"].seeds
    return Finding(with_lacks(f"{words}; {seeds} seeds", table), effect=parts["with a pattern"])


def _complete(result: pandas.DataFrame, pruner: str, protocol: str = UNBIASED) -> pandas.DataFrame:
    """The rows of `gaps` of a pruner and of the dense network, of complete searches."""
    return result[result["pruner"].isin([pruner, "dense"]) & (result["protocol"] == protocol) & result["complete"]]
