"""What it means that SAM bounces: the loss at which it ends, mini-batches, no normalization, float32 (notebook 06)."""

from collections.abc import Sequence

import numpy as np
import pandas
import torch

from lib.core import seeds
from lib.theory import bouncing
from lib.theory.least_squares import LeastSquares


def end_losses(vary: dict[str, Sequence[float]], base: dict[str, float], steps: int) -> pandas.DataFrame:
    """The loss of SAM on λ = λ_1 (1, ½, ¼) after `steps` steps from (1, 1, 1), varying one of lam1, eta, rho at a time.

    Columns: panel (which is varied), x, measured, formula = ½λ_1 (ηρλ_1/(2 − ηλ_1))²; the minimax point has loss 0.
    """
    settings = [base | {panel: value} for panel, values in vary.items() for value in values]
    lam1, eta, rho = (np.array([setting[name] for setting in settings]) for name in ("lam1", "eta", "rho"))
    lam = lam1[:, None] * np.array([1, 0.5, 0.25])
    w = bouncing.trajectory(np.ones_like(lam), lam, eta, rho, steps)[-1]
    table = pandas.DataFrame(
        [(panel, value) for panel, values in vary.items() for value in values], columns=["panel", "x"]
    )
    formula = lam1 * bouncing.constants(lam, eta, rho).limit ** 2 / 2
    return table.assign(measured=(lam * w**2).sum(1) / 2, formula=formula)


def mini_batches(
    problem: LeastSquares,
    *,
    eta: float,
    rho: float,
    batch_sizes: Sequence[int],
    steps: int,
    repetitions: int,
    normalized: bool = True,
    seed: int = 0,
) -> pandas.DataFrame:
    """SAM on batches, drawn without replacement, of a least squares that interpolates; statistics of the last half.

    Columns: batch_size, step, loss (the mean over repetitions), and of the second half of all steps: turns, the share
    of steps that change the sign of the component along the top eigenvector e_1 of the Hessian; share, what that
    component has of ‖w − w*‖²; lag, the correlation of successive displacements along e_1.
    """
    x, minimizer = problem.x, problem.minimizer
    e1 = torch.linalg.eigh(problem.hessian)[1][:, -1]
    parts = []
    for batch_size in batch_sizes:
        random = seeds.generator(seed, "mini-batches", batch_size)
        w, along, size, losses = torch.zeros(repetitions, x.shape[1], dtype=torch.float64), [], [], []
        for _ in range(steps):
            order = torch.rand(repetitions, len(x), generator=random).argsort(1)
            batch = order[:, :batch_size]
            gradient = problem.gradient_on(w, batch)
            length = gradient.norm(dim=1, keepdim=True).clamp(min=1e-300) if normalized else 1.0
            w = w - eta * problem.gradient_on(w + rho * gradient / length, batch)
            losses.append(problem.loss(w).mean().item())
            along.append((w - minimizer) @ e1)
            size.append((w - minimizer).square().sum(1))
        a, total = torch.stack(along)[steps // 2 :], torch.stack(size)[steps // 2 :]
        moved = a.diff(dim=0)
        lag = (moved[1:] * moved[:-1]).sum() / moved.square().sum()
        part = {"batch_size": batch_size, "step": range(1, steps + 1), "loss": losses}
        part |= {"turns": (a[1:] * a[:-1] < 0).double().mean().item(), "lag": lag.item()}
        parts.append(pandas.DataFrame(part | {"share": (a.square().sum() / total.sum()).item()}))
    return pandas.concat(parts, ignore_index=True)


def precisions(lam, w, eta: float, rho: float, steps: int) -> pandas.DataFrame:
    """|w_i| over the limit, step by step, in float64 and float32: precision, step, component, size."""
    parts = []
    for precision in ("float64", "float32"):
        start, spectrum = np.asarray(w, precision), np.asarray(lam, precision)
        path = np.abs(bouncing.trajectory(start, spectrum, eta, rho, steps).astype(float))
        path /= float(bouncing.constants(lam, eta, rho).limit)
        frame = pandas.DataFrame(path, columns=range(1, len(lam) + 1)).rename_axis("step").reset_index()
        parts.append(frame.melt("step", var_name="component", value_name="size").assign(precision=precision))
    return pandas.concat(parts, ignore_index=True)
