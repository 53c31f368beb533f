"""Least squares with known constants, and SAM simulated on it many times at once (Appendix D).

f(w) = (1/n) Σ_i f_i(w), f_i(w) = ½(x_i·w − y_i)². Its Hessian is H = XᵀX/n, so that with Definitions 3 and 4

    β = max_i ‖x_i‖²,   λ = λ_max(H),   α = 2 λ_min⁺(H)

are the best possible constants: the paper's PL condition has no ½, hence the 2 in α.
"""

from dataclasses import dataclass

import torch

from lib.core.seeds import generator


@dataclass(frozen=True)
class LeastSquares:
    """x: n×d, y: n, in float64. Made by `gaussian`; `noise` 0 means that every sample can be fitted exactly."""

    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def gaussian(cls, n: int, d: int, *, noise: float = 0.0, seed: int = 0) -> "LeastSquares":
        """n Gaussian directions of length 1 in d dimensions, and targets from a Gaussian w* plus label noise."""
        random = generator(seed, "least squares")
        x = torch.randn(n, d, generator=random, dtype=torch.float64)
        x /= x.norm(dim=1, keepdim=True)
        w = torch.randn(d, generator=random, dtype=torch.float64)
        return cls(x, x @ w + noise * torch.randn(n, generator=random, dtype=torch.float64))

    @property
    def hessian(self) -> torch.Tensor:
        return self.x.T @ self.x / len(self.x)

    @property
    def constants(self) -> tuple[float, float, float]:
        """(α, β, λ) of Assumptions A1 to A3."""
        values = torch.linalg.eigvalsh(self.hessian)
        least = values[values > 1e-10 * values[-1]][0]
        return 2 * float(least), float(self.x.square().sum(1).max()), float(values[-1])

    @property
    def minimizer(self) -> torch.Tensor:
        return torch.linalg.lstsq(self.x, self.y.unsqueeze(1)).solution.squeeze(1)

    def loss(self, w: torch.Tensor) -> torch.Tensor:
        """f at each of the points w (…×d)."""
        return (w @ self.x.T - self.y).square().mean(-1) / 2

    def gradients(self, w: torch.Tensor) -> torch.Tensor:
        """∇f_i(w) for all i (n×d) at one point w (d)."""
        return self.x * (self.x @ w - self.y).unsqueeze(1)

    def gradient_on(self, w: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """The mini-batch gradients (R×d) at points w (R×d) on batches of indices (R×B)."""
        x = self.x[batch]
        residual = (x @ w.unsqueeze(-1)).squeeze(-1) - self.y[batch]
        return (residual.unsqueeze(1) @ x).squeeze(1) / batch.shape[1]


def simulate(
    problem: LeastSquares, *, eta: float, rho: float, batch_size: int, steps: int, repetitions: int, seed: int = 0
) -> torch.Tensor:
    """f(x_t) for t = 0 … steps (repetitions × (steps + 1)) under unnormalized mini-batch SAM from x_0 = 0:
    x_{t+1} = x_t − η g_t(x_t + ρ g_t(x_t)), both gradients on one batch drawn with replacement (equation 11).
    """
    random = generator(seed, "simulate", batch_size)
    w = torch.zeros(repetitions, problem.x.shape[1], dtype=torch.float64)
    losses = [problem.loss(w)]
    for _ in range(steps):
        batch = torch.randint(len(problem.x), (repetitions, batch_size), generator=random)
        ascent = rho * problem.gradient_on(w, batch)
        w = w - eta * problem.gradient_on(w + ascent, batch)
        losses.append(problem.loss(w))
    return torch.stack(losses, 1)
