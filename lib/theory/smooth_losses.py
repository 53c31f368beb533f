"""Smooth losses with known constants, convex or not, and unnormalized SAM simulated on them many times at once.

    L(w) = Σ_j s_j h(u_j),  u = Qw,  h(u) = ½u² + c sin²u,      ℓ_i(w) = L(w) ± ν cos(a_i·w + b_i)

Q is a rotation and each direction a_i has length 1. Every pair of signs cancels, so L is the mean of the ℓ_i. L* = 0 is
at w* = 0. As h″ = 1 + 2c cos 2u, the constants of "Towards Understanding SAM" are known: L is β-smooth with
β = max s·(1 + 2c) and each ℓ_i with β + ν; the variance of the gradients is at most σ² = ν². L is strongly convex for
c < ½, PL but not convex up to c ≈ 2.3, and beyond that it has other minima.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from lib.core.seeds import generator

WOBBLE_OF_OTHER_MINIMA = 2.30  # 1/(2·0.2172): from there on h′ = u + c sin 2u has a zero other than 0
BATCHES = ("full", "same", "other")


@dataclass(frozen=True)
class SmoothLoss:
    """rotation Q: d×d, scale s: d, wobble c, directions a: k×d, phases b: k, noise ν; float64. Made by `random`.

    >>> SmoothLoss.random(2).loss(torch.zeros(2).double()).item()
    0.0
    """

    rotation: torch.Tensor
    scale: torch.Tensor
    wobble: float
    directions: torch.Tensor
    phases: torch.Tensor
    noise: float

    @classmethod
    def random(cls, d: int, *, wobble=0.0, condition=1.0, noise=0.0, pairs: int = 4, seed: int = 0) -> "SmoothLoss":
        """Scales from 1/condition to 1, evenly in their logarithm, and 2·pairs samples with random a and b.

        Raises ValueError for wobble, noise < 0 or condition < 1.

        >>> problem = SmoothLoss.random(3, wobble=0.25, condition=10.0, noise=0.5)
        >>> problem.beta, round(problem.convexity, 6), problem.sample_beta
        (1.5, 0.05, 2.0)
        """
        for name, value, least in (("wobble", wobble, 0), ("condition", condition, 1), ("noise", noise, 0)):
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{name} = {value!r}: must be a finite number, {least} or more")
        draw = generator(seed, "smooth loss")
        rotation = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64))[0]
        scale = torch.logspace(-math.log10(condition), 0, d, dtype=torch.float64) if d > 1 else torch.ones(1).double()
        directions = torch.randn(pairs, d, generator=draw, dtype=torch.float64)
        directions /= directions.norm(dim=1, keepdim=True)
        phases = 2 * math.pi * torch.rand(pairs, generator=draw, dtype=torch.float64)
        return cls(rotation, scale, float(wobble), directions, phases, float(noise))

    @property
    def beta(self) -> float:
        """Smoothness of L."""
        return float(self.scale.max()) * (1 + 2 * self.wobble)

    @property
    def sample_beta(self) -> float:
        """Smoothness of every ℓ_i, and of L."""
        return self.beta + self.noise

    @property
    def sigma(self) -> float:
        """σ: E‖∇ℓ_i − ∇L‖² ≤ σ² everywhere."""
        return self.noise

    @property
    def convexity(self) -> float:
        """The least eigenvalue that the Hessian can have; L is convex where it is not negative."""
        return float(((1 - 2 * self.wobble) * self.scale).min())

    @property
    def mu(self) -> float:
        """The PL constant of ½‖∇L‖² ≥ μL, min s · min h′²/(2h); 0 if there are other minima."""
        if self.wobble >= WOBBLE_OF_OTHER_MINIMA:
            return 0.0
        u = np.linspace(1e-3, 40, 400_001)  # beyond 40 the ratio is above its least value, since |sin| ≤ 1
        least = ((u + self.wobble * np.sin(2 * u)) ** 2 / (u**2 + 2 * self.wobble * np.sin(u) ** 2)).min()
        return float(self.scale.min()) * float(least) * (1 - 1e-6)

    def loss(self, w: torch.Tensor) -> torch.Tensor:
        """L at points w (…×d)."""
        u = w @ self.rotation.T
        return (self.scale * (u.square() / 2 + self.wobble * u.sin().square())).sum(-1)

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        """∇L at points w (…×d)."""
        u = w @ self.rotation.T
        return (self.scale * (u + self.wobble * (2 * u).sin())) @ self.rotation

    def gradient_on(self, w: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Mini-batch gradients (R×d) at points w (R×d) on batches of indices (R×b); sample 2i has +, 2i + 1 has −."""
        a, sign = self.directions[batch // 2], 1.0 - 2.0 * (batch % 2)
        slope = -self.noise * sign * ((a @ w.unsqueeze(-1)).squeeze(-1) + self.phases[batch // 2]).sin()
        return self.gradient(w) + (slope.unsqueeze(1) @ a).squeeze(1) / batch.shape[1]


class Iterates(NamedTuple):
    """Of R runs: L(w_t) and ‖∇L(w_t)‖² for t = 0 … T (R×(T + 1)), the mean of w_0 … w_{T−1}, and w_T (R×d).

    >>> start = torch.ones(3, 2).double()
    >>> runs = simulate(SmoothLoss.random(2), start, gamma=0.5, rho=1.0, steps=4)
    >>> isinstance(runs, Iterates), runs.loss.shape, runs.last.shape
    (True, torch.Size([3, 5]), torch.Size([3, 2]))
    """

    loss: torch.Tensor
    squared_gradient: torch.Tensor
    mean: torch.Tensor
    last: torch.Tensor


def simulate(
    problem: SmoothLoss, w0: torch.Tensor, *, gamma, rho, steps: int, ascent: str = "full", batch_size=1, seed=0
) -> Iterates:
    """w_{t+1} = w_t − γ_t ∇L_I(w_t + ρ_t ∇L_J(w_t)) from the points w0 (R×d), `steps` times.

    gamma, rho: numbers or `steps` of them. ascent: "full" (I and J hold all samples), "same" (one batch of `batch_size`
    drawn with replacement: m-SAM) or "other" (two batches: stochastic n-SAM). Raises ValueError for another word.

    >>> runs = simulate(SmoothLoss.random(2), torch.ones(1, 2).double(), gamma=0.5, rho=1.0, steps=1)
    >>> bool((runs.loss - torch.tensor([[1.0, 0.0]])).abs().max() < 1e-12)
    True
    """
    if ascent not in BATCHES:
        raise ValueError(f"ascent = {ascent!r}: must be one of {', '.join(BATCHES)}")
    gamma, rho = (torch.as_tensor(value, dtype=torch.float64).expand(steps) for value in (gamma, rho))
    draw, samples = generator(seed, "smooth loss", ascent, batch_size), 2 * len(problem.phases)
    w, total, losses, squares = w0, torch.zeros_like(w0), [], []
    for t in range(steps + 1):
        losses.append(problem.loss(w))
        squares.append(problem.gradient(w).square().sum(-1))
        if t == steps:
            break
        total = total + w
        if ascent == "full":
            w = w - gamma[t] * problem.gradient(w + rho[t] * problem.gradient(w))
            continue
        descent = torch.randint(samples, (len(w), batch_size), generator=draw)
        climb = torch.randint(samples, (len(w), batch_size), generator=draw) if ascent == "other" else descent
        w = w - gamma[t] * problem.gradient_on(w + rho[t] * problem.gradient_on(w, climb), descent)
    return Iterates(torch.stack(losses, -1), torch.stack(squares, -1), total / steps, w)
