"""The drift of SAM on losses whose derivatives are known, against the theorem and its error bound (notebook 06)."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pandas
import torch

from lib.theory import drift


def polynomial_errors(
    count: int, rhos: Sequence[float], *, share: tuple[float, float] = (0.01, 0.45), d: int = 4, seed: int = 0
) -> pandas.DataFrame:
    """SAM at w_z + β_1/λ_1 e_1, w_z = 0, on random ℓ(w) = ½ Σλ_i w_i² + D₃[w³]/6 (cubic), and + D₄[w⁴]/24 (quartic).

    share, ηλ_1, is log-uniform; ‖D₃‖ and ‖D₄‖ are 1 in the Frobenius norm, which bounds the operator norm. The other
    λ_i are at least a quarter of λ_1 ("curved") or 0 ("flat"). Rows: loss, degree, floor, rho, share; error and drift
    of one step, error2 and drift2 of two; printed and corrected, the bound on `error` with B = ‖D₄‖, the Lipschitz
    constant of D³ℓ, and with B = max(‖D₄‖, sup ‖D³ℓ‖) where SAM goes.
    """
    random, rows = torch.Generator().manual_seed(seed), []
    draw = functools.partial(torch.randn, generator=random, dtype=torch.float64)
    for index in range(count):
        curved = torch.rand(d, generator=random, dtype=torch.float64).sort(descending=True)[0] + 0.5
        curved[0] += 0.5
        flat = curved * torch.eye(d, dtype=torch.float64)[0]
        now = share[0] * (share[1] / share[0]) ** torch.rand(1, generator=random).item()
        eta = now / curved[0].item()
        third, fourth = _symmetric(draw(d, d, d)), _symmetric(draw(d, d, d, d))
        quartics = {"cubic": torch.zeros_like(fourth), "quartic": fourth}
        for (degree, quartic), (floor, lam) in itertools.product(
            quartics.items(), (("curved", curved), ("flat", flat))
        ):
            for rho in rhos:
                rows.append({"loss": index, "degree": degree, "floor": floor, "rho": rho, "share": now})
                gradient = _Gradient(lam, third, quartic)
                rows[-1] |= _errors(gradient, lam[0].item(), third, float(quartic.norm()), eta, rho)
    return pandas.DataFrame(rows)


class _Gradient:
    """∇ℓ of such a polynomial."""

    def __init__(self, lam, third, fourth):
        self.lam, self.third, self.fourth = lam, third, fourth

    def __call__(self, w):
        return self.lam * w + self.third @ w @ w / 2 + self.fourth @ w @ w @ w / 6


def _symmetric(tensor):
    orders = list(itertools.permutations(range(tensor.dim())))
    mean = sum(tensor.permute(order) for order in orders) / len(orders)
    return mean / mean.norm()


def _errors(gradient, lam1, third, lipschitz, eta, rho):
    e1 = torch.eye(len(third), dtype=torch.float64)[0]
    start, predicted = drift.bounce(e1, lam1, eta, rho), drift.drift(third[0, 0], lam1, eta, rho)
    once = drift.sam_step(gradient, start, eta, rho)
    twice = drift.sam_step(gradient, once, eta, rho)
    reach = start.norm().item() + rho  # SAM's gradients are taken within this distance of w_z
    largest = max(lipschitz, third.norm().item() + lipschitz * reach)
    return {
        "error": (once - start + 2 * start - predicted).norm().item(),
        "printed": drift.error_bound(lam1, lipschitz, eta, rho),
        "corrected": drift.error_bound(lam1, largest, eta, rho),
        "drift": predicted.norm().item(),
        "error2": (twice - start - 2 * predicted).norm().item(),
        "drift2": 2 * predicted.norm().item(),
    }


def toy(rho: float, eta: float = 0.1) -> dict[str, float]:
    """ℓ = ½(1 + w_2)w_1²: the error of one step, and the bound as printed (B = 0) and with B = sup ‖D³ℓ‖.

    D³ℓ has the entries 1 at (1,1,2) and its permutations; its operator norm, the maximum of 3a²b over a² + b² = 1, is
    2/√3.
    """
    third = torch.zeros(2, 2, 2, dtype=torch.float64)
    for order in set(itertools.permutations((0, 0, 1))):
        third[order] = 1.0
    gradient = _Gradient(
        torch.tensor([1.0, 0.0], dtype=torch.float64), third, torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    )
    errors = _errors(gradient, 1.0, third, 0.0, eta, rho)
    return errors | {"corrected": drift.error_bound(1.0, 2 / 3**0.5, eta, rho)}


def valley(w1, w2):
    """½λ(w_2)w_1² with the curvature λ(w_2) = ½ + 2/(1 + e^{−w_2}), between ½ and 2½."""
    return (0.5 + 2 / (1 + np.exp(-w2))) * w1**2 / 2


def valley_paths(start: tuple[float, float], *, eta: float, rho: float, steps: int) -> pandas.DataFrame:
    """SAM and GD in the valley: optimizer, step, w1, w2, curvature λ(w_2)."""

    def gradient(w):
        s = torch.sigmoid(w[..., 1:])
        return torch.cat([(0.5 + 2 * s) * w[..., :1], s * (1 - s) * w[..., :1] ** 2], -1)

    w, radii = torch.tensor([start, start], dtype=torch.float64), torch.tensor([[0.0], [rho]], dtype=torch.float64)
    path = [w]
    for _ in range(steps):
        path.append(drift.sam_step(gradient, path[-1], eta, radii))
    parts = []
    for i, optimizer in enumerate(("GD", "SAM")):
        w1, w2 = torch.stack(path)[:, i].T.numpy()
        frame = pandas.DataFrame({"optimizer": optimizer, "step": range(steps + 1), "w1": w1, "w2": w2})
        parts.append(frame.assign(curvature=0.5 + 2 / (1 + np.exp(-w2))))
    return pandas.concat(parts, ignore_index=True)
