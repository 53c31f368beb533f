"""How flat a trained network's minimum is, and how alike its samples' Hessians are: what Figure 2 measures (Section 4).

With H_i the Hessian of sample i's loss at the minimum, H = mean_i H_i and M_k = mean_i H_i^k:

    a = λ_max(H)        s_k = λ_max(M_k − H^k)^{1/k}        T = mean_i (I − ηH_i − ηρH_i²)²  (Theorem 9)

The same for mini-batches, whose Hessian H_B is the mean of B independent draws: s_k(B) = λ_max(E H_B^k − H^k)^{1/k}, of
which s_2(B) = s_2/√B exactly, while E H_B³ and E H_B⁴ are means over batches that are drawn.
"""

import math
from dataclasses import replace

import torch
from torch import nn

from lib import hessian, losses
from lib.lanczos import Operator, lanczos
from lib.operators import mean_hessian
from lib.seeds import generator

MOMENTS = (2, 3, 4)


def flatness(
    before: nn.Module, after: nn.Module, batches, run, *, samples: int = 1000, batch: int = 128, draws: int = 8
):
    """What Section 4 says about the minimum, on the first `samples` training samples, as many of each class.

    sample_loss, gradient: the mean loss there, and the norm of its gradient; batch_gradient: the mean norm of the
    gradients of batches, by which SAM divides its ρ. a, s2, s3, s4: with `_residual` and
    `_converged` for each. stability, stable: of Theorem 9 at the run's η and ρ, for batches of one and unnormalized
    SAM. batch_s2, batch_s3, batch_s4: the same moments for batches of `batch` samples, from `draws` of them.
    density_nodes and density_weights: the spectral density of H as point masses.
    """
    x, y = batches.balanced(samples)
    found = {"samples": len(x), **_descent(after, run.loss, x, y)}
    norms = [_descent(after, run.loss, x[i], y[i])["gradient"] for i in _batches(len(x), batch, draws, run.seed)]
    found["batch_gradient"] = sum(norms) / draws
    eigen = hessian.moments(after, run.loss, x, y, MOMENTS)
    eigen["stability"] = bound = hessian.stability(after, run.loss, x, y, eta=run.lr, rho=run.rho)
    eigen |= {f"batch_s{k}": batch_moment(after, run.loss, x, y, k, batch, draws, seed=run.seed) for k in MOMENTS[1:]}
    for name, e in eigen.items():
        found |= {name: e.value, f"{name}_residual": e.residual, f"{name}_converged": e.converged}
    found |= {"stable": hessian.is_stable(bound), "batch_s2": found["s2"] / math.sqrt(batch)}
    density = hessian.spectral_density(after, run.loss, x, y, probes=1)
    return found | {"density_nodes": density.nodes.tolist(), "density_weights": density.weights.tolist()}


def landscape(
    before: nn.Module, after: nn.Module, batches, run, *, samples: int = 1000, radius: float = 1.0, points: int = 21
):
    """The loss at w + u·v₁ + v·v₂ for u and v from −radius to radius, with v₁ and v₂ the eigenvectors of the two
    largest eigenvalues of H (Figures 2a and 2b), on the first `samples` training samples, as many of each class.

    eigenvalues: of both; axis: the values of u and v; surface: the losses, a row for each v, an entry for each u.
    """
    x, y = batches.balanced(samples)
    h = mean_hessian(hessian.samples(after, run.loss, x, y))
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
                nn.utils.vector_to_parameters(w + u * first.vector + v * second.vector, after.parameters())
                rows[-1].append(losses.per_sample(run.loss, after(x), target).double().mean().item())
        nn.utils.vector_to_parameters(w, after.parameters())
    return {"eigenvalues": [first.eigenvalue, second.eigenvalue], "axis": axis, "surface": rows, "samples": len(x)}


def batch_moment(model: nn.Module, loss: str, x, y, k: int, batch: int, draws: int, *, seed: int = 0):
    """s_k(B) = λ_max(E H_B^k − H^k)^{1/k} for batches of B = `batch` of the N samples, drawn with replacement; the mean
    over `draws` of them stands for the expectation. Returns an `Eigen`, as `hessian.nonuniformity`."""
    whole = mean_hessian(hessian.samples(model, loss, x, y))
    parts = [mean_hessian(hessian.samples(model, loss, x[i], y[i])) for i in _batches(len(x), batch, draws, seed)]
    moment = (1 / draws) * sum((part**k for part in parts[1:]), parts[0] ** k)
    found = lanczos(moment - whole**k)
    return replace(found, value=math.copysign(abs(found.eigenvalue) ** (1 / k), found.eigenvalue))


def _batches(n: int, batch: int, draws: int, seed: int) -> list[torch.Tensor]:
    """The indices of `draws` batches, drawn with replacement from n samples."""
    return [torch.randint(n, (batch,), generator=generator(seed, "batches", draw)) for draw in range(draws)]


def _rank_one(eigen, u):
    return (2 * abs(eigen.eigenvalue) * torch.dot(eigen.vector, u)) * eigen.vector


def _descent(model, loss, x, y) -> dict:
    model.zero_grad()
    output = model(x)
    value = losses.per_sample(loss, output, losses.target(loss, y, output.shape[-1], output.dtype)).mean()
    squares = [g.double().square().sum() for g in torch.autograd.grad(value, list(model.parameters()))]
    return {"sample_loss": value.item(), "gradient": math.sqrt(sum(squares).item())}
