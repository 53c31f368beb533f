"""The data of the figures that a reader changes on the site: all that is computed is computed here, and the page only
chooses and draws.

Exceptions are the mean with its interval over the seeds that are chosen, for which Student's quantiles are given, and
the iterates of SAM on a quadratic, which `lib.theory.bouncing.step` defines.
"""

from pathlib import Path

import numpy as np
import pandas
from scipy import stats

from lib.paper import analysis, experiments
from lib.paper.analysis.gap import PROTOCOLS
from lib.runs import Run
from lib.runs.parameter_count import parameters
from lib.sweep import sweep
from lib.theory import linear_stability, stability_bounds

SEEDS = 30  # most that a reader can choose
HESSIANS = dict(n=20, d=4, rank=2)  # of notebook 02


def data(folder: Path, preset: str) -> dict:
    """All of it; folder: of the preset's figures."""
    return {
        "width": width(preset),
        "stability": stability(folder / "figE1.csv"),
        "landscape": landscape(folder / "fig02ab.csv"),
    }


def width(preset: str) -> dict:
    """Accuracies of the MLP by width, ρ and seed; gaps by protocol of choosing ρ; Student's quantiles."""
    searched = sweep(experiments.mnist_mlp(preset), train=False, progress=False)
    fixed = sweep(experiments.mnist_fixed_radius(preset), train=False, progress=False)
    every = pandas.concat([searched, fixed]).drop_duplicates("key")
    done = every[every["status"] == "done"]
    runs = [
        {
            "width": row.width,
            "parameters": parameters(Run.of_row(row._asdict())),
            "rho": row.rho,
            "seed": row.seed,
            "accuracy": round(100 * row.test_accuracy, 4),
            "key": row.key,
        }
        for row in done.itertuples()
    ]
    chosen = analysis.gap.gaps(searched).query("reference == 'SGD'")
    columns = ["width", "parameters", "protocol", "seed", "rho", "gap", "complete"]
    return {
        "runs": runs,
        "chosen": chosen[columns].round(6).to_dict("records"),
        "protocols": list(PROTOCOLS),
        "student": [None, *(float(f"{stats.t.ppf(0.975, n):.6g}") for n in range(1, SEEDS))],
        "images": ", ".join(sorted(set(done["dataset"]))),
    }


def stability(csv: Path) -> dict:
    """Growth and Theorem 9's eigenvalue as in Figure E1, and a, s₂, s₃ and s₄ over their bounds in conditions (7)."""
    exact = pandas.read_csv(csv).query("source == 'exact'").set_index(["eta", "rho"]).sort_index()
    grid = {name: exact[name].reset_index().pivot_table(name, "eta", "rho") for name in ("growth", "theorem9")}
    etas, rhos = grid["growth"].index, grid["growth"].columns
    measured = linear_stability.moments(linear_stability.random_hessians(**HESSIANS))
    for name, value in measured.items():
        grid[name] = [[value / getattr(stability_bounds(eta, rho), name) for rho in rhos] for eta in etas]
    return {"eta": _plain(etas), "rho": _plain(rhos)} | {name: _plain(values) for name, values in grid.items()}


def landscape(csv: Path) -> list[dict]:
    """The loss around each network of Figures 2a and 2b, on a grid along two eigenvectors."""
    if not csv.exists():
        return []
    surfaces = []
    for (key, name), part in pandas.read_csv(csv).groupby(["key", "panel"], sort=False):
        grid = part.pivot_table("loss", "v", "u")
        surfaces.append({"key": key, "name": name, "u": _plain(grid.columns), "v": _plain(grid.index)})
        surfaces[-1]["loss"] = _plain(grid.to_numpy())
    return surfaces


def _plain(values) -> list:
    return np.vectorize(lambda v: float(f"{v:.5g}"))(np.asarray(values, dtype=float)).tolist()
