"""Companion on the implicit bias of SAM: from its tables to (what was measured, whether the claim holds)."""

import numpy as np
import pandas
from scipy.stats import binomtest

from lib.paper.analysis import implicit_bias, relu_record
from lib.paper.analysis.implicit_bias_descent import against, barriers, rank_correlations, slowness
from lib.paper.claims import Verdict

SAME_SCHEDULE = "GD, linear decay", "SAM, linear decay"


def often(successes: int, seeds: int) -> bool:
    """Whether so many of so many seeds are more than chance: a one-sided sign test at 5%; 15 of 20 are."""
    return bool(binomtest(int(successes), int(seeds), alternative="greater").pvalue < 0.05)


def better(ratios: pandas.Series) -> Verdict:
    """Of log₁₀ ratios of test losses by data seed: the median factor and in how many seeds it is below 1; whether that
    is more than chance."""
    lower = int((ratios < 0).sum())
    words = f"test loss times {10 ** ratios.median():.3g} in the median, lower in {lower} of {len(ratios)} seeds"
    return words, often(lower, len(ratios))


def all_better(parts: dict[str, pandas.Series]) -> Verdict:
    """`better` of each part, named; it holds if all do."""
    verdicts = {name: better(ratios) for name, ratios in parts.items()}
    return "; ".join(f"{name}: {words}" for name, (words, _) in verdicts.items()), all(v[1] for v in verdicts.values())


def theorem_3(flows: pandas.DataFrame) -> Verdict:
    kkt = flows[flows["method"] == "gd"]["kkt"]
    return f"relative KKT residual at most {kkt.max():.0e} in {len(kkt)} flows", bool(kkt.max() < implicit_bias.FITS)


def effective_alpha(flows: pandas.DataFrame, method: str, reading: str) -> Verdict:
    """Whether flows of a method end at the interpolator of least potential under a reading of the effective α: whether
    the largest relative KKT residual is below FITS. Flows that did not converge are left out; None if all are."""
    return _residuals(flows[(flows["method"] == method) & (flows["reading"] == reading)])


def collapse(table: pandas.DataFrame) -> Verdict:
    counts = pandas.crosstab(table["rho"], table["outcome"]).reindex(
        columns=["interpolates", "collapses"], fill_value=0
    )
    seeds = table["seed"].nunique()
    words = ", ".join(f"{row['collapses']} of {seeds} at ρ = {rho:g}" for rho, row in counts.iterrows())
    return f"collapses in {words}", bool((counts.iloc[-1] == [0, seeds]).all())


def within(values: pandas.Series, expected, factor: float = 2.0) -> Verdict:
    """Whether every value is within a factor of what is expected; in words the range of their ratio."""
    ratio = values / expected
    words = f"{ratio.min():.2g} to {ratio.max():.2g} times it, median {ratio.median():.2g}, in {len(ratio)} problems"
    return words, bool(ratio.between(1 / factor, factor).all())


def support(table: pandas.DataFrame) -> Verdict:
    rows = table[table["method"] == "n-sam"]
    part = f"E on the support is {rows['on_support'].median():.2g} times that elsewhere"
    words = (
        f"{part}; test loss over GD's {rows['ratio'].median():.3g}, evenly shrunk {rows['even'].median():.3g} (medians)"
    )
    return words, bool((rows["on_support"] > 1).all() and (rows["ratio"] > 1).all() and (rows["even"] < 1).all())


def slower(curves: pandas.DataFrame) -> Verdict:
    """By the steps to a training loss of 1e-5, all methods but c = 4, which collapses on some seeds."""
    values = rank_correlations(slowness(curves[curves["label"] != "1-SAM, c = 4"]), "steps").dropna()
    words = f"Spearman's ρ of steps and test loss below 0 in {(values < 0).sum()} of {len(values)} seeds"
    return f"{words}, median {values.median():.2g}", often((values < 0).sum(), len(values))


def integral(curves: pandas.DataFrame) -> Verdict:
    """By the integral of the training loss, GD and 1-SAM with c = 1 and 2."""
    kept = curves[curves["label"].isin(["GD", "1-SAM, c = 1", "1-SAM, c = 2"])]
    values = rank_correlations(slowness(kept), "integral")
    return f"in order in {(values < -0.99).sum()} of {len(values)} seeds", often((values < -0.99).sum(), len(values))


def connected(line: pandas.DataFrame, curves: pandas.DataFrame) -> Verdict:
    """Over the seeds of a line between finite ends; `curves` say what the loss was at the start."""
    start = curves[(curves["step"] == 0) & (curves["label"] == "GD")].set_index("seed")["train_loss"]
    heights = barriers(line, start)
    words = f"barrier at most {heights.max():.1g} of the initial loss in {len(heights)} of {len(start)} seeds"
    return words, bool((heights < 0.01).all()) if len(heights) else None


def relu(table: pandas.DataFrame, column: str) -> Verdict:
    """Whether SAM's is lower than GD's with the same schedule in every seed."""
    if table.empty:
        return "no networks", None
    wide = table.pivot_table(index="seed", columns="label", values=column)
    means = ", ".join(f"{label} {wide[label].mean():.3g}" for label in wide)
    lower = wide[SAME_SCHEDULE[1]] < wide[SAME_SCHEDULE[0]]
    return f"means: {means}; SAM's lower in {lower.sum()} of {len(lower)} seeds, same schedule", bool(lower.all())


def relu_spread(curves: pandas.DataFrame) -> Verdict:
    if curves.empty:
        return "no networks", None
    spread = relu_record.spread(curves)
    words = ", ".join(f"{label} {value:.2g}" for label, value in spread.items())
    return f"standard deviation over seeds: {words}", bool(spread[SAME_SCHEDULE[1]] < spread[SAME_SCHEDULE[0]])


def depth(table: pandas.DataFrame, reading: str) -> Verdict:
    """As `effective_alpha`, for deeper networks."""
    return _residuals(table[table["reading"] == reading])


def width(table: pandas.DataFrame) -> Verdict:
    """Whether 1-SAM's test loss over GD's falls from the smallest to the largest d, in rows that `tuned` chose: data of
    different d are different, so that seeds are not paired."""
    medians = pandas.Series({d: against(rows, "1-SAM, c = 1").median() for d, rows in table.groupby("d")})
    words = ", ".join(f"{10**value:.2g} at d = {d}" for d, value in medians.items())
    return f"test loss over GD's, median: {words}", bool(np.all(np.diff(medians) < 0))


def _residuals(rows: pandas.DataFrame) -> Verdict:
    kkt = rows.loc[rows["converged"], "kkt"]
    if kkt.empty:
        return f"none of {len(rows)} flows converged", None
    words = (
        f"relative KKT residual {kkt.min():.1g} to {kkt.max():.1g} in {len(kkt)} of {len(rows)} flows that converged"
    )
    return words.replace(f"{len(rows)} of {len(rows)} flows that converged", f"{len(rows)} flows"), bool(
        kkt.max() < implicit_bias.FITS
    )
