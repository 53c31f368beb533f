"""Companion on the implicit bias of SAM: Figures 6, 13, 14 and 15 over many data seeds, as tables of test losses."""

import numpy as np
import pandas

from lib.paper.experiments import implicit_bias as setting
from lib.theory.diagonal import ASCENT_FACTORS, Descent, SparseRegression, beta_of, descend, least_potential, loss
from lib.theory.diagonal.network import Samples

SPARSEST = "α → 0"
FACTORS = tuple(ASCENT_FACTORS.values())


def problems(seeds, **changes) -> SparseRegression:
    return SparseRegression.draw(seeds, **({"n": setting.N, "d": setting.D, "support": setting.SUPPORT} | changes))


def label(method: str, factor: float = 1.0) -> str:
    return {"gd": "GD", "n-sam": "n-SAM", "1-sam": f"1-SAM, c = {factor:g}"}[method]


def tidy(run: Descent, labels: list[str], seeds) -> pandas.DataFrame:
    """One row a recorded step, data seed and run: label, seed, step, train_loss, test_loss (inf once it diverged)."""
    index = pandas.MultiIndex.from_product((run.steps, seeds, labels), names=["step", "seed", "label"])
    columns = {"train_loss": run.train_loss.ravel(), "test_loss": run.test_loss.ravel()}
    return pandas.DataFrame(columns, index=index).fillna(np.inf).reset_index()


def same_radius(*, alpha: float, rho: float, factors=FACTORS, orders=(None,)) -> pandas.DataFrame:
    """Figure 6: GD, n-SAM and 1-SAM with each of some ascent factors at one ρ and the step size 1/d, on the reported
    seeds. Columns of `tidy` and batch: "full" for the order None, "one sample" for one that is a seed."""
    data, tables = problems(setting.REPORTED), []
    for order in orders:
        options = {"step_size": 1 / setting.D, "steps": setting.STEPS, "every": 100, "stochastic": order}
        parts = [
            (descend(data, alpha, method="n-sam", rho=[0.0, rho], **options), ["GD", "n-SAM"]),
            (
                descend(data, alpha, method="1-sam", rho=rho, ascent_factor=factors, **options),
                [label("1-sam", factor) for factor in factors],
            ),
        ]
        batch = "full" if order is None else "one sample"
        tables += [tidy(run, names, setting.REPORTED).assign(batch=batch) for run, names in parts]
    return pandas.concat(tables, ignore_index=True)


def stochastic() -> pandas.DataFrame:
    """Figure 13: `same_radius` with one sample a step beside the full batch, at α = 0.01 and ρ = 1/d."""
    return same_radius(alpha=setting.STOCHASTIC_ALPHA, rho=1 / setting.D, factors=(1.0,), orders=(None, 0))


def radii() -> pandas.DataFrame:
    """Figure 14: the test loss after the last step for every ρ, step size and data seed: step_size, label, factor, rho,
    seed, role ("tuning" or "reported"), train_loss, test_loss (inf where the run diverged).

    1-SAM sees only cρ, so one run serves each factor c, at ρ = cρ/c."""
    seeds = setting.TUNING + setting.REPORTED
    data, tables = problems(seeds), []
    for method, grid in {"n-sam": (0.0, *setting.RADII), "1-sam": setting.RADII}.items():
        gammas, rhos = (part.ravel() for part in np.meshgrid(list(setting.STEP_SIZES.values()), grid, indexing="ij"))
        run = descend(data, setting.ALPHA, method=method, step_size=gammas / setting.D, rho=rhos, steps=setting.STEPS)
        last = tidy(run, list(range(len(rhos))), seeds).query("step == step.max()")
        last = last.assign(step_size=gammas[last["label"]], rho=rhos[last["label"]])
        if method == "n-sam":
            tables.append(last.assign(label=np.where(last["rho"] > 0, "n-SAM", "GD"), factor=1.0))
        else:
            tables += [last.assign(label=label(method, c), factor=c, rho=last["rho"] / c) for c in FACTORS]
    table = pandas.concat(tables, ignore_index=True).drop(columns="step")
    table["role"] = np.where(table["seed"].isin(setting.TUNING), "tuning", "reported")
    return table


def tuned(table: pandas.DataFrame, by: str = "step_size") -> pandas.DataFrame:
    """The rows of the reported seeds at the ρ of the least mean test loss on the tuning seeds, for each label and value
    of `by`. The mean, so that a radius that diverges on one of them is out."""
    means = table[table["role"] == "tuning"].groupby([by, "label", "rho"], sort=False)["test_loss"].mean()
    chosen = pandas.DataFrame(list(means.groupby(level=[0, 1], sort=False).idxmin()), columns=[by, "label", "rho"])
    return table[table["role"] == "reported"].merge(chosen)


def against(table: pandas.DataFrame, name: str, other: str = "GD") -> pandas.Series:
    """log₁₀ of the test loss of `name` over that of `other`, by data seed: below 0 where it is better."""
    wide = table.pivot_table(index="seed", columns="label", values="test_loss")
    return np.log10(wide[name] / wide[other])


def against_full(table: pandas.DataFrame) -> pandas.Series:
    """log₁₀ of the last test loss with one sample a step over that of full batch, by data seed, in rows of a method."""
    last = table[table["step"] == table["step"].max()]
    wide = last.pivot_table(index="seed", columns="batch", values="test_loss")
    return np.log10(wide["one sample"] / wide["full"])


def slowness(curves: pandas.DataFrame, level: float = 1e-5) -> pandas.DataFrame:
    """Of every run: label, seed, steps until the training loss is below `level` (the first recorded one; inf if none),
    integral of the training loss over time up to a constant, and the last test loss."""
    rows = []
    for (name, seed), run in curves.groupby(["label", "seed"], sort=False):
        steps, losses = run["step"].to_numpy(), run["train_loss"].to_numpy()
        reached = steps[losses < level]
        speed = {"steps": reached.min() if len(reached) else np.inf, "integral": np.trapezoid(losses, steps)}
        rows.append({"label": name, "seed": seed, **speed, "test_loss": run["test_loss"].iloc[-1]})
    return pandas.DataFrame(rows)


def rank_correlations(table: pandas.DataFrame, column: str) -> pandas.Series:
    """By data seed, Spearman's correlation over methods of a column of `slowness` with the test loss; −1 where slower
    is always better."""
    return pandas.Series(
        {seed: runs[column].rank().corr(runs["test_loss"].rank()) for seed, runs in table.groupby("seed")}
    )


def switching() -> tuple[pandas.DataFrame, pandas.DataFrame, float]:
    """Figure 15: the curves of GD, 1-SAM and the switches after 10⁴ steps (columns of `tidy`); the losses on the line
    w = (1 − t) w_GD + t w_switched for t from −1 to 2 (label, seed, t, train_loss, test_loss); the second switch's ρ.

    GD is switched to 1-SAM with the paper's ρ and with one of SWITCH_GRID, of the least mean test loss on the tuning
    seeds. All radii are the released code's."""
    data = problems(setting.TUNING + setting.REPORTED)
    tuning, reported = slice(len(setting.TUNING)), slice(len(setting.TUNING), None)
    one = {"method": "1-sam", "ascent_factor": setting.SWITCH_FACTOR}
    options = {"step_size": 1 / setting.D, "steps": setting.STEPS, "every": 100}
    start = descend(data, setting.ALPHA, method="gd", **options)
    grid = np.repeat(start.w[tuning], len(setting.SWITCH_GRID), 1)
    tried = descend(data[tuning], grid, rho=setting.SWITCH_GRID, **one, **options)
    mean = np.where(np.isnan(tried.test_loss[-1]), np.inf, tried.test_loss[-1]).mean(0)
    chosen = setting.SWITCH_GRID[int(mean.argmin())]

    data, gd_w = data[reported], start.w[reported]
    sam = descend(data, setting.ALPHA, rho=setting.EARLY_RHO, **one, **options)
    first = Descent(start.steps, start.train_loss[:, reported], start.test_loss[:, reported], gd_w)
    stay, back = (descend(data, w, method="gd", **options) for w in (gd_w, sam.w))
    radii = (setting.SWITCH_RHO, chosen)
    escape = descend(data, np.repeat(gd_w, 2, 1), rho=radii, **one, **options)
    switches = [f"GD to 1-SAM, ρ = {rho:g}" for rho in radii]
    later = [(stay, ["GD"]), (back, ["1-SAM to GD"]), (escape, switches)]
    curves = [tidy(run, names, setting.REPORTED) for run, names in ((first, ["GD"]), (sam, ["1-SAM"]), *later)]
    for table in curves[2:]:
        table["step"] += setting.STEPS

    at, samples, lines = np.linspace(-1, 2, 61), Samples.from_arrays(data.X, data.y), []
    for name, end in zip(switches, np.split(escape.w, 2, 1), strict=True):
        beta = beta_of((1 - at)[:, None, None] * gd_w + at[:, None, None] * end)
        index = pandas.MultiIndex.from_product((setting.REPORTED, at), names=["seed", "t"])
        columns = {"train_loss": loss(samples, beta).ravel(), "test_loss": data.test_loss(beta).ravel()}
        lines.append(pandas.DataFrame(columns, index=index).reset_index().assign(label=name))
    return pandas.concat(curves, ignore_index=True), pandas.concat(lines, ignore_index=True), chosen


def barriers(line: pandas.DataFrame, start: pandas.Series) -> pandas.Series:
    """By data seed, the highest training loss on the segment between both minima, above the higher end, over the loss
    at initialization (`start`, by seed). Seeds whose second end diverged are left out."""
    line = line.dropna()
    inside = line[line["t"].between(-1e-9, 1 + 1e-9)].groupby("seed")["train_loss"]
    ends = line[np.isclose(line["t"], 0) | np.isclose(line["t"], 1)].groupby("seed")["train_loss"].max()
    return ((inside.max() - ends) / start).dropna()


def widths() -> pandas.DataFrame:
    """Beyond the paper: GD, n-SAM and 1-SAM (c = 1) at every d, n as it is, step size 5/d; and the interpolator of
    least potential at a tiny α, almost that of least ℓ₁ norm. Columns of `radii`, and d."""
    tables, seeds = [], setting.TUNING + setting.REPORTED
    for d in setting.WIDTHS:
        data = problems(seeds, d=d)
        for method, grid in {"n-sam": (0.0, *setting.RADII[:3]), "1-sam": setting.RADII[2:]}.items():
            run = descend(data, setting.ALPHA, method=method, step_size=5 / d, rho=grid, steps=setting.WIDTH_STEPS)
            last = tidy(run, list(grid), seeds).query("step == step.max()").rename(columns={"label": "rho"})
            tables.append(last.assign(label=np.where(last["rho"] > 0, label(method), "GD"), d=d))
        sparse = np.stack([least_potential(X, y, 1e-6) for X, y in zip(data.X, data.y, strict=True)])
        columns = {"seed": seeds, "rho": 0.0, "test_loss": data.test_loss(sparse[:, None])[:, 0]}
        tables.append(pandas.DataFrame(columns).assign(label=SPARSEST, d=d, train_loss=0.0))
    table = pandas.concat(tables, ignore_index=True).drop(columns="step")
    table["role"] = np.where(table["seed"].isin(setting.TUNING), "tuning", "reported")
    return table
