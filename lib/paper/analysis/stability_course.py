"""Sharpness during training beside the edge of stability, of SGD and of SAM (Section 4).

A `table` has the rows of `measure`, of the kind course. Of each point the `edge` is the bound on a in the conditions
(7), at the radius that SAM in batches amounts to. It is also SAM's edge of stability in Long and Bartlett (2023):

    a (1 + (ρ/‖g_B‖) a) = 2/η,        for SGD a = 2/η.
"""

import numpy as np
import pandas

from lib.paper.analysis import effects
from lib.paper.claims import Finding
from lib.theory import bouncing, stability_bounds

QUANTITIES = {"a": "sharpness a", "s2": "non-uniformity s₂"}
AXES = {name: dict(yscale="log", plain="y", xlabel="epoch", ylabel=name) for name in QUANTITIES.values()}
COLUMNS = ["key", "run_key", "optimizer", "eta", "rho", "seed", "epoch", "epochs", *QUANTITIES, "edge"]


def points(table: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each network and epoch: COLUMNS. An eigenvalue that had not converged is NaN."""
    rows = []
    for run in table[table["status"] == "done"].to_dict("records"):
        named = {name: run[name] for name in ("key", "run_key", "rho", "seed", "epochs")}
        named |= {"optimizer": "SAM" if run["rho"] else "SGD", "eta": run["lr"]}
        for i, epoch in enumerate(run["epoch"]):
            edge = bouncing.sam_edge(run["batch_gradient"][i], run["lr"], run["rho"])
            values = {name: run[name][i] if run[f"{name}_converged"][i] else np.nan for name in QUANTITIES}
            rows.append({**named, "epoch": epoch, "edge": float(edge), **values})
    return pandas.DataFrame(rows, columns=COLUMNS)


def lines(points: pandas.DataFrame) -> pandas.DataFrame:
    """As `plots.panels` takes them: a and s₂ over the epochs, the mean over seeds and their range, with the edge, and
    SGD's bound on s₂, dashed. Columns: keys, panel, label, x, y, low, high, look."""
    parts = [pandas.DataFrame(columns=["keys", "panel", "label", "x", "y", "low", "high", "look"])]
    for (name, eta), some in points.groupby(["optimizer", "eta"], sort=False):
        shown = {column: (panel, name, "-", some[column]) for column, panel in QUANTITIES.items()}
        edge = f"{name}| edge of stability" + f", 2/η = {2 / eta:g}" * (name == "SGD")
        shown["edge"] = QUANTITIES["a"], edge, "--", some["edge"]
        if np.isfinite(bound := stability_bounds(eta, some["rho"].max()).s2):
            text = f"{name}| bound of (7), 1/η = {bound:g}"
            shown["bound"] = QUANTITIES["s2"], text, "--", pandas.Series(bound, some.index)
        for panel, label, look, values in shown.values():
            epochs = values.groupby(some["epoch"])
            frame = pandas.DataFrame({"y": epochs.mean(), "low": epochs.min(), "high": epochs.max()})
            keys = " ".join(dict.fromkeys(some["key"]))
            frame = frame.rename_axis("x").reset_index().assign(keys=keys, panel=panel, label=label, look=look)
            parts.append(frame)
    return pandas.concat(parts[1:] or parts)


def lower(points: pandas.DataFrame) -> Finding:
    """log₁₀ of SAM's sharpness over SGD's of the same seed and epoch, the mean over the second half of the epochs."""
    late = points[2 * points["epoch"] >= points["epochs"]]
    wide = late.pivot_table(index=["seed", "epoch"], columns="optimizer", values="a")
    if not {"SGD", "SAM"} <= set(wide):
        return Finding("no two networks of one seed")
    logs = np.log10(wide["SAM"] / wide["SGD"]).dropna().groupby("seed").mean()
    effect = effects.mean(logs, "decades")
    text = f"a of SAM is {10**effect.value:.2g} times that of SGD from the middle of training on"
    return Finding(text, effect=effect)


def approach(points: pandas.DataFrame) -> str:
    """How near each optimizer comes to its edge after the start, and from which epoch on SAM is the less sharp one."""
    after, texts = points[points["epoch"] > 0], []
    for name, some in after.groupby("optimizer", sort=False):
        share = (some["a"] / some["edge"]).groupby(some["epoch"]).mean()
        texts.append(f"{name} {share.max():.2g} of its edge at most, {share.iloc[-1]:.2g} at the end")
    means = points.pivot_table(index="epoch", columns="optimizer", values="a")
    if {"SGD", "SAM"} <= set(means):
        sharper = means.index[means["SAM"] >= means["SGD"]]
        since = [epoch for epoch in means.index if epoch > max(sharper, default=-1)]
        texts.append(f"SAM is less sharp from epoch {since[0]} on" if since else "SAM is not less sharp at the end")
    return "; ".join(texts)
