"""The hyperbolic entropy φ_α between ℓ₁ and ℓ₂, and the interpolator that minimizes it.

    φ_α(β) = Σ_i α_i² q(β_i/α_i²),   q(z) = 2 − √(4 + z²) + z asinh(z/2),   ∇φ_α(β) = asinh(β/(2α²))

(equation 12 of "Towards Understanding SAM", after Woodworth et al., 2020). Gradient flow on β = w₊² − w₋² from
w₊ = w₋ = α ends at argmin φ_α(β) subject to Xβ = y (Theorem 3 there). Logarithms of α keep everything finite in
float64, also where |β|/α² is not.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

LARGE = 40.0  # of log(|β|/α²): from there on asinh(z/2) = log z to the last bit
LONGEST = 2.0  # step in Xᵀν of the dual Newton: cosh then changes by at most e²


def scale(alpha, d: int) -> np.ndarray:
    """α as d positive numbers, from one number or d. ValueError if one of them is not positive and finite.

    >>> scale(0.1, 3)
    array([0.1, 0.1, 0.1])
    """
    alpha = np.broadcast_to(np.asarray(alpha, dtype=float), (d,))
    if not (np.isfinite(alpha) & (alpha > 0)).all():
        raise ValueError(f"alpha = {alpha!r}: must be positive and finite, in every coordinate")
    return alpha


def gradient(beta, alpha) -> np.ndarray:
    """∇φ_α(β) = asinh(β/(2α²)), elementwise; beta: (…, d), alpha: a number or (d,).

    >>> gradient([0.0, 2.0], 1.0).round(4)
    array([0.    , 0.8814])
    """
    beta = np.asarray(beta, dtype=float)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(np.abs(beta)) - 2 * np.log(scale(alpha, beta.shape[-1]))
    exact = np.arcsinh(np.exp(np.minimum(log_ratio, LARGE)) / 2)
    return np.copysign(np.where(log_ratio > LARGE, log_ratio, exact), beta)


def potential(beta, alpha) -> np.ndarray | float:
    """φ_α(β) (equation 12), summed over the last axis; beta: (…, d), alpha: a number or (d,).

    ValueError if α is not positive. With z = β/α² it is computed as Σ |β| (asinh(|z|/2) − |z|/(2 + √(4 + z²))), whose
    second term is between 0 and 1, so that neither a small nor a large |z| cancels or overflows.

    >>> round(float(potential([0.0, 2.0], 1.0)), 4)
    0.9343
    """
    beta = np.asarray(beta, dtype=float)
    steepness = np.abs(gradient(beta, alpha))
    # With s = asinh(|z|/2): |z| = 2 sinh(s) and √(4 + z²) = 2 cosh(s), so that the second term is tanh(s/2).
    total = (np.abs(beta) * (steepness - np.tanh(steepness / 2))).sum(-1)
    return total if total.ndim else float(total)


@dataclass(frozen=True)
class Certificate:
    """How far β is from the interpolator of least potential, both 0 there.

    kkt: ‖(I − P)∇φ_α(β)‖/‖∇φ_α(β)‖, P the projection onto the rows of X. infeasibility: ‖Xβ − y‖/‖y‖.

    >>> Certificate(kkt=0.0, infeasibility=1e-3)  # the least potential, but of a β that misses y by 0.1%
    Certificate(kkt=0.0, infeasibility=0.001)
    """

    kkt: float
    infeasibility: float


def certificate(X, y, beta, alpha) -> Certificate:
    """The optimality conditions of min φ_α(β) s.t. Xβ = y at β: ∇φ_α(β) = Xᵀν for some ν, and Xβ = y. They are
    sufficient because φ_α is convex. X: (n, d), y: (n,), beta: (d,).

    >>> certificate([[1.0, 1.0]], [2.0], [1.0, 1.0], 0.1).kkt < 1e-12
    True
    """
    X, y, beta = (np.asarray(a, dtype=float) for a in (X, y, beta))
    slope = gradient(beta, alpha)
    nu = np.linalg.lstsq(X.T, slope, rcond=None)[0]
    kkt = np.linalg.norm(slope - X.T @ nu) / max(np.linalg.norm(slope), np.finfo(float).tiny)
    return Certificate(float(kkt), float(np.linalg.norm(X @ beta - y) / max(np.linalg.norm(y), np.finfo(float).tiny)))


def least_potential(X, y, alpha, *, tolerance: float = 1e-12) -> np.ndarray:
    """β (d,) = argmin φ_α(β) subject to Xβ = y (equation 6), by damped Newton on the concave dual

        max_ν  y·ν − Σ_i 2α_i²(cosh((Xᵀν)_i) − 1),   β = 2α² sinh(Xᵀν),

    for α^t with t from near 0 (close to ℓ₂, where Newton is at home) to 1, each from the solutions before it.

    X: (n, d), y: (n,), alpha: a number or (d,). `certificate` measures what is left. Raises ValueError if no β
    interpolates or α² is lost in float64, and RuntimeError if ‖Xβ − y‖ is not below `tolerance`·‖y‖, or 1e-9·‖y‖ where
    rounding allows no more.

    >>> least_potential([[1.0, 2.0]], [2.0], 1e-6).round(3)  # ℓ₁: all in the longer column
    array([0., 1.])
    >>> least_potential([[1.0, 2.0]], [2.0], 1e3).round(3)  # ℓ₂
    array([0.4, 0.8])
    """
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise ValueError(f"X of shape {X.shape} and y of shape {y.shape}: must be (n, d) and (n,)")
    log_alpha, size = np.log(scale(alpha, X.shape[1])), np.linalg.norm(y)
    if log_alpha.min() < -300:
        raise ValueError(f"alpha = {alpha!r}: below 1e-130 its square is lost in float64")
    if np.linalg.norm(X @ np.linalg.lstsq(X, y, rcond=None)[0] - y) > 1e-9 * size:
        raise ValueError("y is not in the range of X: no β interpolates; take more features than independent samples")
    stages = int(np.ceil(np.abs(log_alpha).max())) + 1
    before, nu = np.zeros(len(y)), np.zeros(len(y))
    for stage in range(1, stages + 1):
        goal = tolerance if stage == stages else 1e-3
        now = log_alpha * stage / stages
        guesses = [nu, 2 * nu - before, nu * stage / max(stage - 1, 1)]
        guess = min(guesses, key=lambda guess: np.linalg.norm(X @ _sinh(X.T @ guess, now) - y))
        before, (nu, beta, error) = nu, _maximize(X, y, guess, now, goal * size)
    if error > max(tolerance, 1e-9) * size:
        raise RuntimeError(f"‖Xβ − y‖/‖y‖ = {error / size:.1e} is all that Newton reaches; take a larger α")
    return beta


def _maximize(X, y, nu, log_alpha, goal: float, iterations: int = 200):
    """The best ν on the way to the maximum of the dual, with its β and ‖Xβ − y‖; stops where that is below `goal`."""
    best = nu, np.zeros(X.shape[1]), np.inf
    for _ in range(iterations):
        z = X.T @ nu
        beta, curvature = _sinh(z, log_alpha), _cosh(z, log_alpha)
        residual = y - X @ beta
        if (error := np.linalg.norm(residual)) < best[2]:
            best = nu, beta, error
        if best[2] <= goal:
            break
        step = _newton_step(X, curvature, residual)
        length = min(1.0, LONGEST / max(np.abs(X.T @ step).max(), np.finfo(float).tiny))
        value, slope = y @ nu - curvature.sum(), residual @ step
        while length > 1e-14 and not (
            y @ (nu + length * step) - _cosh(z + length * (X.T @ step), log_alpha).sum()
            >= value + 1e-4 * length * slope - 1e-14 * abs(value)
        ):
            length /= 2
        nu = nu + length * step
    return best


def _newton_step(X, curvature, residual):
    """(X diag(curvature) Xᵀ)⁻¹ residual, by QR of √curvature Xᵀ with rows in falling order and pivoted columns: stable
    though the curvature spans many powers of ten. Directions that are lost to rounding are left out."""
    order = np.argsort(-curvature)
    top = curvature[order[0]]
    _, R, pivots = qr(np.sqrt(curvature[order] / top)[:, None] * X[:, order].T, mode="economic", pivoting=True)
    size = np.abs(np.diag(R))
    rank = int((size > 1e-10 * size[0]).sum())
    R, pivots = R[:rank, :rank], pivots[:rank]
    step = np.zeros(len(X))
    inner = solve_triangular(R, residual[pivots], trans="T")
    step[pivots] = solve_triangular(R, inner) / top
    return step


def _sinh(z, log_alpha):
    """2α² sinh(z), where α² alone may underflow or sinh overflow."""
    return np.copysign(np.exp(np.abs(z) + 2 * log_alpha) * -np.expm1(-2 * np.abs(z)), z)


def _cosh(z, log_alpha):
    """2α² cosh(z)."""
    return np.exp(np.abs(z) + 2 * log_alpha) * (1 + np.exp(-2 * np.abs(z)))
