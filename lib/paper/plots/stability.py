"""Section 4: what is stable, what minima look like, and what their Hessians are like."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.interpolate import RectBivariateSpline

from lib.paper.plots.style import COLOURS, SCALE, STYLE
from lib.runs import UNRECORDED

GROWTH = 0.12  # log₁₀ of the growth at which the colours of `stability_map` end


def stability_map(tidy: pandas.DataFrame, *, sgd: float, title: str) -> Figure:
    """The growth of the second moment over (η, ρ): exact, with the edges of what is stable, what Theorem 9 promises and
    what the conditions (7) allow; and beside it simulated on a coarser grid, with the exact edge.

    Columns: source ("exact" or "simulated"), eta, rho, growth, and for "exact" theorem9 (λ_max) and conditions (the
    largest share of a bound of (7)). Both grids are complete. sgd: the largest η of SGD's own conditions, a vertical.
    """
    edges = {
        "growth": ("-", "exact edge of stability"),
        "theorem9": ("--", "edge of what Theorem 9 promises"),
        "conditions": (":", "edge of the conditions (7)"),
    }
    exact, simulated = (tidy[tidy["source"] == source] for source in ("exact", "simulated"))
    tables = {name: exact.pivot_table(index="rho", columns="eta", values=name) for name in edges}
    coarse = simulated.pivot_table(index="rho", columns="eta", values="growth")
    eta, rho = tables["growth"].columns, tables["growth"].index
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, 2, figsize=(10.6, 4.8), sharey=True)
        for axis, table, name in zip(axes, (tables["growth"], coarse), ("exact", "simulated paths"), strict=True):
            decades = np.log10(table).clip(-GROWTH, GROWTH)
            look = dict(cmap="RdBu_r", vmin=-GROWTH, vmax=GROWTH, shading="nearest", rasterized=True)
            shown = axis.pcolormesh(table.columns, table.index, decades, **look)
            axis.set(xscale="log", yscale="log", xlabel="step size η", title=name)
            axis.set(xlim=(eta.min(), eta.max()), ylim=(rho.min(), rho.max()))
            axis.contour(eta, rho, tables["growth"], levels=[1 + 1e-9], colors="black", linestyles="-")
            axis.axvline(sgd, color="#CC79A7", lw=1.6)
            for numbers in (axis.xaxis, axis.yaxis):
                _plain_ticks(numbers)
        axes[0].set_ylabel("perturbation radius ρ")
        figure.colorbar(shown, ax=axes, extend="both", label="log₁₀ of the growth of E‖x‖² a step")
        for name, (style, label) in edges.items():
            if name != "growth":
                axes[0].contour(eta, rho, tables[name], levels=[1 + 1e-9], colors="black", linestyles=style)
            axes[0].plot([], [], color="black", ls=style, label=label)
        axes[0].plot([], [], color="#CC79A7", lw=1.6, label=f"SGD's conditions: η = min(2/a, 1/s₂) = {sgd:.2f}")
        axes[0].plot(eta, eta / 2, color="#009E73", lw=1, label="η = 2ρ: above, s₂ is not bounded")
        axes[0].legend(fontsize=7.5, loc="upper right", frameon=True)
        figure.suptitle(title)
    return figure


def _plain_ticks(numbers) -> None:
    """1, 2, 5, 10, … as they are on a log axis, and no label between them."""
    numbers.set_major_locator(LogLocator(subs=(1, 2, 5)))
    numbers.set_major_formatter("{x:g}")
    numbers.set_minor_formatter(NullFormatter())


def second_moments(tidy: pandas.DataFrame, *, paths: int, title: str) -> Figure:
    """Simulated ‖x_t‖² (thin), the mean over all `paths` (thick), and the exact E‖x_t‖² (dashed), a panel a value of
    `panel`.

    Columns: panel, kind ("path", "mean", "exact"), path, step, square.
    """
    means = {
        "mean": dict(color=COLOURS["SAM"], lw=1.8, label=f"mean of {paths} paths"),
        "exact": dict(color="black", ls="--", label="exact E‖x‖²"),
    }
    with plt.rc_context(STYLE):
        panels = list(dict.fromkeys(tidy["panel"]))
        figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.6), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            shown = tidy[tidy["panel"] == panel]
            for _, path in shown[shown["kind"] == "path"].groupby("path"):
                axis.plot(path["step"], path["square"], color="grey", lw=0.5, alpha=0.5)
            axis.plot([], [], color="grey", lw=0.5, label="single paths")
            for kind, look in means.items():
                line = shown[shown["kind"] == kind]
                axis.plot(line["step"], line["square"], **look)
            axis.set(yscale="log", xlabel="step t", title=panel)
        axes[0][0].set_ylabel("‖x_t‖²")
        axes[0][0].legend(fontsize=8)
        figure.suptitle(title)
    return figure


FINE = 201  # points a side between which the contours of `landscapes` are straight


def landscapes(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The loss along the two dominant eigenvectors around each network's weights (+), on equal axes, with the same
    contour lines and colours in every panel.

    Columns: panel, u, v, loss. The grid of each panel is complete; between its points the loss is a bicubic spline
    through them, nowhere below the lowest of them.
    """
    with plt.rc_context(STYLE | {"axes.grid": False}):
        panels = list(dict.fromkeys(tidy["panel"]))
        figure, axes = plt.subplots(
            1, max(len(panels), 1), figsize=(4.6 * max(len(panels), 1) + 0.8, 4.1), squeeze=False
        )
        levels = np.geomspace(max(tidy["loss"].min(), 1e-6), tidy["loss"].max(), 15) if panels else None
        for axis, panel in zip(axes[0], panels, strict=False):
            table = tidy[tidy["panel"] == panel].pivot_table(index="v", columns="u", values="loss")
            spline = RectBivariateSpline(table.index, table.columns, table)
            v, u = (np.linspace(at.min(), at.max(), FINE) for at in (table.index, table.columns))
            loss = spline(v, u).clip(min=table.to_numpy().min())
            shown = axis.contourf(u, v, loss, levels=levels, norm=LogNorm(), cmap="viridis", extend="both")
            axis.contour(u, v, loss, levels=levels, colors="white", linewidths=0.5)
            axis.plot(0, 0, "+", color="white")
            axis.set(xlabel="along the first eigenvector", title=panel, aspect="equal")
        if panels:
            axes[0][0].set_ylabel("along the second eigenvector")
            figure.colorbar(shown, ax=axes[0], label="loss", format="%.2g")
        figure.suptitle(title)
    return figure


def against_rho(tidy: pandas.DataFrame, *, title: str, columns: int = 2) -> Figure:
    """Measured quantities against ρ, SGD at ρ = 0: every seed a dot (SGD a square, hollow where the eigenvalue had not
    converged), the mean of the converged a line, and the bound of each series in its colour: a bar at each ρ that has
    one (the mean over seeds), dashed between them.

    Columns: quantity (a panel each, in order of appearance), series (a line each), rho, seed, value (NaN for none),
    converged, bound (NaN for none), loss, of which the mean stands below each ρ. The values of ρ stand at equal
    distances.
    """
    with plt.rc_context(STYLE):
        quantities, rhos = list(dict.fromkeys(tidy["quantity"])), sorted(tidy["rho"].unique())
        loss, rows = tidy.groupby("rho")["loss"].mean(), max(-(-len(quantities) // columns), 1)
        ticks = [f"{f'{rho:g}' if rho else 'SGD'}\n{loss[rho]:.2g}" for rho in rhos]
        figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False)
        for axis, quantity in zip(axes.flat, quantities, strict=False):
            shown = tidy[tidy["quantity"] == quantity].assign(at=lambda t: t["rho"].map(rhos.index))
            for i, (colour, (name, line)) in enumerate(zip(SCALE, shown.groupby("series", sort=False), strict=False)):
                result, bound = line.dropna(subset="value"), line.dropna(subset="bound").groupby("at")["bound"].mean()
                for (sgd, sure), some in result.groupby([result["rho"] == 0, result["converged"].astype(bool)]):
                    look = dict(mec=colour, mfc=colour if sure else "white", alpha=0.6, ms=4, ls="none")
                    axis.plot(some["at"], some["value"], marker="s" if sgd else "o", **look)
                mean = result[result["converged"].astype(bool)].groupby("at")["value"].mean()
                if len(mean):
                    axis.plot(mean.index, mean, color=colour, lw=1.6, label=name)
                if len(bound):
                    look = dict(color=colour, ls="--", lw=1.0, marker="_", ms=20 - 8 * i, mew=2)
                    axis.plot(bound.index, bound, label=f"bound of (7), {name}", **look)
            axis.set_xticks(range(len(rhos)), ticks)
            axis.set(yscale="log", xlabel="ρ, and below it the mean squared residual", ylabel=quantity)
            _plain_ticks(axis.yaxis)
            low, high = axis.get_ylim()
            axis.set_ylim(low, high * (high / low) ** 0.4)  # room for the legend
            axis.legend(fontsize=7, handlelength=4, loc="upper right")
        for axis in axes.flat[len(quantities) :]:
            axis.set_axis_off()
        figure.suptitle(title)
    return figure


def spectra(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """The density of Hessian eigenvalues on a log axis: smoothed, a line a value of `label`, and each point mass of the
    quadrature a dot where the peak of its Gaussian is, so that no mass hides under the tail of a larger one.

    Columns: label, kind ("smoothed" or "mass"), eigenvalue, density.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 4))
        for colour, (label, part) in zip(SCALE, tidy.groupby("label", sort=False), strict=False):
            line, masses = (part[part["kind"] == kind] for kind in ("smoothed", "mass"))
            axis.plot(line["eigenvalue"], line["density"], color=colour, lw=1.4, label=label)
            axis.plot(masses["eigenvalue"], masses["density"], "o", ms=3, color=colour)
        axis.set(yscale="log", xlabel="eigenvalue of H", ylabel="density", title=title)
        if len(tidy):
            axis.set_ylim(1e-9 * tidy["density"].max(), 10 * tidy["density"].max())
            axis.legend(fontsize=8)
    return figure


def lacking(figure: Figure, table: pandas.DataFrame, unconverged: pandas.Series) -> Figure:
    """Name under the figure, by ρ and seed, the networks that are missing from it or diverged, and the eigenvalues that
    had not converged; nothing where there are none.

    table: rows of `measure`, of one kind. unconverged: for each row the names of such eigenvalues.
    """
    notes = []
    for status in (*UNRECORDED, "diverged"):
        lost = table[table["status"] == status]
        if len(lost):
            seeds = lost.groupby("rho")["seed"].agg(lambda seeds: ", ".join(map(str, sorted(seeds))))
            names = {rho: f"SAM with ρ = {rho:g}" if rho else "SGD" for rho in seeds.index}
            cells = [(", ".join(names[rho] for rho in group.index), some) for some, group in seeds.groupby(seeds)]
            cells = "; ".join(f"{of}: seeds {some}" for of, some in cells)
            notes.append(f"{status}: {len(lost)} of {len(table)} networks ({cells})")
    rows = [(r, names) for r, names in zip(table.itertuples(), unconverged, strict=True) if names]
    if rows:
        of = [f"SAM with ρ = {r.rho:g}" if r.rho else "SGD" for r, _ in rows]
        cells = (f"{', '.join(n)} of {name}, seed {r.seed}" for name, (r, n) in zip(of, rows, strict=True))
        notes.append(f"not converged: {'; '.join(cells)}")
    if notes:
        lines = textwrap.wrap("; ".join(notes), round(13 * figure.get_figwidth()))
        figure.supxlabel("\n".join(lines), fontsize=8, color="#AA3377")
    return figure
