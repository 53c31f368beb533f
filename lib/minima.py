"""What may be said of trained weights as minima (Section 4): which networks came near zero loss, which of their numbers
converged, how SAM's compare with SGD's, and how near they are to the conditions (7).

The claims of Section 4 are about minima of zero loss. So a comparison of two networks is judged where both came near
it, and only told where they did not: their sharpness would be compared at unequal loss. The paper does not say what is
near, and the CUTS are ours: there is a verdict only where it is the same by both.

A `table` has the rows of `measure`, of the kind flatness.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas
import torch

from lib import theory
from lib.claims import mean_and_spread
from lib.lanczos import Density
from lib.runs import UNRECORDED

CUTS = (0.01, 0.03)  # of the mean squared residual ‖f − y‖², of which always predicting 0 has 1
PAPER_EPOCHS = 100  # Appendix A
QUANTITIES = ("a", "s2", "s3", "s4")
READINGS = {False: "single samples at ρ", True: "batches at ρ/‖g_B‖"}  # of the conditions (7), by whether in batches


def near_zero(table: pandas.DataFrame, cut: float) -> pandas.Series:
    """For each network whether its mean squared residual at the samples is below `cut`."""
    return table["sample_loss"] < cut


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
    """Of every network trained by SAM: rho, seed, the `ratio` of its value over that of SGD with the same seed (NaN
    where one of them had not converged), and the larger `loss` of the two."""
    return _pairs(table, column, lambda rhos: [(0.0, rho) for rho in rhos if rho > 0])


def over_previous(table: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """The same, of SAM at each ρ over SAM at the next smaller one there is of the seed."""
    return _pairs(table, column, lambda rhos: list(itertools.pairwise(rhos[1:])))


def _pairs(table, column, of):
    table = settled(found(table))
    rows = []
    for seed, same in table.groupby("seed"):
        same = same.set_index("rho")
        for first, second in of(sorted({0.0, *same.index})):
            if {first, second} <= set(same.index):
                ratio = same.loc[second, column] / same.loc[first, column]
                rows.append((second, seed, ratio, same.loc[[first, second], "sample_loss"].max()))
    return pandas.DataFrame(rows, columns=["rho", "seed", "ratio", "loss"])


def smaller(pairs: pandas.DataFrame, cut: float, *, every: bool = False) -> bool | None:
    """Whether all ratios of networks whose losses are below `cut` are below 1; None where there is none, and with
    `every` also where some pair cannot be judged."""
    judged = pairs[(pairs["loss"] < cut) & pairs["ratio"].notna()]
    if judged.empty or (every and len(judged) < len(pairs)):
        return None
    return bool((judged["ratio"] < 1).all())


def comparisons(table: pandas.DataFrame) -> Iterator[tuple[str, str, bool | None]]:
    """For each claim that something is smaller: its name, what is measured, and whether it holds of all its pairs."""
    over = {name: over_sgd(table, name) for name in QUANTITIES}
    pairs = {
        "2ab-flatter": {"a over that of SGD": over["a"]},
        "2c-uniform": {"s₂ over that of SGD": over["s2"]},
        "2c-falls": {"s₂ over that at the next smaller ρ": over_previous(table, "s2")},
        "2-higher": {"s₃ over that of SGD": over["s3"], "s₄ over that of SGD": over["s4"]},
    }
    for name, each in pairs.items():
        if any(map(len, each.values())):
            text = "; ".join(f"{what}, {told(some)}" for what, some in each.items())
            yield name, *_agreed(f"{text}; {which(table)}", lambda cut, n=name, e=each: _all(e, cut, n == "2c-falls"))


def _all(pairs, cut, every):
    """Whether all are smaller: False for one that is not, else None for one that is not judged."""
    each = [smaller(some, cut, every=every) for some in pairs.values()]
    return False if False in each else None if None in each else True


def told(pairs: pandas.DataFrame) -> str:
    """The ratios, a ρ each: of networks below the first of CUTS, of others, and how many did not converge."""
    parts, lost = [], pairs["ratio"].isna().sum()
    for low, high in itertools.pairwise((0, *CUTS, np.inf)):
        name = f"larger residual {low:g} to {high:g}" if high < np.inf else f"above {low:g} and so not judged"
        some = pairs[(pairs["loss"] >= low) & (pairs["loss"] < high)].dropna(subset="ratio").groupby("rho")["ratio"]
        if len(some):
            parts.append(f"{name}: " + ", ".join(f"ρ = {rho:g}: {mean_and_spread(ratio)}" for rho, ratio in some))
    parts += [f"{lost} not converged"] if lost else []
    return "; ".join(parts) or "no two networks of one seed"


def which(table: pandas.DataFrame) -> str:
    """Of which networks a text speaks: how many of all, their ρ and seeds; how many others are missing or diverged."""
    done, status = found(table), table["status"]
    rhos, seeds = (", ".join(f"{value:g}" for value in sorted(done[name].unique())) for name in ("rho", "seed"))
    lost = [f"{(status == name).sum()} {name}" for name in (*UNRECORDED, "diverged") if (status == name).any()]
    return ", ".join([f"from {len(done)} of {len(table)} networks (ρ = {rhos}; seeds {seeds})", *lost])


def _agreed(text, outcome):
    """The text and the outcome, by a cut, that is the same by all CUTS; where it is not, None and what each gives."""
    by = {cut: outcome(cut) for cut in CUTS}
    if len(set(by.values())) == 1:
        return text, by[CUTS[0]]
    names = {True: "supported", False: "not supported", None: "not tested"}
    each = ", ".join(f"with {cut:g} {names[holds]}" for cut, holds in by.items())
    return f"{text}; the cut decides: {each}", None


def zero_loss(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "all networks are trained to near zero loss", and whether it holds: not where one diverged or
    did not get there; None while others are missing or, not there yet, had fewer epochs than the paper's."""
    done, status = found(table), table["status"]
    loss, short = done["sample_loss"], done["epochs"] < PAPER_EPOCHS

    def outcome(cut):
        near = near_zero(done, cut)
        if (status == "diverged").any() or (~near & ~short).any():
            return False
        return None if status.isin(UNRECORDED).any() or not near.all() else True

    counts = " and ".join(f"below {cut:g} at {near_zero(done, cut).sum()}" for cut in CUTS)
    text = f"mean squared residual {loss.min():.2g} to {loss.max():.2g}, always predicting 0 having 1: {counts} of "
    text += f"{len(done)} networks"
    text += f"; {short.sum()} of them had fewer epochs than the paper's {PAPER_EPOCHS}" if short.any() else ""
    return _agreed(f"{text}; {which(table)}", outcome)


def agreement(table: pandas.DataFrame) -> tuple[str, bool | None]:
    """What is measured of "SAM's minima agree with (7)", and whether it holds: of a alone, whose bound is necessary, as
    the networks were trained, at SAM's near zero loss; None where there is none of which a converged. The rest is told.
    """
    done = found(table)
    by = {name: shares(done, batches=batches) for batches, name in READINGS.items()}
    a, sam = by[READINGS[True]]["a"], done["rho"] > 0

    def outcome(cut):
        judged = a[sam & near_zero(done, cut)].dropna()
        return bool((judged <= 1).all()) if len(judged) else None

    def span(values):
        lost, text = values.isna().sum(), f"{values.min():.2g} to {values.max():.2g} times the bound"
        return text if not lost else f"{text}, not converged at {lost}" if lost < len(values) else "not converged"

    parts = []
    for cut in CUTS:
        near = a[sam & near_zero(done, cut)]
        said = f"{(near <= 1).sum()} of {len(near)} within the bound, {span(near)}" if len(near) else "none"
        parts.append(f"SAM's networks with a residual below {cut:g}: {said}")
    text = f"a for {READINGS[True]}: {'; '.join(parts)}; without a verdict, of all {len(done)} networks, SGD's too: "
    reached = settled(done)["stability"]
    text += f"Theorem 9's λ_max {reached.min():.3g} to {reached.max():.3g} for single samples, "
    text += f"a for {READINGS[False]} {span(by[READINGS[False]]['a'])}"
    text += "".join(
        f", the largest of s₂, s₃, s₄ for {n} {span(f[[*QUANTITIES[1:]]].max(axis=1))}" for n, f in by.items()
    )
    return _agreed(f"{text}; {which(table)}", outcome)


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
    return pandas.DataFrame(found, index=table.index, columns=QUANTITIES, dtype=float)


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
