"""Notebook 10: runs of unnormalized SAM on random smooth losses beside the bounds of *Towards Understanding SAM*.

`lib.theory.convergence` has the bounds and `lib.theory.smooth_losses` the losses, whose constants are known. A ratio is
what a theorem bounds over the bound; a theorem holds where no ratio is above 1.
"""

import itertools
import math

import pandas
import torch

from lib.core.seeds import generator
from lib.paper.claims import Verdict
from lib.theory import convergence as bounds
from lib.theory.smooth_losses import SmoothLoss, simulate

FULL_T = (1, 4, 16, 64)
NOISY_T = (16, 64, 256, 512)
RUNS = 40  # of each noisy problem
ROUNDING = 1e-9
RHOS, STEPS = (0.5, 0.99, 1.5, 2.0), 60  # times β, on one loss with a maximum


def problems(noise: float = 0.0) -> list[SmoothLoss]:
    """Random losses: convex ones (wobble below ½), others that meet the PL condition, and one with other minima."""
    settings = [(1, 0.0, 1.0), (4, 0.0, 30.0), (3, 0.4, 5.0), (1, 1.0, 1.0), (5, 1.8, 10.0), (2, 3.0, 3.0)]
    return [
        SmoothLoss.random(d, wobble=c, condition=condition, noise=noise, seed=seed)
        for seed, (d, c, condition) in enumerate(settings)
    ]


def full_batch() -> pandas.DataFrame:
    """Full-batch SAM from 20 starts on each problem, at γβ of 0.1, 0.5 and 0.99 and ρβ of 0, 0.5 and 0.99, for the
    convex ones also beyond: theorem, problem, gamma, rho (times β), steps, and the largest ratio of the starts."""
    rows = []
    for (number, problem), g, r in itertools.product(enumerate(problems()), (0.1, 0.5, 0.99), (0.0, 0.5, 0.99, 4.0)):
        beta, mu, convex = problem.beta, problem.mu, problem.convexity >= 0
        gamma = g / beta if r < 1 else 2 * g / (beta * (1 + r))
        if r > 1 and not convex:
            continue
        points = _starts(len(problem.scale))
        runs = simulate(problem, points, gamma=gamma, rho=r / beta, steps=max(FULL_T))
        for steps in FULL_T:
            sizes = dict(beta=beta, gamma=gamma, rho=r / beta, steps=steps)
            loss, squares = runs.loss, runs.squared_gradient
            gradients, gap = squares[:, :steps].mean(1), loss[:, 0]
            ratios = {}
            if r < 1:
                ratios["6"] = gradients / (gap * bounds.theorem_6(**sizes, gap=1.0))
                fall = (gap - loss[:, steps]).clamp(min=1e-300)
                unit = bounds.theorem_9(**sizes, decrease=1.0)
                ratios["9"] = gradients / (fall * unit)
                ratios["9, as printed"] = squares[:, : steps + 1].sum(1) / steps / (fall * unit)
                if mu > 0:
                    limit = gap * bounds.theorem_10(**sizes, mu=mu, gap=1.0)
                    ratios["10"] = (loss[:, steps] - ROUNDING * gap) / limit
            if convex:
                short = simulate(problem, points, gamma=gamma, rho=r / beta, steps=steps)
                square = points.square().sum(1)  # w* = 0
                ratios["11"] = problem.loss(short.mean) / (square * bounds.theorem_11(**sizes, distance=1.0))
                if problem.convexity > 0:
                    limit = bounds.theorem_11_strong(**sizes, mu=problem.convexity, distance=1.0)
                    ratios["11, strong"] = (short.last.square().sum(1) / square - ROUNDING) / max(limit, ROUNDING)
            rows += [(name, number, g, r, steps, ratio.max().item()) for name, ratio in ratios.items()]
    return pandas.DataFrame(rows, columns=["theorem", "problem", "gamma", "rho", "steps", "ratio"])


def noisy() -> pandas.DataFrame:
    """m-SAM (Theorem 2) and stochastic n-SAM (Theorem 12) with their step sizes, and with the decreasing ones of the PL
    bounds, in RUNS runs of one sample a step: theorem, problem, steps, ratio, low and high (the ratios of mean ∓ 3
    standard errors). The gradients are means over T steps, E L(w_T) is one over runs. "12, as printed" divides by β."""
    rows = []
    for (number, problem), (ascent, name) in itertools.product(
        list(enumerate(problems(noise=1.0)))[2:5], (("same", "2"), ("other", "12"))
    ):
        beta = problem.sample_beta if ascent == "same" else problem.beta
        start = 3 * _starts(len(problem.scale))[10].expand(RUNS, -1)
        least, bound = (256, bounds.theorem_2) if name == "2" else (16, bounds.theorem_12)
        for steps in NOISY_T:
            gap = problem.loss(start[0]).item()
            gamma, rho = bounds.constant_schedule(beta=beta, steps=steps)
            if steps >= least:
                runs = simulate(problem, start, gamma=gamma, rho=rho, steps=steps, ascent=ascent, seed=steps)
                each = runs.squared_gradient[:, :-1].mean(1)
                limit = bound(beta=beta, steps=steps, gap=gap, sigma=problem.sigma)
                rows.append((name, number, steps, *_ratio(each, limit)))
                if name == "12":
                    printed = limit - 4 * gap * (beta - 1 / beta) / math.sqrt(steps)
                    rows.append(("12, as printed", number, steps, *_ratio(each, printed)))
            if problem.mu > 0:
                gamma, rho = bounds.decreasing_schedule(beta=beta, mu=problem.mu, steps=steps)
                runs = simulate(problem, start, gamma=gamma, rho=rho, steps=steps, ascent=ascent, seed=steps)
                limit = bounds.pl_bound(beta=beta, mu=problem.mu, steps=steps, gap=gap, sigma=problem.sigma)
                rows.append((f"{name}, PL", number, steps, *_ratio(runs.loss[:, -1], limit)))
    return pandas.DataFrame(rows, columns=["theorem", "problem", "steps", "ratio", "low", "high"])


def _ratio(values, limit):
    mean, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
    return mean / limit, (mean - 3 * error) / limit, (mean + 3 * error) / limit


def _starts(d, count=20):
    points = torch.randn(count, d, generator=generator(0, "smooth bounds", d), dtype=torch.float64)
    return points * torch.logspace(-1, 1, count, dtype=torch.float64)[:, None]


def resting() -> pandas.DataFrame:
    """Beyond ρ = 1/β: SAM on L = (1 − cos πw)/π², with β = 1, a minimum at 0 and a maximum at 1.

    rho (times β); gradient, step: |∇L| and the length of SAM's step at the w < 1 whose ascent ends on the maximum,
    w + ρ∇L(w) = 1; NaN where there is none; end: where `paths` lead."""
    rows = []
    for rho in RHOS:
        low, high = 0.0, 0.999  # w + ρ∇L − 1 changes its sign in between if ρ > 1
        if high + rho * _gradient(high) > 1:
            for _ in range(100):
                middle = (low + high) / 2
                low, high = (low, middle) if middle + rho * _gradient(middle) > 1 else (middle, high)
            there, step = _gradient(low), abs(_gradient(low + rho * _gradient(low)))
        else:
            there = step = math.nan
        rows.append((rho, there, step, _path(rho)[-1]))
    return pandas.DataFrame(rows, columns=["rho", "gradient", "step", "end"])


def paths() -> pandas.DataFrame:
    """SAM from w = 0.9 on the loss of `resting`, with γ = ½: rho, step, w."""
    parts = [pandas.DataFrame({"rho": rho, "step": range(STEPS + 1), "w": _path(rho)}) for rho in RHOS]
    return pandas.concat(parts, ignore_index=True)


def _gradient(w):
    return math.sin(math.pi * w) / math.pi


def _path(rho):
    path = [0.9]
    for _ in range(STEPS):
        path.append(path[-1] - 0.5 * _gradient(path[-1] + rho * _gradient(path[-1])))
    return path


def holds(table: pandas.DataFrame, *theorems: str, column: str = "ratio") -> Verdict:
    """Whether no ratio of these theorems is above 1."""
    part = table[table["theorem"].isin(theorems)]
    words = ", ".join(f"{rows[column].max():.3g} of Theorem {name}" for name, rows in part.groupby("theorem"))
    return f"at most {words}, in {len(part)} settings", bool((part[column] <= 1 + ROUNDING).all())


def necessary(table: pandas.DataFrame) -> Verdict:
    """Whether beyond ρ = 1/β SAM has a step of 0 where the gradient does not vanish, and below it has none."""
    above, below = table[table["rho"] > 1], table[table["rho"] < 1]
    words = f"steps of {above['step'].max():.0e} where |∇L| is {above['gradient'].min():.2g} or more; from near the "
    words += f"maximum, w = 1, SAM ends at w = {', '.join(f'{w:.2g}' for w in table['end'].abs())} for ρβ = "
    words += ", ".join(f"{rho:g}" for rho in table["rho"])
    found = (above["step"] < 1e-9) & (above["gradient"] > 0.01)
    return words, bool(found.all() and below["step"].isna().all())
