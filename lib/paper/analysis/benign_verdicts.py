"""Conditions of the claims of notebook 07: from its tables to (what was measured, whether the claim holds)."""

import numpy as np
import pandas

from lib.paper.analysis.benign import DRAWS
from lib.paper.analysis.gap import interval
from lib.theory.fit import power_law

Verdict = tuple[str, bool | None]
HARMFUL = 1e-2  # clean test error above this, median over seeds


def fits(table: pandas.DataFrame) -> Verdict:
    """Every run reaches its ε < 1/(2n) within its steps and classifies every training label."""
    right = table["done"] & (table["train_error"] == 0) & (table["epsilon"] < 0.5 / table["n"])
    words = f"{int(right.sum())} of {len(table)} runs; {table['fitted'].sum()} of {table['flips'].sum()} flipped labels"
    return words, bool(right.all())


def error(table: pandas.DataFrame) -> Verdict:
    """In every cell with p ≥ n³ the median clean error is at most HARMFUL."""
    cells = table[table["p"] >= table["n"] ** 3].groupby(["n", "p"])["error"]
    words = ", ".join(f"{value:.2g} at n = {n}, p = {p}" for (n, p), value in cells.median().items())
    return f"median clean error {words}; worst seed {cells.max().max():.2g}", bool((cells.median() <= HARMFUL).all())


def form(table: pandas.DataFrame) -> Verdict:
    """log(2/error) is at least c·n·p^⅓ for one c, the least ratio in the smallest p of each n, in all larger p.

    A median of 0 counts as 3 points of all that were drawn, the 95% limit."""
    cells = table.groupby(["n", "p"]).agg(error=("error", "median"), seeds=("seed", "size")).reset_index()
    limit = np.maximum(cells["error"], 3 / (DRAWS * cells["seeds"]))
    ratio = np.log(2 / limit) / (cells["n"] * cells["p"] ** (1 / 3))
    first = cells.groupby("n")["p"].transform("min") == cells["p"]
    c, rest, open_ = ratio[first].min(), ratio[~first], cells["error"][~first] == 0
    holds = bool((rest[~open_] >= c).all())
    words = f"c = {c:.3f} from the least p of each n; log(2/error)/(n·p^⅓) is {rest[~open_].min():.3f} or more beyond"
    return f"{words}; {int(open_.sum())} of {len(rest)} cells show no error and bound nothing", holds


def width(table: pandas.DataFrame) -> Verdict:
    """No trend of the clean error in log m over paired seeds: the 95% interval of the slope contains 0."""
    slopes = [np.polyfit(np.log10(part["m"]), part["error"], 1)[0] for _, part in table.groupby("seed")]
    low, high = interval(slopes)
    means = table.groupby("m")["error"].mean()
    words = f"{np.mean(slopes):+.4f} for ten times the width (95% {low:+.4f} to {high:+.4f})"
    return f"{words}; mean error {means.min():.3f} to {means.max():.3f}", bool(low <= 0 <= high)


def margin(table: pandas.DataFrame) -> Verdict:
    """Over cells with p ≥ n³, the exponent of the normalized margin in n·p^⅓ is not below ½ (95% interval)."""
    part = table[table["p"] >= table["n"] ** 3]
    fit = power_law(part["n"] * part["p"] ** (1 / 3), part["margin"], groups=part["seed"])
    words = f"exponent {fit.exponent:.3f} (95% {fit.low:.3f} to {fit.high:.3f}), R² {fit.r2:.3f}"
    return words, bool(fit.high >= 0.5)


def norm(table: pandas.DataFrame) -> Verdict:
    """From the first level of the loss to the last ‖W‖ grows in every run, and where p ≥ n³ no mean error by 0.001."""
    first, last = (table[table["level"] == level].sort_values(["p", "seed"]) for level in _ends(table["level"]))
    growth = last["norm"].to_numpy() / first["norm"].to_numpy()
    change = last.groupby("p")["error"].mean() - first.groupby("p")["error"].mean()
    inside = change.index >= table["n"].max() ** 3
    words = ", ".join(f"{value:+.4f} at p = {p}" for p, value in change.items())
    holds = (growth > 1).all() and (change[inside] <= 1e-3).all() and last["done"].all()
    loss = f"loss from {table['level'].max():g} to {table['level'].min():g}"
    return f"{loss}: ‖W‖ grows {growth.min():.2f} to {growth.max():.2f} times; error {words}", bool(holds)


def _ends(levels):
    return levels.max(), levels.min()


def harmful(table: pandas.DataFrame, name: str, broken: float) -> Verdict:
    """With `name` at `broken` all labels are fitted and the median clean error is above HARMFUL; at the other end of
    its values the error is at most HARMFUL."""
    values = table[name].unique()
    other = max(values, key=lambda value: abs(value - broken))
    medians = table.groupby(name)["error"].median()
    fitted = (table[table[name] == broken]["train_error"] == 0).all()
    words = f"median clean error {medians[broken]:.3g} at {broken:g}, {medians[other]:.3g} at {other:g}"
    return words, bool(fitted and medians[broken] > HARMFUL >= medians[other])


def sam_fits(table: pandas.DataFrame) -> Verdict:
    """Every run of SAM ends with all flipped labels fitted."""
    sam = table[table["rho"] > 0]
    shares = sam.groupby("rho")[["fitted", "flips"]].sum()
    words = ", ".join(f"{fitted} of {flips} at ρ = {rho:g}" for rho, (fitted, flips) in shares.iterrows())
    return f"flipped labels fitted: {words}", bool((sam["fitted"] == sam["flips"]).all())


def sam_error(table: pandas.DataFrame) -> Verdict:
    """At the p with the largest error of GD, some ρ errs less on the same problems (intervals together at 95%)."""
    gd = table[table["rho"] == 0]
    p = gd.groupby("p")["error"].mean().idxmax()
    base = gd[gd["p"] == p].set_index("seed")["error"]
    part, words, best = table[(table["p"] == p) & (table["rho"] > 0)], [], False
    for rho, rows in part.groupby("rho"):
        change = rows.set_index("seed")["error"] - base
        low, high = interval(change, 1 - 0.05 / part["rho"].nunique())
        words.append(f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f}) at ρ = {rho:g}")
        best |= high < 0
    return f"p = {p}, GD errs in {base.mean():.3f}; SAM minus GD: {'; '.join(words)}", best
