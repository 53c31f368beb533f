"""What was measured at minima (Section 4), as tables: what converged, the bounds of (7), and what the figures plot.

A `table` has the rows of `measure`, of the kind flatness or landscape.
"""

import numpy as np
import pandas
import torch

from lib import theory
from lib.hessian.lanczos import Density

QUANTITIES = ("a", "s2", "s3", "s4")
READINGS = {False: "single samples at ρ", True: "batches at ρ/‖g_B‖"}  # of the conditions (7), by whether in batches


def measured(table: pandas.DataFrame) -> pandas.DataFrame:
    """The networks with a record of what was measured; every column is there, even if no network is."""
    wanted = ["sample_loss", "gradient", "batch_gradient", "stability", "density_nodes", "density_weights"]
    wanted += [*QUANTITIES, *(f"batch_{name}" for name in QUANTITIES[1:]), "batch_s2_drawn", "density_probes"]
    table = table[table["status"] == "done"]
    return table.reindex(columns=list(dict.fromkeys([*table, *wanted])))


def unconverged(table: pandas.DataFrame) -> pandas.Series:
    """For each row the names of the eigenvalues that a record says had not converged; nothing is known of the others.

    Column x_converged, or converged for the rows of a landscape, speaks for x: a flag or, for several, a list of them.
    """
    columns = [name for name in table if name.endswith("converged")]

    def names(row):
        flags = {name.removesuffix("converged").removesuffix("_"): row[name] for name in columns}
        return [name or "eigenvalues" for name, flag in flags.items() if np.any(np.equal(flag, False))]

    return pandas.Series([names(row) for _, row in table[columns].iterrows()], index=table.index, dtype=object)


def settled(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table without the eigenvalues that had not converged (NaN); batch_s2 is s2 by another factor."""
    table = table.copy()
    for index, names in unconverged(table).items():
        names = [*names, "batch_s2"] if "s2" in names else names
        table.loc[index, [name for name in names if name in table]] = np.nan
    return table


def shares(table: pandas.DataFrame, *, batches: bool) -> pandas.DataFrame:
    """a, s₂, s₃ and s₄ of every network over their bounds in (7); 0 where there is no bound.

    As the theory has it, for single samples at the run's ρ; or, with `batches`, as training is done: the moments of
    batches at the radius ρ/‖g_B‖ that normalized SAM amounts to, with ‖g_B‖ the mean norm of a batch's gradient.
    """
    limits, prefix = bounds(table, batches=batches), "batch_" if batches else ""
    values = {name: settled(table)[name if name == "a" else prefix + name] for name in QUANTITIES}
    return pandas.DataFrame(values, index=table.index) / limits


def bounds(table: pandas.DataFrame, *, batches: bool) -> pandas.DataFrame:
    """The bounds of (7) on a, s2, s3 and s4 for every network, in either reading of `shares`; inf: none."""
    rho = table["rho"] / table["batch_gradient"] if batches else table["rho"]
    limits = [theory.stability_bounds(eta, radius) for eta, radius in zip(table["lr"], rho, strict=True)]
    return pandas.DataFrame(limits, index=table.index, columns=QUANTITIES, dtype=float)


def against_rho(table: pandas.DataFrame) -> pandas.DataFrame:
    """Every quantity of every network in both READINGS, with its bound, as `plots.against_rho` takes it. The mean of
    batches' Hessians is H as well, so of a only the bound differs."""
    settings, names, parts = table[["key", "run_key", "rho", "seed"]], unconverged(table), []
    for quantity in QUANTITIES:
        for batches, series in READINGS.items():
            column = quantity if quantity == "a" or not batches else f"batch_{quantity}"
            parts.append(
                settings.assign(
                    quantity="sharpness a" if quantity == "a" else f"s{chr(8320 + int(quantity[1]))}",
                    series=series,
                    value=np.nan if quantity == "a" and batches else table[column],
                    converged=[not {column, column.replace("batch_s2", "s2")} & set(flags) for flags in names],
                    bound=bounds(table, batches=batches)[quantity].replace(np.inf, np.nan),
                    loss=table["sample_loss"],
                )
            )
    return pandas.concat(parts)


def label(row) -> str:
    """SGD, or SAM with its ρ."""
    return f"SAM, ρ = {row.rho:g}" if row.rho else "SGD"


def landscapes(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of a table of landscapes as `plots.landscapes` takes them: key, panel (with a and the loss in the
    middle), u, v and loss."""
    parts = [pandas.DataFrame(columns=["key", "panel", "u", "v", "loss"])]
    for row in table[table["status"] == "done"].itertuples():
        u, v = np.meshgrid(row.axis, row.axis)
        loss = np.array(row.surface)
        panel = f"{label(row)}: a = {row.eigenvalues[0]:.3g}, loss {loss[len(loss) // 2, len(loss) // 2]:.2g}"
        columns = {"u": u.ravel(), "v": v.ravel(), "loss": loss.ravel()}
        parts.append(pandas.DataFrame({"key": row.key, "panel": panel, **columns}))
    return pandas.concat(parts[1:] or parts)


def spectra(table: pandas.DataFrame, width: float) -> pandas.DataFrame:
    """Every network's spectral density as `plots.spectra` takes it: key, label, kind, eigenvalue and density. Point
    masses ("mass", at the height of their peaks), and what they give as Gaussians of standard deviation `width`
    ("smoothed")."""
    axis = torch.linspace(-6 * width, 60 * width, 400, dtype=torch.float64)
    parts = [pandas.DataFrame(columns=["key", "label", "kind", "eigenvalue", "density"])]
    for row in table.itertuples():
        nodes, weights = (torch.tensor(v, dtype=torch.float64) for v in (row.density_nodes, row.density_weights))
        peaks = weights / (width * (2 * np.pi) ** 0.5)
        for kind, at, density in (
            ("smoothed", axis, Density(nodes, weights).smooth(axis, width)),
            ("mass", nodes, peaks),
        ):
            columns = {"key": row.key, "label": label(row), "kind": kind, "eigenvalue": at, "density": density}
            parts.append(pandas.DataFrame(columns))
    return pandas.concat(parts[1:] or parts)
