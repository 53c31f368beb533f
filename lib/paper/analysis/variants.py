"""What variants of SAM gain over SGD: the table from which the companions on *Towards Understanding SAM* judge.

A network is what SGD and all variants share, such as a width and a share of wrong labels. For seed s of a variant, in
percentage points of test accuracy,

    gain_s = 100 (A_s^{SAM}(ρ_s) − A_s^{SGD}),    ρ_s = argmax_ρ Σ_{t≠s} A_t^{SAM}(ρ),

so that no seed takes part in choosing the radius that it is judged by. Seeds then depend on each other a little, and
all intervals come from one value a seed.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas

from lib.paper.analysis import effects
from lib.paper.claims import Effect, Finding
from lib.runs import UNRECORDED, Run, parameter_count

POINTS = "points"


def gains(
    table: pandas.DataFrame,
    variant: Callable[[pandas.Series], object],
    network: Sequence[str] = ("width", "label_noise"),
    score: Callable[[pandas.Series], float] = lambda row: row["test_accuracy"],
) -> pandas.DataFrame:
    """One row a network, variant and seed of a table of `sweep`.

    variant: what a row of SAM is called; None leaves it out. network: the columns that SGD and the variants share.
    score: of a row, the accuracy that is compared.

    Columns: those of `network`, parameters, variant, seed, rho (the chosen), own_rho (the best of this seed alone),
    sgd, sam (accuracies, %), gain (points), keys (of all runs behind it, in one string). Only of seeds that have a
    record of SGD and of every ρ of the variant, where there are two or more. A run that diverged has accuracy 0.

    >>> runs = [Run(dataset="digits", seed=s) for s in (0, 1)]
    >>> runs += [r.but(optimizer="sam", rho=rho) for r in runs for rho in (0.1, 0.2)]
    >>> rows = [r.as_dict() | {"key": r.key, "status": "done", "test_accuracy": 0.9 + r.rho / 10} for r in runs]
    >>> gains(pandas.DataFrame(rows), lambda row: "SAM")[["rho", "gain"]].round(6).values.tolist()
    [[0.2, 2.0], [0.2, 2.0]]
    """
    columns = [*network, "parameters", "variant", "seed", "rho", "own_rho", "sgd", "sam", "gain", "keys"]
    rows = []
    done = table[~table["status"].isin(UNRECORDED)]
    done = done.assign(score=[0.0 if r["status"] == "diverged" else score(r) for _, r in done.iterrows()])
    for labels, cell in done.groupby(list(network)):
        sgd = cell[cell["rho"] == 0].set_index("seed")
        sam = cell[cell["rho"] > 0]
        named = sam.assign(variant=[variant(row) for _, row in sam.iterrows()]).dropna(subset="variant")
        parameters = parameter_count.parameters(Run.of_row(cell.iloc[0]))
        for name, runs in named.groupby("variant", sort=False):
            wide = runs.pivot_table("score", "seed", "rho").dropna()
            wide = wide.loc[wide.index.intersection(sgd.index)]
            for seed in wide.index if len(wide) > 1 else ():
                rho = wide.drop(index=seed).mean().idxmax()
                base, best = 100 * sgd.loc[seed, "score"], 100 * wide.loc[seed, rho]
                keys = " ".join([sgd.loc[seed, "key"], *runs["key"][runs["seed"] == seed]])
                row = (parameters, name, seed, rho, wide.loc[seed].idxmax(), base, best, best - base, keys)
                rows.append((*labels, *row))
    return pandas.DataFrame(rows, columns=columns)


def versus(frame: pandas.DataFrame, first, second, column: str = "sam") -> pandas.DataFrame:
    """Seed by seed, a column of `gains` for the variant `first` minus that for `second`: parameters, seed, value."""
    wide = frame.pivot_table(column, ["parameters", "seed"], "variant")
    if not {first, second} <= set(wide):
        return pandas.DataFrame(columns=["parameters", "seed", "value"])
    return (wide[first] - wide[second]).dropna().rename("value").reset_index()


def slopes(frame: pandas.DataFrame, column: str = "gain") -> pandas.DataFrame:
    """Seed by seed, the slope of a column over log₁₀ of the variant, a number: parameters, seed, value."""
    rows = []
    for (parameters, seed), part in frame.groupby(["parameters", "seed"]):
        if len(part["variant"].unique()) > 1:
            x = np.log10(part["variant"].astype(float))
            rows.append((parameters, seed, np.polyfit(x, part[column].astype(float), 1)[0]))
    return pandas.DataFrame(rows, columns=["parameters", "seed", "value"])


def mean(values: pandas.DataFrame, unit: str = POINTS) -> Finding:
    """The mean of a `value` over networks (`parameters`), from one value a seed; in words that of each network."""
    values = values.dropna(subset="value")
    if values.empty or values["seed"].nunique() < 2:
        return Finding("fewer than two seeds")
    effect = effects.over_cells(values, "value", unit, pooled=False)
    cells = values.groupby("parameters")["value"]
    each = ", ".join(f"{cell.mean():+.3g} at {count:,} parameters" for count, cell in cells)
    return Finding(f"{effect}; {each}; {values['seed'].nunique()} seeds", effect=effect)


def growth(values: pandas.DataFrame, unit: str = POINTS) -> Finding:
    """How a `value` changes with a tenfold number of parameters, from one slope a seed: the main paper's question."""
    effect = effects.slope(values.astype({"value": float}), "value", f"{unit} a decade of parameters", pooled=False)
    if math.isnan(effect.value):
        return Finding("fewer than two networks have seeds")
    return Finding(f"{effect}; {effect.networks} networks", effect=effect)


def over_rho(table: pandas.DataFrame, variant: Callable[[pandas.Series], object]) -> pandas.DataFrame:
    """Test errors (%) against ρ for `plots.panels`: a panel a network, a line a variant, SGD across all ρ of these."""
    done, rows = table[~table["status"].isin(UNRECORDED)], []
    for _, row in done.iterrows():
        ends = table["rho"][table["rho"] > 0].agg(["min", "max"]) if row["rho"] == 0 else [row["rho"]]
        error = 100.0 if row["status"] == "diverged" else 100 * (1 - row["test_accuracy"])
        name = "SGD" if row["rho"] == 0 else variant(row)
        rows += [(network_name(row), name, rho, error, row["key"]) for rho in ends]
    frame = pandas.DataFrame(rows, columns=["panel", "label", "rho", "error", "keys"])
    return lines(frame.sort_values("rho", kind="stable"), x="rho", y="error", label="label", panel="panel")


def network_name(row) -> str:
    """What a network is called over a panel: its width, and the share of wrong labels."""
    return f"width {row['width']:g}" + f", {row['label_noise']:.0%} wrong labels" * bool(row["label_noise"])


def summary(frame: pandas.DataFrame, *more: str) -> pandas.DataFrame:
    """The means over seeds of `gains`, one row a network and variant: the table beside a figure."""
    by = [*(name for name in ("width", "label_noise", *more) if name in frame), "variant"]
    return frame.groupby(by, sort=False)[["rho", "sgd", "sam", "gain"]].mean().astype(float).round(3)


def mean_effect(values: Sequence[float], unit: str = POINTS) -> Effect:
    """The mean of one value a seed, with its t interval."""
    return effects.mean(values, unit)


def lines(frame: pandas.DataFrame, *, x: str, y: str, label: str, panel: str) -> pandas.DataFrame:
    """Means over seeds with their range, as `plots.panels` takes them: panel, label, look, x, y, low, high; and keys,
    of all runs behind a point, where the frame has them."""
    rows = []
    for (p, name, at), part in frame.groupby([panel, label, x], sort=False):
        values = part[y].astype(float).dropna()
        keys = " ".join(dict.fromkeys(" ".join(part["keys"]).split())) if "keys" in part else ""
        rows.append((p, name, "-", at, values.mean(), values.min(), values.max(), keys))
    return pandas.DataFrame(rows, columns=["panel", "label", "look", "x", "y", "low", "high", "keys"])
