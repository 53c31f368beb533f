"""Notebook 10: at which stage of training SAM matters. From tables of runs to findings; `variants` says what a gain is.

A switch at the share s is from SAM to SGD, or from SGD to SAM, after that share of the epochs.
"""

import math

import numpy as np
import pandas

from lib.paper.analysis import variants
from lib.paper.claims import Finding
from lib.runs import UNRECORDED, Run, parameter_count

FIRST_SAM, FIRST_SGD = "SAM→SGD", "SGD→SAM"
FREE, CLIPPED = "unnormalized SAM", "clipped"


def order(row) -> str:
    """What a run of `switching` is called: "SAM", or the order with its share."""
    if not row["switch"]:
        return "SAM"
    return f"{FIRST_SAM if row['optimizer'] == 'sam' else FIRST_SGD} {row['switch']:g}"


def form(row) -> str:
    """What a run of SAM of `unnormalized` is called."""
    return "SAM" if row["normalized"] else CLIPPED if row["clip"] else FREE


def radius(row) -> str:
    """What a run of SAM of `radius_schedules` is called."""
    return {"constant": "constant ρ", "lr": "falling ρ"}[row["rho_schedule"]]


def over_share(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of `gains` with order, share (of the epochs before the switch) and error (%): both orders begin and end with
    SGD or SAM alone (Figure 8)."""
    kept = ["parameters", "seed", "keys"]
    parts = []
    for name, sam_at in ((FIRST_SAM, 1.0), (FIRST_SGD, 0.0)):
        mixed = frame[frame["variant"].str.startswith(name)]
        share = mixed["variant"].str.split().str[-1].astype(float)
        parts.append(mixed[kept].assign(order=name, share=share, error=100 - mixed["sam"]))
        pure = frame[frame["variant"] == "SAM"]
        parts.append(pure[kept].assign(order=name, share=sam_at, error=100 - pure["sam"]))
        parts.append(pure[kept].assign(order=name, share=1 - sam_at, error=100 - pure["sgd"]))
    return pandas.concat(parts, ignore_index=True).sort_values(["order", "share"], kind="stable")


def with_epochs(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table of `sweep` with `best`, the test accuracy at the epoch whose mean accuracy is highest for the other
    seeds of the run, so that no seed chooses for itself; and `before`, that of the last epoch before the switch. NaN
    where a run has no record, no other seed, or no switch."""
    done = table[~table["status"].isin((*UNRECORDED, "diverged"))]
    best, before = (pandas.Series(math.nan, index=table.index) for _ in range(2))
    alike: dict[Run, dict] = {}
    for at, row in done.iterrows():
        accuracies = np.array(row["curves"]["test_accuracy"], dtype=float)
        alike.setdefault(Run.of_row(row).but(seed=0), {})[at] = accuracies
        if row["switch"]:
            before[at] = accuracies[math.ceil(round(row["switch"] * row["epochs"], 9)) - 1]
    for curves in alike.values():
        for at, curve in curves.items() if len(curves) > 1 else ():
            others = np.mean([other for i, other in curves.items() if i != at], axis=0)
            best[at] = curve[np.nanargmax(others)]
    return table.assign(best=best, before=before)


def chosen(table: pandas.DataFrame, frame: pandas.DataFrame, name) -> pandas.DataFrame:
    """The runs of SAM at the ρ that `gains` chose for them: rows of the table, with parameters and variant. name: what
    a row of the table is called."""
    sam = table[(table["rho"] > 0) & ~table["status"].isin(UNRECORDED)]
    if sam.empty or frame.empty:
        return sam.iloc[:0].assign(parameters=0, variant="")
    sam = sam.assign(variant=[name(row) for _, row in sam.iterrows()])
    on = ["width", "label_noise", "variant", "seed", "rho"]
    return sam.merge(frame[[*on, "parameters"]], on=on)


def after_switch(table: pandas.DataFrame, frame: pandas.DataFrame, variant: str, sign: int) -> Finding:
    """sign times (accuracy at the end minus that before the switch), in points, of one variant at its chosen ρ."""
    runs = chosen(with_epochs(table), frame, order)
    runs = runs[runs["variant"] == variant]
    change = 100 * sign * (runs["test_accuracy"] - runs["before"])
    return variants.mean(runs.assign(value=change)[["parameters", "seed", "value"]])


def late_overfitting(table: pandas.DataFrame, *, sam: bool) -> Finding:
    """Accuracy at the best epoch (`with_epochs`) minus that of the last, in points: of SGD, or of SAM, the mean over
    ρ."""
    runs = with_epochs(table[table["normalized"]])
    runs = runs[((runs["rho"] > 0) == sam) & runs["best"].notna()]
    return variants.mean(_values(runs, 100 * (runs["best"] - runs["test_accuracy"])))


def late_overfitting_of_either(table: pandas.DataFrame) -> Finding:
    """That of SGD or of SAM, whichever reaches further up."""
    both = {name: late_overfitting(table, sam=name == "SAM") for name in ("SGD", "SAM")}
    if missing := next((finding for finding in both.values() if finding.effect is None), None):
        return missing
    words = "; ".join(f"{name} {finding.measured}" for name, finding in both.items())
    return Finding(words, effect=max((finding.effect for finding in both.values()), key=lambda effect: effect.high))


def _values(runs: pandas.DataFrame, values) -> pandas.DataFrame:
    counts = [parameter_count.parameters(Run.of_row(row)) for _, row in runs.iterrows()]
    rows = pandas.DataFrame({"parameters": counts, "seed": runs["seed"].to_numpy(), "value": np.asarray(values)})
    return (
        rows.astype({"parameters": int, "seed": int, "value": float})
        .groupby(["parameters", "seed"], as_index=False)
        .mean()
    )


def loss_ratio(table: pandas.DataFrame) -> Finding:
    """log₁₀ of SAM's final training loss over SGD's, the mean over ρ, seed by seed."""
    runs = table[table["normalized"] & (table["status"] == "done")]
    logs = {
        sam: _values(part := runs[(runs["rho"] > 0) == sam], np.log10(part["train_loss"].astype(float)))
        for sam in (False, True)
    }
    both = logs[True].merge(logs[False], on=["parameters", "seed"], suffixes=("", "_sgd"))
    return variants.mean(both.assign(value=both["value"] - both["value_sgd"]), "decades")


def with_objective(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table of `sweep` with the curve of the objective, L + λ‖w‖²/2, among the curves of what has a record: the
    mean training loss of an epoch, and the weights at its end."""
    curves = []
    for row in table.to_dict("records"):
        curve = row["curves"]
        if curve:
            norms = np.array(curve["weight_norm"], dtype=float)
            curve = curve | {"objective": np.array(curve["train_loss"], float) + row["weight_decay"] / 2 * norms**2}
        curves.append(curve)
    return table.assign(curves=curves)


def objective(table: pandas.DataFrame) -> Finding:
    """Whether the mean objective falls from each fifth of the epochs to the next, of SGD and SAM, in every network."""
    done = with_objective(table[table["status"] == "done"])
    rows = []
    for row in done.to_dict("records"):
        parts = [part.mean() for part in np.array_split(row["curves"]["objective"], 5)]
        rows += [("SAM" if row["rho"] else "SGD", row["width"], fifth, value) for fifth, value in enumerate(parts)]
    if not rows:
        return Finding("no runs")
    frame = pandas.DataFrame(rows, columns=["method", "width", "fifth", "value"])
    means = frame.groupby(["method", "width", "fifth"])["value"].mean()
    words = "; ".join(
        f"{method}, width {width:g}: {', '.join(f'{value:.3g}' for value in part)}"
        for (method, width), part in means.groupby(level=[0, 1])
    )
    return Finding(words, holds=bool((means.groupby(level=[0, 1]).diff().dropna() < 0).all()))


def epochs(table: pandas.DataFrame, name, column: str = "test_accuracy") -> pandas.DataFrame:
    """Curves over epochs, means over seeds with their range, as `plots.panels` takes them: of SGD, and of each variant
    at the ρ whose mean final accuracy is highest. The panel is the network; accuracies become errors in %."""
    rows, done = [], table[table["status"] == "done"]
    done = done.assign(variant=["SGD" if row["rho"] == 0 else name(row) for _, row in done.iterrows()])
    for (_, _, variant), runs in done.groupby(["width", "label_noise", "variant"], sort=False):
        best = runs.groupby("rho")["test_accuracy"].mean().idxmax()
        for _, run in runs[runs["rho"] == best].iterrows():
            values = np.array(run["curves"][column], dtype=float)
            y = 100 * (1 - values) if column.endswith("accuracy") else values
            part = dict(
                panel=variants.network_name(run),
                label=variant,
                seed=run["seed"],
                x=run["curves"]["epoch"],
                y=y,
                keys=run["key"],
            )
            rows.append(pandas.DataFrame(part))
    if not rows:
        return pandas.DataFrame(columns=["panel", "label", "look", "x", "y", "low", "high", "keys"])
    curves = pandas.concat(rows).groupby(["panel", "label", "x"], sort=False)
    result = curves.agg(y=("y", "mean"), low=("y", "min"), high=("y", "max"), keys=("keys", " ".join)).reset_index()
    return result.assign(look="-")
