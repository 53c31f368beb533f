"""Figure 10 of *Towards Understanding SAM*: the loss on the line from SGD's solution to that of SGD→SAM.

A record of a run has no weights. So both networks are trained here, and the losses are kept in a file named by a hash
of the runs, beside the records.
"""

import hashlib
import json
from datetime import datetime

import numpy as np
import pandas
import torch

from lib.core import ambient, files, paths
from lib.hessian import loss_on_line
from lib.paper.claims import Verdict
from lib.paper.experiments.recipe import recipe
from lib.runs import Run, parameter_count
from lib.training import engines, fitting

ALPHAS = [round(float(alpha), 2) for alpha in np.linspace(-1, 2, 31)]
SHARE, SAMPLES = 0.9, 1024
TOLERANCE = 1.1  # times the larger end: a point below that is no barrier
COLUMNS = ["parameters", "seed", "rho", "alpha", "train_loss", "test_loss", "test_error"]


def pairs(preset: str) -> list[tuple[Run, Run]]:
    """SGD, and SGD followed by SAM for the last tenth at the largest ρ, for three seeds of every network."""
    r = recipe(preset, long=True)
    late = r.sam(optimizer="sgd", switch=SHARE, rhos=r.rhos[-1:])
    return [pair for pair in zip(r.sgd(), late, strict=True) if pair[0].seed in r.seeds[:3]]


def lines(preset: str, *, train: bool) -> pandas.DataFrame:
    """One row a pair and α: parameters, seed, rho, alpha (0: SGD, 1: SGD→SAM), train_loss and test_loss of the first
    1,024 samples, test_error (%). From its file; else trained if `train`; no row otherwise."""
    networks = pairs(preset)
    given = {"experiment": "line", "recipe": 1, "alphas": ALPHAS, "samples": SAMPLES}
    given["runs"] = [[first.key, second.key] for first, second in networks]
    key = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]
    file = paths.records(networks[0][0].dataset) / "companions" / f"{key}.json"
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8")))["specification"] == given:
        return pandas.DataFrame(kept["rows"], columns=COLUMNS)
    if not train:
        return pandas.DataFrame(columns=COLUMNS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with ambient.exactly(device):
        rows = [row for first, second in networks for row in _line(first, second, device)]
    record = {"specification": given, "rows": rows, "provenance": {"date": f"{datetime.now():%Y-%m-%d}"}}
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, json.dumps(record) + "\n")
    return pandas.DataFrame(rows, columns=COLUMNS)


def _line(first: Run, second: Run, device: torch.device) -> list[tuple]:
    networks = []
    for run in (first, second):
        engine = engines.engine([run], device)
        fitting.fit(engine)
        networks.append(engine.network(0).eval())
    results, data = {}, engine.data
    train = next(data.chunks("train"))
    for split in ("train", "test"):
        x, y = (part[:SAMPLES] for part in next(data.chunks(split)))
        results[split] = loss_on_line(*networks, first.loss, x, y, ALPHAS, statistics=train[0])
    labels = parameter_count.parameters(first), first.seed, second.rho
    points = zip(ALPHAS, results["train"].loss, results["test"].loss, results["test"].error, strict=True)
    return [(*labels, a, *(float(f"{v:.6g}") for v in (loss, test, 100 * error))) for a, loss, test, error in points]


def basin(table: pandas.DataFrame) -> Verdict:
    """Whether no line has a barrier: a training loss between the ends above TOLERANCE times the larger of them."""
    if table.empty:
        return "no networks: execute with train=True", None
    heights, lowest = [], []
    for _, line in table.groupby(["parameters", "seed"]):
        inner = line[line["alpha"].between(0, 1)]
        ends = inner["train_loss"].iloc[[0, -1]].max()
        heights.append(inner["train_loss"].max() / ends)
        lowest.append(line.loc[line["test_error"].idxmin(), "alpha"])
    words = f"at most {max(heights):.3g} times the larger end on {len(heights)} lines; the test error is least at α = "
    return f"{words}{min(lowest):g} to {max(lowest):g}", bool(max(heights) <= TOLERANCE)
