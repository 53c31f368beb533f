"""How flat a trained network's minimum is, and how alike its samples' Hessians are: what Figure 2 measures (Section 4).

With H_i the Hessian of sample i's loss at the minimum, H = mean_i H_i and M_k = mean_i H_i^k:

    a = λ_max(H)        s_k = λ_max(M_k − H^k)^{1/k}        T = mean_i (I − ηH_i − ηρH_i²)²  (Theorem 9)

The same for mini-batches, whose Hessian H_B is the mean of B independent draws: s_k(B) = λ_max(E H_B^k − H^k)^{1/k}, of
which s_2(B) = s_2/√B exactly, while E H_B³ and E H_B⁴ are means over batches that are drawn. As λ_max is convex, it is
on average too large at such a mean: s_3(B) and s_4(B) are estimates from above, and the same estimate of s_2(B) beside
its exact value shows from how far.
"""

import math
import statistics
from dataclasses import replace

import torch
from torch import nn

from lib import hessian
from lib.core import interruption, losses
from lib.core.seeds import generator
from lib.hessian.lanczos import Eigen, Operator, inner, lanczos
from lib.hessian.operators import check_power, mean_hessian

MOMENTS = (2, 3, 4)
PROBES = 4  # random starts of the spectral density


def flatness(
    before: nn.Module, after: nn.Module, batches, run, *, samples: int = 1000, batch: int = 128, draws: int = 8
):
    """What Section 4 says about the minimum, on the first `samples` training samples, as many of each class.

    sample_loss, gradient: the mean loss there, and the norm of its gradient; batch_gradient: the mean norm of the
    gradients of batches, by which SAM divides its ρ. a, s2, s3, s4: with `_residual` and
    `_converged` for each. stability, stable: of Theorem 9 at the run's η and ρ, for batches of one and unnormalized
    SAM. batch_s2, batch_s3, batch_s4: the same moments for batches of `batch` samples, the last two and batch_gradient
    from `batch_draws` of them, with the standard error of that mean as `_error`, which says nothing of the bias;
    batch_s2_drawn: of batch_s2 what the draws alone would give, a yardstick of the bias of batch_s3 and batch_s4.
    density_nodes and density_weights: the spectral density of H as point masses, the mean over `density_probes` random
    starts.
    """
    x, y = batches.balanced(samples)
    result = {"samples": len(x), **_descent(after, run.loss, x, y)}
    norms = [_descent(after, run.loss, x[i], y[i])["gradient"] for i in draw_batches(len(x), batch, draws, run.seed)]
    result |= {"batch_draws": draws, "batch_gradient": statistics.fmean(norms), "batch_gradient_error": _error(norms)}
    eigen = hessian.moments(after, run.loss, x, y, MOMENTS)
    eigen["stability"] = bound = hessian.stability(after, run.loss, x, y, eta=run.lr, rho=run.rho)
    for k, name in zip(MOMENTS, ("batch_s2_drawn", "batch_s3", "batch_s4"), strict=True):
        drawn = batch_moment(after, run.loss, x, y, k, batch, draws, seed=run.seed)
        eigen[name], result[f"{name}_error"] = drawn
    for name, e in eigen.items():
        result |= {name: e.value, f"{name}_residual": e.residual, f"{name}_converged": e.converged}
    result |= {"stable": hessian.is_stable(bound), "batch_s2": result["s2"] / math.sqrt(batch)}
    density = hessian.spectral_density(after, run.loss, x, y, probes=PROBES)
    result |= {"density_nodes": density.nodes.tolist(), "density_weights": density.weights.tolist()}
    return result | {"density_probes": PROBES}


def landscape(
    before: nn.Module, after: nn.Module, batches, run, *, samples: int = 1000, radius: float = 1.0, points: int = 21
):
    """The loss at w + u·v₁ + v·v₂ for u and v from −radius to radius, with v₁ and v₂ the eigenvectors of the two
    largest eigenvalues of H (Figures 2a and 2b), on the first `samples` training samples, as many of each class.

    eigenvalues: of both, with their relative residuals and whether they converged as eigenvalues_residual and
    eigenvalues_converged, which older records lack; axis: the values of u and v; surface: the losses, a row for each v,
    an entry for each u.
    """
    x, y = batches.balanced(samples)
    h = mean_hessian(hessian.sample_hessians(after, run.loss, x, y))
    first = lanczos(h)
    # Without v₁, which is pushed below all other eigenvalues, v₂ is on top.
    second = lanczos(h - Operator(h.shape, lambda u: _rank_one(first, u), dtype=h.dtype, device=h.device), seed=1)
    w = nn.utils.parameters_to_vector(after.parameters()).detach()
    axis = torch.linspace(-radius, radius, points, dtype=torch.float64).tolist()
    target, rows = losses.target(run.loss, y, batches.classes, x.dtype), []
    with torch.no_grad():
        for v in axis:
            rows.append([])
            for u in axis:
                interruption.check()
                nn.utils.vector_to_parameters(w + u * first.vector + v * second.vector, after.parameters())
                rows[-1].append(losses.per_sample(run.loss, after(x), target).double().mean().item())
        nn.utils.vector_to_parameters(w, after.parameters())
    pair = first, second
    result = {"eigenvalues": [e.eigenvalue for e in pair], "axis": axis, "surface": rows, "samples": len(x)}
    result["eigenvalues_residual"] = [e.residual for e in pair]
    return result | {"eigenvalues_converged": [e.converged for e in pair]}


def batch_moment(
    model: nn.Module, loss: str, x, y, k: int, batch: int, draws: int, *, seed: int = 0
) -> tuple[Eigen, float | None]:
    """s_k(B) = λ_max(E H_B^k − H^k)^{1/k} for batches of B = `batch` of the N samples, drawn with replacement; the mean
    over `draws` of them stands for the expectation, so that λ is too large on average. Returns an `Eigen`, as
    `hessian.nonuniformity`, and the standard error of its `value` (None for one draw): to first order, from vᵀH_B^k v
    of each draw, v the eigenvector. ValueError unless k, batch and draws are 1 or more.
    """
    check_power(k)
    if not (batch >= 1 and draws >= 1):
        raise ValueError(f"batch = {batch!r}, draws = {draws!r}: both must be 1 or more")
    whole = mean_hessian(hessian.sample_hessians(model, loss, x, y))
    parts = [
        mean_hessian(hessian.sample_hessians(model, loss, x[i], y[i])) for i in draw_batches(len(x), batch, draws, seed)
    ]
    powers = [part**k for part in parts]
    result = lanczos((1 / draws) * sum(powers[1:], powers[0]) - whole**k)
    value = math.copysign(abs(result.eigenvalue) ** (1 / k), result.eigenvalue)
    slope = value / (k * result.eigenvalue) if result.eigenvalue else 0.0  # ds/dλ
    error = _error([slope * inner(result.vector[None], power @ result.vector).item() for power in powers])
    return replace(result, value=value), error


def _error(draws: list[float]) -> float | None:
    """The standard error of the mean; None for a single draw."""
    return statistics.stdev(draws) / math.sqrt(len(draws)) if len(draws) > 1 else None


def draw_batches(n: int, batch: int, draws: int, seed: int) -> list[torch.Tensor]:
    """The indices of `draws` batches, drawn with replacement from n samples."""
    return [torch.randint(n, (batch,), generator=generator(seed, "batches", draw)) for draw in range(draws)]


def _rank_one(eigen, u):
    return (2 * abs(eigen.eigenvalue) * inner(eigen.vector[None], u).item()) * eigen.vector


def _descent(model, loss, x, y) -> dict:
    interruption.check()
    model.zero_grad()
    output = model(x)
    value = losses.per_sample(loss, output, losses.target(loss, y, output.shape[-1], output.dtype)).mean()
    squares = [g.double().square().sum() for g in torch.autograd.grad(value, list(model.parameters()))]
    return {"sample_loss": value.item(), "gradient": math.sqrt(sum(squares).item())}
