"""Normalized SAM on a quadratic bounces across its steepest direction (Bartlett, Long and Bousquet, 2022).

For ℓ(w) = ½ wᵀΛw with Λ = diag(λ_1 ≥ … ≥ λ_d ≥ 0), SAM with step size η and radius ρ is a diagonal map that is coupled
only through the length of the gradient v = Λw:

    w_{t+1} = (I − ηΛ − (ηρ/‖v_t‖) Λ²) w_t,        v_{t+1,i} = (1 − ηλ_i)(1 − γ_i/‖v_t‖) v_{t,i}.

For 0 < η < 1/(2λ_1) and λ_1 > λ_2 it ends, from almost every start, in jumps between the two points
±ηρλ_1/(2 − ηλ_1) e_1. In u_t = (−1)^t w_t it is gradient descent with the step size ηρ on the potential
J(u) = ½ uᵀCu − ‖Λu‖, C = diag((2 − ηλ_i)/(ηρ)), whose only local minima are these two points.

Arguments are numbers, sequences, NumPy arrays or tensors; one tensor among them makes the result a tensor. Leading
dimensions of `lam` (…×d), `w` (…×d), `eta` and `rho` (…) are problems side by side.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


class Constants(NamedTuple):
    """What decides which component of v = Λw grows: γ, β, α and C's diagonal c (…×d); b and the limit (…)."""

    gamma: Array
    beta: Array
    alpha: Array
    b: Array
    limit: Array
    c: Array


def constants(lam, eta, rho) -> Constants:
    """The thresholds of the recurrence of v = Λw, in units of a gradient; `limit` in units of w.

        γ_i = ηρλ_i²/(1 − ηλ_i)          beyond it v_i keeps its sign, below it changes sign
        β_i = ηρλ_i²/(2 − ηλ_i)          ‖v‖ > β_i if and only if |v_i| falls
        α_i = ((1 − ηλ_1)γ_1 + (1 − ηλ_i)γ_i)/(2 − ηλ_1 − ηλ_i)
                                         ‖v‖ < α_i if and only if |v_1/v_i| grows; α_1 = γ_1
        b = (1 − ηλ_1)γ_1                ‖v‖ ≤ b is kept
        limit = ηρλ_1/(2 − ηλ_1)         SAM ends at ± limit e_1;  c_i = (2 − ηλ_i)/(ηρ)

    lam: the eigenvalues λ, descending (…×d). Raises ValueError unless λ_1 ≥ … ≥ λ_d ≥ 0, λ_1 > 0, 0 < η < 1/(2λ_1) and
    ρ > 0, all finite.

    >>> thresholds = constants([1.0, 0.5, 0.1], eta=0.1, rho=0.1)
    >>> round(float(thresholds.limit), 9)
    0.005263158
    >>> bool((thresholds.beta < thresholds.alpha).all())
    True
    """
    lam, eta, rho = _checked(lam, eta, rho)
    first, step, radius = lam[..., :1], _column(eta), _column(rho)
    gamma = step * radius * lam**2 / (1 - step * lam)
    beta = step * radius * lam**2 / (2 - step * lam)
    b = step * radius * first**2
    alpha = (b + (1 - step * lam) * gamma) / (2 - step * first - step * lam)
    limit = step * radius * first / (2 - step * first)
    return Constants(gamma, beta, alpha, b[..., 0], limit[..., 0], (2 - step * lam) / (step * radius))


def step(w, lam, eta, rho):
    """One step of normalized SAM on ½wᵀΛw: (I − ηΛ − (ηρ/‖Λw‖)Λ²)w, of the shape of w (…×d).

    Where the gradient Λw is 0, SAM has no direction to climb and w stays. η is any positive number here, for SAM is
    defined beyond the theorem's range. Raises ValueError for λ that is not descending, or unless η > 0 and ρ ≥ 0.

    >>> step([0.01, 0.0], [1.0, 0.5], eta=0.1, rho=0.1).round(6).tolist()
    [-0.001, 0.0]
    """
    w, lam, eta, rho = _arrays(w, lam, eta, rho)
    _check_spectrum(lam)
    _check_numbers(eta, rho, zero=True)
    return _step(w, lam, _column(eta), _column(rho))


def trajectory(w, lam, eta, rho, steps: int):
    """w_0 … w_steps under `step`, along a new first dimension: (steps + 1)×…×d. Errors as `step`.

    >>> trajectory([0.01, 0.0], [1.0, 0.5], eta=0.1, rho=0.1, steps=500)[-1].round(9).tolist()
    [0.005263158, 0.0]
    """
    w, lam, eta, rho = _arrays(w, lam, eta, rho)
    _check_spectrum(lam)
    _check_numbers(eta, rho, zero=True)
    points = [w]
    for _ in range(steps):
        points.append(_step(points[-1], lam, _column(eta), _column(rho)))
    return torch.stack(points) if isinstance(w, torch.Tensor) else np.stack(points)


def growth(norm, lam, eta, rho):
    """v_{t+1,i}/v_{t,i} = (1 − ηλ_i)(1 − γ_i/‖v_t‖) for every component, at ‖v_t‖ = norm (…): …×d.

    Negative where the component changes sign. Errors as `constants`.

    >>> growth(0.1, [1.0, 0.5], eta=0.1, rho=0.1).round(4).tolist()
    [0.8, 0.925]
    """
    lam, eta, rho = _checked(lam, eta, rho)
    (norm,) = _arrays(norm)
    gamma = constants(lam, eta, rho).gamma
    return (1 - _column(eta) * lam) * (1 - gamma / _column(norm))


def potential(u, lam, eta, rho):
    """J(u) = ½uᵀCu − ‖Λu‖ with c_i = (2 − ηλ_i)/(ηρ): what u_t = (−1)^t w_t descends. …×d to …; errors as `constants`.

    Its least value is −β_1/2, at ± limit e_1.

    >>> round(float(potential([1 / 190, 0.0], [1.0, 0.5], eta=0.1, rho=0.1)), 9)
    -0.002631579
    """
    u, lam, eta, rho = _arrays(u, *_checked(lam, eta, rho))
    return (constants(lam, eta, rho).c * u**2).sum(-1) / 2 - _length(lam * u)[..., 0]


def potential_gradient(u, lam, eta, rho):
    """∇J(u) = Cu − Λ²u/‖Λu‖, so that u_{t+1} = u_t − ηρ∇J(u_t); u is not in the null space of Λ. Errors as `constants`.

    >>> bool(abs(potential_gradient([1 / 190, 0.0], [1.0, 0.5], eta=0.1, rho=0.1)).max() < 1e-12)
    True
    """
    u, lam, eta, rho = _arrays(u, *_checked(lam, eta, rho))
    return constants(lam, eta, rho).c * u - lam**2 * u / _length(lam * u)


def descent(u, lam, eta, rho):
    """What a step changes in J at most: −(1/2ρ) Σ_i u_i² (1 − β_i/‖Λu‖)² (2 − ηλ_i)² λ_i (…). Errors as `constants`.

    >>> float(descent([1 / 190, 0.0], [1.0, 0.5], eta=0.1, rho=0.1)) > -1e-12
    True
    """
    u, lam, eta, rho = _arrays(u, *_checked(lam, eta, rho))
    share = 1 - constants(lam, eta, rho).beta / _length(lam * u)
    return -((u * share * (2 - _column(eta) * lam)) ** 2 * lam).sum(-1) / (2 * rho)


def stationary_hessian(direction, lam, eta, rho):
    """∇²J at (β_i/λ_i)û, a d×d matrix: Λ²(Σ_{j: β_j ≠ β_i} (1/β_j − 1/β_i) e_j e_jᵀ + (1/β_i) ûûᵀ).

    direction: û, a vector (d) in the span of the e_j that share one λ_i > 0; its length does not matter. It has as many
    negative eigenvalues as there are β_j > β_i, and zeros for all but one of those that equal β_i.
    Errors as `constants`; ValueError also for a direction across several eigenvalues or with λ = 0.

    >>> np.linalg.eigvalsh(stationary_hessian([0, 1.0], [1.0, 0.5], eta=0.1, rho=0.1)).round(2).tolist()
    [-590.0, 195.0]
    """
    u, lam, eta, rho = _arrays(direction, *_checked(lam, eta, rho))
    chosen = lam[u != 0]
    if lam.ndim != 1 or u.shape != lam.shape or len(chosen) == 0 or (chosen != chosen[0]).any() or chosen[0] == 0:
        raise ValueError(f"direction = {direction!r}: must lie in the span of eigenvectors of one eigenvalue above 0")
    c, beta = constants(lam, eta, rho).c, constants(lam, eta, rho).beta[u != 0][0]
    u = u / _length(u)
    module = torch if isinstance(u, torch.Tensor) else np
    return module.diag(c * (lam != chosen[0]) - lam**2 / beta * (lam != chosen[0])) + c[u != 0][0] * module.outer(u, u)


def visits_bound(lam, eta, rho, epsilon: float):
    """At most how many steps have ‖v_t‖ ≥ (1 + ε)β_1 once ‖v_t‖ ≤ b: 3β_1/(ηε²λ_1β_d); inf where λ_d = 0.

    Errors as `constants`; ValueError also unless ε > 0.

    >>> round(float(visits_bound([1.0, 0.5], eta=0.1, rho=0.1, epsilon=0.1)))
    12316
    """
    lam, eta, rho = _checked(lam, eta, rho)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon = {epsilon!r}: must be a finite number above 0")
    beta = constants(lam, eta, rho).beta
    with np.errstate(divide="ignore"):
        return 3 * beta[..., 0] / (eta * epsilon**2 * lam[..., 0] * beta[..., -1])


def sam_edge(gradient_norm, eta, rho):
    """The curvature beyond which normalized SAM grows along an eigenvector of the Hessian (Long and Bartlett, 2023):

        (‖g‖/2ρ)(√(1 + 8ρ/(η‖g‖)) − 1),  here as (4/η)/(1 + √(1 + 8ρ/(η‖g‖))), which does not cancel.

    It is 2/η, gradient descent's, at ρ = 0, and 0 at ‖g‖ = 0 with ρ > 0. gradient_norm: ‖g‖ ≥ 0, of any shape.
    Raises ValueError unless ‖g‖ ≥ 0, η > 0 and ρ ≥ 0.

    >>> float(sam_edge(1.0, eta=0.1, rho=0.0))
    20.0
    >>> round(float(sam_edge(1 / 190, eta=0.1, rho=0.1)), 9)  # the curvature 1 where SAM bounces on it
    1.0
    """
    norm, eta, rho = _arrays(gradient_norm, eta, rho)
    _check_numbers(eta, rho, zero=True)
    if not _all(norm >= 0):
        raise ValueError(f"gradient_norm = {gradient_norm!r}: must be numbers, 0 or more")
    ratio = 8 * rho / eta + 0 * norm
    norm = (ratio == 0) + (np.float64(norm) if isinstance(norm, float) else norm)  # at ρ = 0 any length will do
    with np.errstate(divide="ignore"):
        return (4 / eta) / (1 + (1 + ratio / norm) ** 0.5)


def _step(w, lam, eta, rho):
    # As SAM computes it, not by the factor of each component: they differ where a component is about to underflow.
    length = _length(lam * w)
    climbed = w + rho * lam * w / (length + (length == 0))
    return w - eta * lam * climbed


def _length(v):
    return ((v**2).sum(-1) ** 0.5)[..., None]


def _column(number):
    return number[..., None] if getattr(number, "ndim", 0) else number


def _arrays(*values):
    """Each as a tensor if one of them is, else as an array, in float64 unless it is one in another precision.

    Single numbers stay, so that they do not raise the precision of the others."""
    like = next((value for value in values if isinstance(value, torch.Tensor)), None)
    return [float(value) if isinstance(value, int | float) else _array(value, like) for value in values]


def _array(value, like):
    if isinstance(value, torch.Tensor):
        return value if value.is_floating_point() else value.double()
    array = np.asarray(value)
    array = array if np.issubdtype(array.dtype, np.floating) else array.astype(float)
    return array if like is None else torch.as_tensor(array, device=like.device)


def _checked(lam, eta, rho):
    lam, eta, rho = _arrays(lam, eta, rho)
    _check_spectrum(lam)
    _check_numbers(eta, rho, zero=False)
    if not _all(2 * eta * lam[..., 0] < 1):
        raise ValueError(f"eta = {eta!r}: the theorem holds for 0 < eta < 1/(2 λ_1), λ_1 = {lam[..., 0]!r}")
    return lam, eta, rho


def _check_spectrum(lam):
    if getattr(lam, "ndim", 0) == 0 or lam.shape[-1] == 0:
        raise ValueError(f"lam = {lam!r}: must be the eigenvalues, one or more")
    if not _all((lam[..., :-1] >= lam[..., 1:]) & (lam[..., 1:] >= 0)) or not _all(
        (lam > 0)[..., 0] & (lam < math.inf)[..., 0]
    ):
        raise ValueError(
            f"lam = {lam!r}: must be finite eigenvalues in descending order, the first above 0, none below 0"
        )


def _check_numbers(eta, rho, *, zero: bool):
    if not (_all(eta > 0) and _all(eta < math.inf)):
        raise ValueError(f"eta = {eta!r}: the step size must be a finite number above 0")
    if not (_all(rho >= 0 if zero else rho > 0) and _all(rho < math.inf)):
        raise ValueError(f"rho = {rho!r}: the radius must be a finite number{', 0 or more' if zero else ' above 0'}")


def _all(condition) -> bool:
    return bool(condition if isinstance(condition, bool) else condition.all())
