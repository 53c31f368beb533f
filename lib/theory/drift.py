"""While it bounces, SAM drifts towards a smaller λ_max of the Hessian (Bartlett, Long and Bousquet, 2022).

At a minimum w_z, ∇ℓ(w_z) = 0, let H = ∇²ℓ(w_z) have the top eigenvalue λ_1 > λ_2 with the unit eigenvector e_1. From
the point w_t = w_z + s β_1/λ_1 e_1 at which SAM bounces on the quadratic of H, s = ±1, one step of SAM on ℓ itself is

    w_{t+1} − w_t = −2s (ηρλ_1/(2 − ηλ_1)) e_1 − (ηρ²/2)(1 + ηλ_1/(2 − ηλ_1))² ∇λ_max(∇²ℓ(w_z)) + error,

where ∇λ_max(∇²ℓ(w)) = ∇(e_1ᵀ∇²ℓ(w)e_1) is a third derivative. Over two steps the first term cancels and the second
doubles. The error is at most `error_bound`.
"""

from collections.abc import Callable

import torch

from lib.theory.bouncing import constants


def bounce(e1: torch.Tensor, lam1: float, eta: float, rho: float) -> torch.Tensor:
    """(ηρλ_1/(2 − ηλ_1)) e_1 (d): from the minimum to where SAM bounces. Raises ValueError as `bouncing.constants`.

    >>> bounce(torch.tensor([1.0, 0.0], dtype=torch.float64), 1.0, eta=0.1, rho=0.1)
    tensor([0.0053, 0.0000], dtype=torch.float64)
    """
    return float(constants([lam1], eta, rho).limit) * e1


def drift(gradient: torch.Tensor, lam1: float, eta: float, rho: float) -> torch.Tensor:
    """−(ηρ²/2)(1 + ηλ_1/(2 − ηλ_1))² ∇λ_max (d): what a step adds to the bounce; twice that over two steps.

    gradient: of λ_max at the minimum. Raises ValueError as `bouncing.constants`.

    >>> round(drift(torch.tensor([0.0, 1.0]), 1.0, eta=0.1, rho=0.1)[1].item(), 8)
    -0.00055402
    """
    constants([lam1], eta, rho)
    return -eta * rho**2 / 2 * (1 + eta * lam1 / (2 - eta * lam1)) ** 2 * gradient


def error_bound(lam1: float, B: float, eta: float, rho: float) -> float:
    """ηρ²((1 + ηλ_1)³ρ/6 + 2(2λ_1 + Bρ)η)B: how far one step may be from bounce and drift, if Bηρ ≤ 1.

    B: the theorem takes the Lipschitz constant of D³ℓ. A cubic has B = 0 and yet an error, so B must also bound
    ‖D³ℓ‖: give the larger of the two. Raises ValueError if Bηρ > 1 or B < 0, and as `bouncing.constants`.

    >>> round(error_bound(1.0, 1.0, eta=0.1, rho=0.1), 6)
    0.000442
    """
    constants([lam1], eta, rho)
    if not 0 <= B * eta * rho <= 1:
        raise ValueError(f"B = {B!r}: the theorem holds for B ≥ 0 and B·eta·rho ≤ 1, here {B * eta * rho:.3g}")
    return eta * rho**2 * ((1 + eta * lam1) ** 3 * rho / 6 + 2 * (2 * lam1 + B * rho) * eta) * B


def sam_step(gradient: Callable[[torch.Tensor], torch.Tensor], w: torch.Tensor, eta, rho) -> torch.Tensor:
    """w − η∇ℓ(w + ρ∇ℓ(w)/‖∇ℓ(w)‖) for any loss; gradient: w (…×d) to ∇ℓ(w) (…×d). GD's step where ρ or ∇ℓ(w) is 0.

    eta, rho: numbers, or for runs side by side tensors (…×1).

    >>> sam_step(lambda w: w, torch.tensor([1.0, 0.0], dtype=torch.float64), eta=0.5, rho=0.2).tolist()
    [0.4, 0.0]
    """
    g = gradient(w)
    length = g.norm(dim=-1, keepdim=True)
    climb = torch.where(length > 0, rho / length.clamp(min=torch.finfo(g.dtype).tiny), 0)
    return w - eta * gradient(w + climb * g)


def gradient_of(loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """∇ℓ as a function, for a loss of a flat vector.

    >>> gradient_of(lambda w: w.square().sum() / 2)(torch.tensor([3.0])).tolist()
    [3.0]
    """

    def gradient(w):
        w = w.detach().requires_grad_()
        return torch.autograd.grad(loss(w), w)[0]

    return gradient


def curvature_gradient(loss: Callable[[torch.Tensor], torch.Tensor], w: torch.Tensor, e1: torch.Tensor) -> torch.Tensor:
    """∇(e_1ᵀ∇²ℓ(w)e_1) (d) by three passes of autograd: ∇λ_max where e_1 is the unit eigenvector of a simple λ_max.

    The eigenvector turns with w, but to first order that does not change λ_max. loss: a flat vector (d) to a scalar,
    three times differentiable.

    >>> w, e1 = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> curvature_gradient(lambda w: (1 + 3 * w[1]) * w[0] ** 2 / 2, w, e1).tolist()
    [0.0, 3.0]
    """
    w = w.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(w), w, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ e1, w, create_graph=True)
    return torch.autograd.grad(product @ e1, w)[0]
