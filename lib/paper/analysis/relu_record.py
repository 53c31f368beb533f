"""The networks of Figure 7 of "Towards Understanding SAM", trained once and kept: 10⁶ steps take minutes.

Their file is named by a hash of the settings. It holds these, the networks at the end and the losses on the way.
"""

import hashlib
import json
import sys
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas

from lib.core import files, paths
from lib.theory import relu_regression as relu


class Trained(NamedTuple):
    """networks: stacked; label, seed: of each; steps, losses (times, networks): the training loss at w on the way."""

    networks: relu.Networks
    label: list[str]
    seed: list[int]
    steps: np.ndarray
    losses: np.ndarray


VARIANTS = {  # rho, schedule of the step size
    "GD, constant": (0.0, "constant"),
    "GD, linear decay": (0.0, "linear decay"),
    "SAM, linear decay": (relu.RHO, "linear decay"),
}
SEEDS = (0, 1, 2, 3, 4)


def specification(steps: int) -> dict:
    """All that the result depends on."""
    fixed = {"hidden": relu.HIDDEN, "step_size": relu.STEP_SIZE, "seeds": list(SEEDS)}
    return {"experiment": "relu regression", "recipe": 1, "steps": steps, "variants": VARIANTS} | fixed


def networks(preset: str, *, train: bool) -> Trained | None:
    """The networks of every variant and seed, from their file or trained on the spot; None if there is no file and
    `train` is false. 10⁵ steps at smoke, whose file is not committed, and the paper's 10⁶ otherwise."""
    steps, folder = (10**5, paths.records("digits")) if preset == "smoke" else (10**6, paths.records(""))
    given = json.loads(json.dumps(specification(steps)))
    key = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / "companions" / f"{key}.json"
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8")))["specification"] == given:
        return _trained(kept)
    if not train:
        return None
    start = relu.Networks.draw(SEEDS * len(VARIANTS))
    settings = [settings for settings in VARIANTS.values() for _ in SEEDS]
    end, times, losses = relu.train(
        start,
        rho=[rho for rho, _ in settings],
        schedule=[name for _, name in settings],
        steps=steps,
        every=steps // 200,
    )
    versions = {"python": sys.version.split()[0], "numpy": np.__version__}
    record = {
        "specification": given,
        "hidden": end.hidden.round(9).tolist(),
        "output": end.output.round(9).tolist(),
        "steps": times.tolist(),
        "losses": [[float(f"{value:.6g}") for value in row] for row in losses],
        "provenance": {"date": f"{datetime.now():%Y-%m-%d}", "versions": versions},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, json.dumps(record) + "\n")
    return _trained(record)


def _trained(record: dict) -> Trained:
    given = record["specification"]
    return Trained(
        relu.Networks(np.array(record["hidden"]), np.array(record["output"])),
        [label for label in given["variants"] for _ in given["seeds"]],
        list(given["seeds"]) * len(given["variants"]),
        np.array(record["steps"]),
        np.array(record["losses"]),
    )


def functions(trained: Trained | None, points: int = 401) -> pandas.DataFrame:
    """The functions that the networks compute between the outermost points: label, seed, x, f; no row without
    networks."""
    if trained is None:
        return pandas.DataFrame(columns=["label", "seed", "x", "f"])
    x = np.linspace(relu.X[0], relu.X[-1], points)
    tables = [
        pandas.DataFrame({"label": label, "seed": seed, "x": x, "f": values})
        for label, seed, values in zip(trained.label, trained.seed, trained.networks(x), strict=True)
    ]
    return pandas.concat(tables, ignore_index=True)


def complexity(trained: Trained | None) -> pandas.DataFrame:
    """One row a network: label, seed, loss (at the last record), kinks (their number, merged as
    `relu_regression.merged` does) and variation, that of f′ = Σ|changes of f′|, both between the outermost points."""
    if trained is None:
        return pandas.DataFrame(columns=["label", "seed", "loss", "kinks", "variation"])
    rows = []
    bends = [relu.merged(*kinks) for kinks in trained.networks.kinks()]
    for label, seed, loss, (_, change) in zip(trained.label, trained.seed, trained.losses[-1], bends, strict=True):
        rows.append(
            {"label": label, "seed": seed, "loss": loss, "kinks": len(change), "variation": np.abs(change).sum()}
        )
    return pandas.DataFrame(rows)


def spread(curves: pandas.DataFrame) -> pandas.Series:
    """By label, the standard deviation of f(x) over seeds, its root mean square over x."""
    return curves.groupby(["label", "x"])["f"].var(ddof=1).groupby("label", sort=False).mean() ** 0.5
