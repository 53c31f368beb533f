"""Section 4: what is stable, what minima look like, and what their Hessians are like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from lib.plots.style import COLOURS, SCALE, STYLE


def stability_map(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The growth of the second moment over a grid of (η, ρ), with the edges of what is stable, what Theorem 9 promises,
    and what the conditions (7) allow.

    Columns: eta, rho, growth, theorem9 (λ_max), conditions (the largest share of a bound of (7)). The grid is complete.
    """
    edges = {
        "growth": ("-", "exact edge of stability"),
        "theorem9": ("--", "edge of what Theorem 9 promises"),
        "conditions": (":", "edge of the conditions (7)"),
    }
    tables = {name: tidy.pivot_table(index="rho", columns="eta", values=name) for name in edges}
    eta, rho = tables["growth"].columns, tables["growth"].index
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(7.2, 5))
        decades = np.log10(tables["growth"]).clip(-0.3, 0.3)
        shown = axis.pcolormesh(eta, rho, decades, cmap="RdBu_r", vmin=-0.3, vmax=0.3, shading="nearest", alpha=0.8)
        figure.colorbar(shown, label="log₁₀ of the growth of E‖x‖² a step (cut at ±0.3)")
        for name, (style, label) in edges.items():
            axis.contour(eta, rho, tables[name], levels=[1 + 1e-9], colors="black", linestyles=style)
            axis.plot([], [], color="black", ls=style, label=label)
        axis.plot(eta, eta / 2, color="#009E73", lw=1, label="η = 2ρ: above, s₂ is not bounded")
        axis.set(xscale="log", yscale="log", xlabel="step size η", ylabel="perturbation radius ρ", title=title)
        axis.set(xlim=(eta.min(), eta.max()), ylim=(rho.min(), rho.max()))
        for numbers in (axis.xaxis, axis.yaxis):
            numbers.set_major_formatter("{x:g}")
            numbers.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axis.legend(fontsize=8, loc="upper right", frameon=True)
    return figure


def second_moments(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """Simulated ‖x_t‖² (thin), their mean (thick), and the exact E‖x_t‖² (dashed), a panel a value of `panel`.

    Columns: panel, kind ("path", "mean", "exact"), path, step, square.
    """
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["panel"]))
        figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.6), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            shown = tidy[tidy["panel"] == panel]
            for _, path in shown[shown["kind"] == "path"].groupby("path"):
                axis.plot(path["step"], path["square"], color="grey", lw=0.5, alpha=0.5)
            axis.plot([], [], color="grey", lw=0.5, label="single paths")
            for kind, look in (("mean", dict(color=COLOURS["SAM"], lw=1.8)), ("exact", dict(color="black", ls="--"))):
                line = shown[shown["kind"] == kind]
                axis.plot(line["step"], line["square"], label=f"{kind} E‖x‖²", **look)
            axis.set(yscale="log", xlabel="step t", title=panel)
        axes[0][0].set_ylabel("‖x_t‖²")
        axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


def landscapes(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The loss along the two dominant eigenvectors at each minimum, on equal axes and with one colour scale.

    Columns: panel, u, v, loss. The grid of each panel is complete.
    """
    with plt.rc_context(STYLE | {"axes.grid": False}):
        panels = list(dict.fromkeys(tidy["panel"]))
        figure, axes = plt.subplots(
            1, max(len(panels), 1), figsize=(4.6 * max(len(panels), 1) + 0.8, 4.1), squeeze=False
        )
        levels = np.geomspace(max(tidy["loss"].min(), 1e-6), tidy["loss"].max(), 15) if panels else None
        for axis, panel in zip(axes[0], panels, strict=False):
            table = tidy[tidy["panel"] == panel].pivot_table(index="v", columns="u", values="loss")
            shown = axis.contourf(
                table.columns, table.index, table, levels=levels, norm=LogNorm(), cmap="viridis", extend="both"
            )
            axis.plot(0, 0, "+", color="white")
            axis.set(xlabel="along the first eigenvector", title=panel, aspect="equal")
        if panels:
            axes[0][0].set_ylabel("along the second eigenvector")
            figure.colorbar(shown, ax=axes[0], label="loss", format="%.2g")
        figure.suptitle(title)
    return figure


def against_rho(tidy: pandas.DataFrame, *, title: str, columns: int = 2) -> Figure:
    """Measured quantities against ρ, SGD at ρ = 0: every seed a dot, their mean a line, a bound dashed in black.

    Columns: quantity (a panel each, in order of appearance), series (a line each), rho, seed, value, bound (NaN for
    none). The values of ρ stand at equal distances.
    """
    with plt.rc_context(STYLE):
        quantities, rhos = list(dict.fromkeys(tidy["quantity"])), sorted(tidy["rho"].unique())
        rows = max(-(-len(quantities) // columns), 1)
        figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False)
        for axis, quantity in zip(axes.flat, quantities, strict=False):
            shown = tidy[tidy["quantity"] == quantity].assign(at=lambda t: t["rho"].map(rhos.index))
            for colour, (name, line) in zip(SCALE, shown.groupby("series", sort=False), strict=False):
                sgd = line["rho"] == 0
                axis.plot(line["at"][~sgd], line["value"][~sgd], "o", ms=4, color=colour, alpha=0.6)
                axis.plot(line["at"][sgd], line["value"][sgd], "s", ms=4, color=colour, alpha=0.6)
                mean = line.groupby("at")["value"].mean()
                axis.plot(mean.index, mean, color=colour, lw=1.6, label=name)
            bound = shown.dropna(subset="bound").drop_duplicates("at").sort_values("at")
            if len(bound):
                axis.plot(bound["at"], bound["bound"], "k--", lw=1.2, label="bound of (7)")
            axis.set_xticks(range(len(rhos)), ["SGD" if rho == 0 else f"{rho:g}" for rho in rhos])
            axis.set(yscale="log", xlabel="ρ", ylabel=quantity)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
            axis.legend(fontsize=8)
        for axis in axes.flat[len(quantities) :]:
            axis.set_axis_off()
        figure.suptitle(title)
    return figure


def spectra(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The smoothed density of Hessian eigenvalues on a log axis, a line a value of `label`.

    Columns: label, eigenvalue, density.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 4))
        for colour, (label, line) in zip(SCALE, tidy.groupby("label", sort=False), strict=False):
            axis.plot(line["eigenvalue"], line["density"], color=colour, lw=1.4, label=label)
        axis.set(yscale="log", xlabel="eigenvalue of H", ylabel="density", title=title)
        if len(tidy):
            axis.set_ylim(1e-8 * tidy["density"].max(), 10 * tidy["density"].max())
            axis.legend(fontsize=8)
    return figure
