"""What may be said of trained weights as minima (Section 4): which networks came near zero loss, which of their numbers
converged, how SAM's compare with SGD's, and how near they are to the conditions (7).

The claims of Section 4 are about minima of zero loss. So a comparison of two networks is judged where both came near
it, and only told where they did not: their sharpness would be compared at unequal loss.

A `table` has the rows of `measure`, of the kind flatness.
"""

import itertools

import numpy as np
import pandas
import torch

from lib import theory
from lib.claims import mean_and_spread
from lib.lanczos import Density

NEAR_ZERO = 0.01  # mean squared residual ‖f − y‖², of which always predicting 0 has 1; the paper names no number
QUANTITIES = ("a", "s2", "s3", "s4")
READINGS = {False: "single samples at ρ", True: "batches at ρ/‖g_B‖"}  # of the conditions (7), by whether in batches


def near_zero(table: pandas.DataFrame) -> pandas.Series:
    """For each network whether its mean squared residual at the samples is below NEAR_ZERO."""
    return table["sample_loss"] < NEAR_ZERO


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


def over_sgd(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """Of every network trained by SAM: rho, seed, the `ratio` of its value over that of SGD with the same seed, and
    whether both came near zero loss (`near_zero`)."""
    return _pairs(table, column, lambda rhos: [(0.0, rho) for rho in rhos if rho > 0])


def over_previous(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """The same, of SAM at each ρ over SAM at the next smaller one there is."""
    return _pairs(table, column, lambda rhos: list(itertools.pairwise(rhos[1:])))


def _pairs(table, column, of):
    table, rhos = settled(table).assign(near=near_zero(table)), sorted({0.0, *table["rho"]})
    found = []
    for seed, same in table.groupby("seed"):
        same = same.set_index("rho")
        for first, second in of(rhos):
            if {first, second} <= set(same.index):
                ratio = same.loc[second, column] / same.loc[first, column]
                found.append((second, seed, ratio, bool(same.loc[[first, second], "near"].all())))
    return pandas.DataFrame(found, columns=["rho", "seed", "ratio", "near_zero"]).dropna(subset="ratio")


def smaller(pairs: pandas.DataFrame) -> bool | None:
    """Whether all ratios of networks that came near zero loss are below 1; None where there is no such pair."""
    judged = pairs[pairs["near_zero"].astype(bool)]
    return bool((judged["ratio"] < 1).all()) if len(judged) else None


def told(pairs: pandas.DataFrame) -> str:
    """The ratios, a ρ each: those of networks that came near zero loss first, then those that are not judged."""
    parts = []
    for near, which in ((True, "both near zero loss"), (False, "not both near zero loss, so not judged")):
        some = pairs[pairs["near_zero"].astype(bool) == near].groupby("rho")["ratio"]
        if len(some):
            parts.append(f"{which}: " + ", ".join(f"ρ = {rho:g}: {mean_and_spread(ratio)}" for rho, ratio in some))
    return "; ".join(parts) or "no network of SAM beside one of SGD with the same seed"


PAPER_EPOCHS = 100  # Appendix A


def zero_loss(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "all networks are trained to near zero loss", and whether it holds; None while some that did
    not get there had fewer epochs than the paper's."""
    near, loss = near_zero(table), table["sample_loss"]
    short = ~near & (table["epochs"] < PAPER_EPOCHS)
    text = (
        f"mean squared residual {loss.min():.2g} to {loss.max():.2g}, always predicting 0 having 1: below {NEAR_ZERO} "
        f"at {near.sum()} of {len(table)} networks"
    )
    text += f"; {short.sum()} of the others had fewer epochs than the paper's {PAPER_EPOCHS}" if short.any() else ""
    return text, None if short.any() else bool(near.all())


def agreement(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "SAM's minima agree with (7)", and whether it holds for single samples at SAM's networks near
    zero loss; None where there is none, or none of which all eigenvalues converged."""
    singles, batches = (shares(table, batches=reading) for reading in (False, True))
    judged = near_zero(table) & (table["rho"] > 0) & singles.notna().all(axis=1)
    if judged.any():
        counts = [(found[judged] <= 1).all(axis=1).sum() for found in (singles, batches)]
        text = f"of SAM's {judged.sum()} networks near zero loss all hold at {counts[0]} for {READINGS[False]}, at "
        text += f"{counts[1]} for {READINGS[True]}"
    else:
        text = "no network of SAM came near zero loss"
    moments, a = singles[["s2", "s3", "s4"]].max(axis=1), batches["a"]
    text += f"; of all {len(table)} networks, SGD's too, the largest of s₂, s₃, s₄ is {moments.min():.2g} to "
    text += f"{moments.max():.2g} times its bound for {READINGS[False]}, and a {a.min():.2f} to {a.max():.2f} times "
    text += f"its bound for {READINGS[True]}"
    return text, bool((singles[judged] <= 1).all(axis=None)) if judged.any() else None


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
    found = [theory.stability_bounds(eta, radius) for eta, radius in zip(table["lr"], rho, strict=True)]
    return pandas.DataFrame(found, index=table.index, columns=QUANTITIES)


def found(table: pandas.DataFrame) -> pandas.DataFrame:
    """The networks with a record of what was measured; every column is there, even if no network is."""
    wanted = ["sample_loss", "gradient", "batch_gradient", "stability", "density_nodes", "density_weights"]
    wanted += [*QUANTITIES, *(f"batch_{name}" for name in QUANTITIES[1:]), "batch_s2_drawn", "density_probes"]
    table = table[table["status"] == "done"]
    return table.reindex(columns=list(dict.fromkeys([*table, *wanted])))


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


def named(row) -> str:
    """SGD, or SAM with its ρ."""
    return f"SAM, ρ = {row.rho:g}" if row.rho else "SGD"


def landscapes(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of a table of landscapes as `plots.landscapes` takes them: key, panel (with a and the loss in the
    middle), u, v and loss."""
    parts = [pandas.DataFrame(columns=["key", "panel", "u", "v", "loss"])]
    for row in table[table["status"] == "done"].itertuples():
        u, v = np.meshgrid(row.axis, row.axis)
        loss = np.array(row.surface)
        panel = f"{named(row)}: a = {row.eigenvalues[0]:.3g}, loss {loss[len(loss) // 2, len(loss) // 2]:.2g}"
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
            columns = {"key": row.key, "label": named(row), "kind": kind, "eigenvalue": at, "density": density}
            parts.append(pandas.DataFrame(columns))
    return pandas.concat(parts[1:] or parts)
