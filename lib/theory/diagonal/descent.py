"""Gradient descent, n-SAM and 1-SAM in steps of γ, full-batch or stochastic, over many data seeds, step sizes and ρ.

    w_{t+1} = w_t − γ Σ_i p_i ∇ℓ_i(w_i),   w_i the point to which the method ascends (equation 8)

p_i = 1/n for all samples, or 1 for a single random one. A stochastic step of n-SAM ascends along the gradient of all
samples; one of 1-SAM ascends along that of the sample it descends on.
"""

from dataclasses import dataclass

import numpy as np

from lib.core.seeds import derive
from lib.theory.diagonal.hyperbolic import scale
from lib.theory.diagonal.network import Samples, beta_of, check_method, loss, velocity
from lib.theory.diagonal.regression import SparseRegression


@dataclass(frozen=True)
class Descent:
    """What was recorded: steps (times,), train_loss and test_loss (times, seeds, runs), and the last w (seeds, runs, 2,
    d). A run that diverges ends in values that are not finite.

    >>> ends = descend(SparseRegression.draw([0]), 0.05, method="gd", step_size=0.1, steps=10)
    >>> ends.steps.tolist(), ends.beta.shape
    ([0, 10], (1, 1, 30))
    """

    steps: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    w: np.ndarray

    @property
    def beta(self) -> np.ndarray:
        """(seeds, runs, d)."""
        return beta_of(self.w)


def descend(
    problems: SparseRegression,
    start,
    *,
    method: str,
    step_size,
    rho=0.0,
    ascent_factor=1.0,
    steps: int = 10_001,
    every: int = 0,
    stochastic: int | None = None,
) -> Descent:
    """Run `method` from `start` on every problem, for every entry of step_size, rho and ascent_factor together.

    start: α (w₊ = w₋ = α), or w (seeds, runs, 2, d) to go on from. step_size, rho, ascent_factor (1-SAM only): numbers
    or arrays (runs,), broadcast. every: steps between records, 0 for the ends alone. stochastic: a seed for the order
    of the samples, which all methods and runs share; None for full batch. ValueError for an unknown method or ρ < 0.

    >>> ends = descend(SparseRegression.draw([0]), 0.05, method="gd", step_size=5 / 30)
    >>> round(float(ends.test_loss[-1, 0, 0]), 7)  # cell 1 of the released notebook prints 0.0150560
    0.015056
    """
    check_method(method)
    numbers = [np.atleast_1d(np.asarray(values, dtype=float)) for values in (step_size, rho, ascent_factor)]
    gamma, rho, factor = np.broadcast_arrays(*numbers)
    if (rho < 0).any() or (gamma <= 0).any() or (factor <= 0).any():
        raise ValueError("rho must be at least 0, step_size and ascent_factor positive")
    radius = (rho * (factor if method == "1-sam" else 1.0))[:, None]
    samples, runs = Samples.from_arrays(problems.X, problems.y), len(gamma)
    seeds, n, d = problems.X.shape
    if np.ndim(start) < 2:
        start = np.broadcast_to(scale(start, d), (seeds, runs, 2, d))
    w = np.moveaxis(np.array(np.moveaxis(start, -2, 0), dtype=float, order="C"), 0, -2)  # w₊ in one piece, and w₋
    gamma = gamma[:, None, None]
    order = None if stochastic is None else np.random.default_rng(derive(stochastic, "order of samples"))
    times, train, test = [], [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            if step in (0, steps) or (every and step % every == 0):
                beta = beta_of(w)
                times, train, test = [*times, step], [*train, loss(samples, beta)], [*test, problems.test_loss(beta)]
            if step < steps:
                weights = None if order is None else np.eye(n)[order.integers(n, size=(seeds, 1))]
                w += gamma * velocity(samples, w, method, radius, weights)
    return Descent(np.array(times), np.stack(train), np.stack(test), w)
