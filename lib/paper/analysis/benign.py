"""Grids of two-layer networks on noisy clusters, trained as one stack, and what is measured on each (notebook 07)."""

import math
from collections.abc import Iterable

import pandas
import torch

from lib.theory import benign

DRAWS = 20_000  # clean test points a network
STEPS = 5000


def train_all(settings: list[dict], *, steps: int = STEPS) -> pandas.DataFrame:
    """Train every setting and measure it: those of one (n, m) as one stack. One row a setting, in their order.

    A setting has n, p and seed, and may have m (20), exponent (⅓) or mu (‖μ‖ = p^exponent), flip (0.15), rho (0), lazy
    (1; ω_init is `lazy`·α/√(mp), so that more than 1 breaks assumption A5), and epsilon (1/(4n), where it stops).
    Measured: loss, done, steps; train_error, of the noisy labels; flips, how many labels are flipped, and fitted, how
    many of these the network fits; error, on clean test points; margin, E ỹf/‖W‖; norm, ‖W‖; turned, the share of
    (unit, sample) pairs whose φ' has moved by more than 0.1; offset, φ(0)Σ_j a_j, the output without weights.
    """
    frame = pandas.DataFrame([_complete(setting) for setting in settings])
    parts = [_train(part, steps) for _, part in frame.groupby(["n", "m", "epsilon"], sort=False)]
    return pandas.concat(parts).sort_index()


def _complete(setting):
    full = dict(m=20, exponent=1 / 3, flip=0.15, rho=0.0, lazy=1.0, epsilon=1 / (4 * setting["n"])) | setting
    full.setdefault("mu", full["p"] ** full["exponent"])
    n, p, m, mu = full["n"], full["p"], full["m"], full["mu"]
    alpha = 4 * n / ((n**0.5 + p**0.5) ** 2 + n * mu**2)  # α times the curvature is at most about 1, stable below 2
    return full | dict(alpha=alpha, omega=full["lazy"] * alpha / math.sqrt(m * p))


def drawn(rows: Iterable[dict]) -> benign.Stack:
    """The problems and networks of completed settings, rows of `train_all`."""
    names = ("n", "m", "p", "mu", "flip", "omega", "seed")
    integers = ("n", "m", "p", "seed")
    return benign.stack([benign.draw(**{k: int(row[k]) if k in integers else row[k] for k in names}) for row in rows])


def _train(part, steps):
    problems = drawn(part.to_dict("records"))
    alpha, rho = torch.tensor(part["alpha"].to_numpy()), torch.tensor(part["rho"].to_numpy())
    trained = benign.train(problems, alpha=alpha, epsilon=part["epsilon"].iloc[0], steps=steps, rho=rho)
    right = trained.outputs * problems.y > 0
    flipped = problems.y != problems.clean
    measured = {"loss": trained.loss, "done": trained.done, "steps": trained.steps}
    measured |= {"offset": benign.activation(torch.zeros(1)) * problems.a.sum(1)}
    measured |= {"train_error": 1 - right.double().mean(1), "flips": flipped.sum(1), "fitted": (flipped & right).sum(1)}
    columns = {name: values.numpy() for name, values in measured.items()}
    weights = problems.weights(trained.coefficients)
    columns |= tested(problems, weights)
    columns["turned"] = [_turned(*one) for one in zip(problems.w0, weights, problems.x, strict=True)]
    return part.assign(**columns)


def tested(problems: benign.Stack, weights: list[torch.Tensor]) -> dict[str, list[float]]:
    """error, margin and norm of each network."""
    columns = {"error": [], "margin": [], "norm": []}
    for w, a, mu in zip(weights, problems.a, problems.mu, strict=True):
        error, mean = benign.on_clean_points(w, a, mu, draws=DRAWS)
        for name, value in (("error", error), ("margin", mean / w.norm().item()), ("norm", w.norm().item())):
            columns[name].append(value)
    return columns


def _turned(before, after, x):
    change = benign.slope(after @ x.T) - benign.slope(before @ x.T)
    return (change.abs() > 0.1).double().mean().item()


def along_training(settings: list[dict], levels: Iterable[float], *, steps: int) -> pandas.DataFrame:
    """What is measured at the first step at which the loss is at most each level, which descend: a row a setting and
    level. All settings have one n and m."""
    rows, levels = [_complete(setting) for setting in settings], list(levels)
    problems, alpha = drawn(rows), torch.tensor([row["alpha"] for row in rows], dtype=torch.float64)
    trained = benign.train(problems, alpha=alpha, epsilon=levels[-1], steps=steps, levels=levels)
    frame = pandas.DataFrame(rows).assign(done=trained.done.numpy())
    parts = [
        frame.assign(level=level, **tested(problems, problems.weights(coefficients)))
        for level, coefficients in zip(levels, trained.path, strict=True)
    ]
    return pandas.concat(parts, ignore_index=True)


def boundary(setting: dict, *, steps: int, reach: tuple[float, float]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """A trained network on a plane: a grid (s, t, output) and the samples (s, t, clean, flipped, right).

    s is the coordinate along μ, up to ± reach[0]. t is that along the second axis for p = 2, else along the part of the
    first flipped sample that is orthogonal to μ, up to ± reach[1]. Samples are projected onto the plane.
    """
    row = _complete(setting)
    problems = drawn([row])
    alpha = torch.tensor([row["alpha"]], dtype=torch.float64)
    trained = benign.train(problems, alpha=alpha, epsilon=row["epsilon"], steps=steps)
    x, flipped = problems.x[0], problems.y[0] != problems.clean[0]
    second = torch.zeros(x.shape[1], dtype=torch.float64)
    second[1:] = x[flipped][0, 1:] if x.shape[1] > 2 else 1.0
    second = second / second.norm()
    s, t = torch.meshgrid(*(torch.linspace(-r, r, 121, dtype=torch.float64) for r in reach), indexing="ij")
    first = torch.zeros_like(second)
    first[0] = 1
    points = s.flatten()[:, None] * first + t.flatten()[:, None] * second
    output = benign.activation(points @ problems.weights(trained.coefficients)[0].T) @ problems.a[0]
    grid = pandas.DataFrame({"s": s.flatten(), "t": t.flatten(), "output": output})
    samples = {"s": x @ first, "t": x @ second, "clean": problems.clean[0], "flipped": flipped}
    return grid, pandas.DataFrame(samples | {"right": trained.outputs[0] * problems.y[0] > 0})
