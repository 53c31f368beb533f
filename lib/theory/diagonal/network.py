"""Diagonal linear networks: β = w₊² − w₋², or β = u ⊙ v, and the SAM gradients of the squared loss on them.

    L(w) = (1/4n) Σ_i r_i²,   r = Xβ − y   (equation 5 of "Towards Understanding SAM")

A per-sample gradient is r_i x_i ⊙ w₊ (and −r_i x_i ⊙ w₋), so every ascent step multiplies w₊ and w₋ by 1 ± a:

    n-SAM: a = (ρ/n) Xᵀr for all samples;   1-SAM: a_i = c ρ r_i x_i for sample i.

Three values of the ascent factor c are in use under the one name 1-SAM. c = 1 is equation 8 with ℓ_i = r_i²/4, of which
(5) is the mean. c = 2 is the released code. c = 4 is the proof of Theorem 5. c and ρ enter only by their product.
"""

from typing import NamedTuple

import numpy as np

METHODS = ("gd", "n-sam", "1-sam")
ASCENT_FACTORS = {"equation 8": 1.0, "released code": 2.0, "proof of Theorem 5": 4.0}


def check_method(method: str) -> str:
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
    return method


def beta_of(w: np.ndarray) -> np.ndarray:
    """β = w₊² − w₋² (…, d) of w = (w₊, w₋) (…, 2, d).

    >>> beta_of(np.array([[2.0, 1.0], [1.0, 1.0]]))
    array([3., 0.])
    """
    return w[..., 0, :] ** 2 - w[..., 1, :] ** 2


def to_uv(w: np.ndarray) -> np.ndarray:
    """(u, v) = (w₊ + w₋, w₊ − w₋), (…, 2, d): u ⊙ v = β, and gradient descent on ‖X(u ⊙ v) − y‖²/2n with the same
    step size takes the same steps as on L(w).

    >>> to_uv(np.array([[0.5, 0.5], [0.5, 0.5]]))
    array([[1., 1.],
           [0., 0.]])
    """
    return np.stack((w[..., 0, :] + w[..., 1, :], w[..., 0, :] - w[..., 1, :]), -2)


def from_uv(uv: np.ndarray) -> np.ndarray:
    """(w₊, w₋) of (u, v): half of `to_uv`, its inverse.

    >>> w = np.array([[0.5, 0.4], [0.1, 0.2]])
    >>> np.allclose(from_uv(to_uv(w)), w)
    True
    """
    return to_uv(uv) / 2


class Samples(NamedTuple):
    """X (…, n, d), y (…, n), and the powers of X that 1-SAM needs."""

    X: np.ndarray
    y: np.ndarray
    square: np.ndarray
    cube: np.ndarray

    @classmethod
    def from_arrays(cls, X, y) -> "Samples":
        """ValueError unless X is (…, n, d) and y (…, n)."""
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        if X.ndim < 2 or y.shape != X.shape[:-1]:
            raise ValueError(f"X of shape {X.shape} and y of shape {y.shape}: must be (…, n, d) and (…, n)")
        return cls(X, y, X**2, X**3)


def residual(samples: Samples, beta: np.ndarray) -> np.ndarray:
    """r = Xβ − y. beta: (d,), (runs, d), or (problems, runs, d) where the samples are stacked over problems."""
    return beta @ samples.X.mT - _targets(samples, beta)


def loss(samples: Samples, beta: np.ndarray) -> np.ndarray:
    """L = Σ r²/(4n).

    >>> float(loss(Samples.from_arrays([[1.0, 1.0]], [3.0]), np.array([0.0, 1.0])))  # (1 − 3)²/4
    1.0
    """
    return (residual(samples, beta) ** 2).mean(-1) / 4


class Rates(NamedTuple):
    """Of w under SAM: d(log w₊)/dt = −(descent + shrinkage), d(log w₋)/dt = descent − shrinkage, both (…, d).

    shrinkage: of log α, (ρ/n²) Xᵀr_sam ⊙ Xᵀr for n-SAM and (cρ/n) Σ_i x_i² r_sam,i r_i for 1-SAM.
    """

    descent: np.ndarray
    shrinkage: np.ndarray


def rates(samples: Samples, plus: np.ndarray, minus: np.ndarray, method: str, radius, weights=None) -> Rates:
    """The rates of `method` at w, given as the squares w₊² and w₋² (…, d). radius: ρ, for 1-SAM cρ, a number or one a
    run with a last axis of 1.

    weights: of the samples in the descent gradient, (…, n), 1/n by default; a stochastic step puts all on one sample.
    The ascent of n-SAM is along the gradient of all samples, whatever the weights are.
    """
    n = samples.X.shape[-2]
    beta = plus - minus
    r = residual(samples, beta)
    share = 1 / n if weights is None else weights
    if method == "gd":
        descent = (share * r) @ samples.X
        return Rates(descent, np.zeros_like(descent))
    total = plus + minus
    if method == "n-sam":
        ascent = (radius / n) * (r @ samples.X)
        # w₊²(1 + a)² − w₋²(1 − a)² = β(1 + a²) + 2a(w₊² + w₋²)
        at_sam = r + (beta * ascent**2 + 2 * ascent * total) @ samples.X.mT
        descent = (share * at_sam) @ samples.X
        return Rates(descent, ascent * descent)
    b = radius * r
    at_sam = r + b * (2 * (total @ samples.square.mT) + b * (beta @ samples.cube.mT))
    pull = share * at_sam
    return Rates(pull @ samples.X, (b * pull) @ samples.square)


def first_order_shrinkage(samples: Samples, beta: np.ndarray, method: str, radius) -> np.ndarray:
    """`Rates.shrinkage` of the full batch to first order in ρ, with r in place of r_sam, (…, d)."""
    r, n = residual(samples, beta), samples.X.shape[-2]
    if method == "gd":
        return np.zeros_like(beta)
    if method == "n-sam":
        return radius * (r @ samples.X / n) ** 2
    return (radius / n) * r**2 @ samples.square


def velocity(samples: Samples, w: np.ndarray, method: str, radius, weights=None) -> np.ndarray:
    """Minus the SAM gradient at w, (…, 2, d): −(1/n) Σ_i ∇ℓ_i at the point to which `method` ascends.

    >>> w = np.array([[1.0], [1.0]])  # L(w) = (w₊² − w₋² − 3)²/4
    >>> velocity(Samples.from_arrays([[1.0]], [3.0]), w, "gd", 0.0).ravel().tolist()
    [3.0, -3.0]
    """
    plus, minus = w[..., 0, :], w[..., 1, :]
    descent, shrinkage = rates(samples, plus**2, minus**2, method, radius, weights)
    return np.moveaxis(np.stack((-plus * (descent + shrinkage), minus * (descent - shrinkage))), 0, -2)


def _targets(samples: Samples, beta: np.ndarray) -> np.ndarray:
    return samples.y if beta.ndim < samples.X.ndim else samples.y[..., None, :]
