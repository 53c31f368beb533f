"""Deeper diagonal networks β = w₊^D − w₋^D: two effective scales instead of one.

With L = Σ r_i²/(2Dn) the variables s± = w±^(2−D)/(D−2) move by ds±/dt = ±A + S±, A in the row space of X, so that

    β = h(Xᵀν) = (s₊₀ + E₊ + Xᵀν)^(−D/(D−2)) − (s₋₀ + E₋ − Xᵀν)^(−D/(D−2)), up to (D−2)^(−D/(D−2)),   E± = ∫S± dt

(E = 0 is Theorem 3 of Woodworth et al., 2020). At depth 2, S₊ = S₋ and one α does. At D > 2 they differ, since SAM's
ascent is in proportion to w±^(D−2); to first order S± = (D−1)(cρ/n) Σ_i r_i² x_i² w±^(D−2) for 1-SAM.
"""

from dataclasses import dataclass

import numpy as np

from lib.theory.diagonal.flows import integrate, quadrature_points
from lib.theory.diagonal.hyperbolic import scale
from lib.theory.diagonal.network import Samples, check_method


@dataclass(frozen=True)
class DeepFlow:
    """Where a deep flow ends: beta (d,), start: α (d,), shifts: E₊ and E₋ (2, d), converged, depth.

    >>> end = deep_flow([[1.0, 2.0]], [2.0], 0.5, depth=3, method="gd")
    >>> end.residual([[1.0, 2.0]], end.shifts) < 1e-6
    True
    """

    beta: np.ndarray
    start: np.ndarray
    shifts: np.ndarray
    converged: bool
    depth: int

    def residual(self, X, shifts) -> float:
        """‖(I − P)z‖/‖z‖ of z = h⁻¹(β) for given shifts (2, d), P the projection onto the rows of X: 0 where β
        minimizes the potential of these shifts among the β that interpolate."""
        X = np.asarray(X, dtype=float)
        z = invert(self.beta, self.start ** (2 - self.depth) / (self.depth - 2) + shifts, self.depth)
        nu = np.linalg.lstsq(X.T, z, rcond=None)[0]
        return float(np.linalg.norm(z - X.T @ nu) / np.linalg.norm(z))


def invert(beta, scales, depth: int) -> np.ndarray:
    """z with ((D−2)(s₊ + z))^(−D/(D−2)) − ((D−2)(s₋ − z))^(−D/(D−2)) = β, elementwise, by bisection between −s₊ and s₋:
    β falls in z. beta: (d,), scales: s₊ and s₋ (2, d), positive."""
    power = -depth / (depth - 2)
    low, high = -scales[0], scales[1]
    for _ in range(200):
        z = (low + high) / 2
        with np.errstate(divide="ignore"):
            above = ((depth - 2) * (scales[0] + z)) ** power - ((depth - 2) * (scales[1] - z)) ** power > beta
        low, high = np.where(above, z, low), np.where(above, high, z)
    return z


def deep_flow(
    X, y, alpha, *, depth: int, method: str, rho: float = 0.0, ascent_factor: float = 1.0, rtol: float = 1e-8
) -> DeepFlow:
    """`flows.flow` for β = w₊^depth − w₋^depth, depth at least 3, from w₊ = w₋ = α. X: (n, d), y: (n,).

    >>> end = deep_flow([[1.0, 2.0]], [2.0], 0.5, depth=3, method="gd")
    >>> bool(end.converged), round(float(end.beta @ [1.0, 2.0]), 6)
    (True, 2.0)
    """
    if depth < 3:
        raise ValueError(f"depth = {depth}: must be at least 3; `flow` is of depth 2")
    check_method(method)
    samples = Samples.from_arrays(X, y)
    d = samples.X.shape[1]
    alpha, radius = scale(alpha, d), {"gd": 0.0, "n-sam": rho, "1-sam": ascent_factor * rho}[method]
    signs = np.array([1.0, -1.0])[:, None]

    def residual(w):
        return (w[..., 0, :] ** depth - w[..., 1, :] ** depth) @ samples.X.T - samples.y

    def at_ascent(w):
        """r_sam (…, n), and the factors 1 ± a by which w± (…, n or 1, 2, d) are multiplied."""
        gradients = residual(w)[..., None] * samples.X
        if method == "n-sam":
            gradients = gradients.mean(-2, keepdims=True)
        factors = 1 + radius * signs * gradients[..., None, :] * w[..., None, :, :] ** (depth - 2)
        raised = (w[..., None, :, :] * factors) ** depth
        return (samples.X * (raised[..., 0, :] - raised[..., 1, :])).sum(-1) - samples.y, factors

    def derivative(_, state):
        w = state.reshape(-1, 2, d)
        r_sam, factors = at_ascent(w)
        pulls = (r_sam[..., None, None] * samples.X[:, None] * factors ** (depth - 1)).mean(-3)
        return (-signs * w ** (depth - 1) * pulls).reshape(state.shape)

    end = integrate(derivative, np.tile(alpha, 2), lambda w: residual(w.reshape(2, d)), samples.y,
                       tolerance=rtol, rtol=rtol, max_time=1e7, atol=1e-12)  # fmt: skip
    states, spans = quadrature_points(end.path)
    shifts = np.zeros((2, d))
    for part in np.array_split(np.arange(len(states)), max(1, len(states) // 200)):  # n × 2 × d for every state
        r_sam, factors = at_ascent(states[part].reshape(-1, 2, d))
        rate = signs * (r_sam[..., None, None] * samples.X[:, None] * (factors ** (depth - 1) - 1)).mean(-3)
        shifts += np.tensordot(spans[part], rate, 1)
    last = end.state.reshape(2, d)
    return DeepFlow(last[0] ** depth - last[1] ** depth, alpha, shifts, end.converged, depth)
