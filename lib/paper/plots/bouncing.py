"""SAM across ravines and along valleys: paths over the level lines of what they descend (notebook 06)."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from lib.paper.plots.lines import OPTIMIZERS
from lib.paper.plots.style import SCALE, STYLE


def paths(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """Paths of SAM in two dimensions in units of the limit, two panels each: from afar, and where they end.

    Columns: problem (a caption), start, step, w1, w2.
    """
    problems = list(dict.fromkeys(tidy["problem"]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(problems), figsize=(3.9 * len(problems), 6.6), squeeze=False)
        for column, problem in enumerate(problems):
            for colour, (_, path) in zip(SCALE, tidy[tidy["problem"] == problem].groupby("start"), strict=False):
                for axis, part in ((axes[0][column], path), (axes[1][column], path.iloc[5:])):
                    axis.plot(part["w1"], part["w2"], color=colour, lw=0.6, marker=".", ms=3, alpha=0.8)
                axes[0][column].plot(*path.iloc[0][["w1", "w2"]], "s", color=colour, ms=5)
            axes[0][column].set(title=problem)
            axes[1][column].plot([-1, 1], [0, 0], "*", color="black", ms=10, label="the two limits", zorder=3)
            axes[1][column].set(xlabel="w₁ / limit", xlim=(-2.5, 2.5), ylim=(-4, 4))
        axes[1][0].legend(fontsize=8)
        axes[0][0].set_ylabel("w₂ / limit, from the start")
        axes[1][0].set_ylabel("w₂ / limit, from the sixth step")
        figure.suptitle(title)
    return figure


def potential(
    tidy: pandas.DataFrame, levels: pandas.DataFrame, points: Sequence[tuple[str, str, float, float]], *, title: str
) -> Figure:
    """Level lines of J (columns u1, u2, J of a complete grid), its stationary points (kind, marker, u1, u2), and paths
    u_t = (−1)^t w_t (columns start, step, u1, u2, J); beside them J along each path above its least value."""
    grid = levels.pivot_table(index="u2", columns="u1", values="J")
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1.3, 1))
        heights = np.unique(np.quantile(grid, np.linspace(0, 1, 16)))
        left.contour(grid.columns, grid.index, grid, levels=heights, cmap="Greys_r", linewidths=0.8)
        for colour, (_, path) in zip(SCALE, tidy.groupby("start"), strict=False):
            left.plot(path["u1"], path["u2"], color=colour, marker=".", ms=3, lw=1)
            right.plot(path["step"], path["J"] - levels["least"].iloc[0], color=colour)
        for kind in dict.fromkeys(kind for kind, *_ in points):
            of_kind = [point for point in points if point[0] == kind]
            at = [[point[2] for point in of_kind], [point[3] for point in of_kind]]
            left.plot(*at, of_kind[0][1], color="black", ms=9, label=kind, ls="none")
        left.legend(fontsize=8, frameon=True)
        left.set(xlabel="u₁ / limit", ylabel="u₂ / limit", title="level lines of J", xlim=(-2, 2), ylim=(-2, 2))
        right.set(yscale="log", xlabel="step t", ylabel="(J(u_t) − min J) / |min J|", title="J along the paths")
        figure.suptitle(title)
    return figure


def valley(tidy: pandas.DataFrame, loss, *, title: str) -> Figure:
    """GD and SAM over the level lines of `loss` (w1, w2 to its values), and the curvature across the valley by step.

    Columns: optimizer, step, w1, w2, curvature.
    """
    w1, w2 = np.meshgrid(np.linspace(-1.7, 1.7, 121), np.linspace(tidy["w2"].min() - 1, tidy["w2"].max() + 1, 121))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
        left.contour(w2, w1, loss(w1, w2), levels=np.geomspace(1e-3, 4, 12), cmap="Greys_r", linewidths=0.8)
        for optimizer, path in tidy.groupby("optimizer"):
            left.plot(path["w2"], path["w1"], color=OPTIMIZERS[optimizer], marker=".", ms=2.5, lw=0.5, label=optimizer)
            left.plot(path["w2"].iloc[-1], path["w1"].iloc[-1], "*", color=OPTIMIZERS[optimizer], ms=12, zorder=3)
            right.plot(path["step"], path["curvature"], color=OPTIMIZERS[optimizer], label=optimizer)
        left.legend(fontsize=8)
        left.set(
            xlabel="w₂, along the valley (steep on the right)", ylabel="w₁, across it", title="stars: where they end"
        )
        right.set(xlabel="step", ylabel="λ(w₂)", title="curvature across the valley", ylim=(0, None))
        figure.suptitle(title)
    return figure
