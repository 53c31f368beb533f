"""How lazily a network was trained: did it stay where its tangent model holds (Appendix C)?

With w₀ and w the weights before and after training, f̄ the centered network, K = J Jᵀ its tangent kernel:

    stability of activations    share of ReLU units × samples whose sign is the same at w₀ and at w (Figure 17b)
    distance                    ‖w − w₀‖₂, which falls as 1/α where training is lazy
    change of the kernel        ‖K(w) − K(w₀)‖ / ‖K(w₀)‖ and the cosine ⟨K(w), K(w₀)⟩ / (‖K(w)‖ ‖K(w₀)‖)
    swing of SAM's ascent       α · mean_i ‖f̄(x_i; w₀ + ε) − f̄(x_i; w₀)‖₂, in units of a one-hot label's length

The last says whose gradient SAM descends: at w₀ + ε the outputs are off by the swing, and the labels ask for 1. Where
the swing is far above 1 the labels hardly show in the gradient that SAM uses, however lazy the network could be.
"""

import copy

import torch
from torch import nn

from lib import hessian
from lib.core import losses
from lib.models import linearize
from lib.models.linearize import Tangent
from lib.sam import gradient_norm


def check(run) -> None:
    """Raise ValueError for a run that is not linearized, or whose loss is cross entropy."""
    if run.linearize == "none" or run.loss == "cross_entropy":
        raise ValueError(
            f"linearize = {run.linearize!r}, loss = {run.loss!r}: laziness is measured of a 'centered' or 'tangent' "
            "run with 'squared' or 'mse'"
        )


def laziness(
    before: nn.Module,
    after: nn.Module,
    batches,
    run,
    *,
    samples: int = 2000,
    hessian_samples: int = 100,
    kernel_samples: int = 10,
    outputs: int = 50,
) -> dict:
    """The quantities above for a run, a kind of `lib.runs.measurement`.

    stability: on the first `samples` test samples. distance, start_norm: ‖w − w₀‖ and ‖w₀‖. kernel_change,
    kernel_cosine: on `kernel_samples` training samples, as many of each class. start_sharpness, sharpness: λ_max of
    the Hessian of the run's own loss, targets y/α, at w₀ and at w, on `hessian_samples`; each with NAME_converged.
    ascent_stability: of activations under SAM's ascent alone, between w₀ and w₀ + ε; swing: see above; both for the
    first batch of training samples in order, None for SGD. outputs: αf of the first `outputs` test samples, by which
    to compare with another run. Of a tangent model, to which the rest does not apply, distance and outputs alone.
    Raises ValueError for a run that is not linearized, or whose loss is cross entropy.
    """
    check(run)
    x = batches.test[0]
    with torch.no_grad():
        result = {"distance": _distance(before, after), "outputs": _rounded(run.alpha * after(x[:outputs]))}
    if isinstance(after, Tangent):
        return result
    result |= {
        "stability": linearize.activation_stability(before, after, x[:samples]),
        "start_norm": gradient_norm([p.detach() for p in before.parameters()]).item(),
    }
    kernels = [linearize.tangent_kernel(m, batches.balanced(kernel_samples)[0]) for m in (before, after)]
    result |= {
        "kernel_change": linearize.relative_change(*kernels),
        "kernel_cosine": nn.functional.cosine_similarity(*(k.flatten() for k in kernels), dim=0).item(),
    }
    inputs, labels = batches.balanced(hessian_samples)
    # The Hessian of ‖f̄ − y/α‖² is that of ‖f − (f₀ + y/α)‖², without the cancellation in f̄ = f − f₀.
    with torch.no_grad():
        target = batches.loss_target(labels) + after.initial(inputs)
    for name, model in (("start_sharpness", before.model), ("sharpness", after.model)):
        eigen = hessian.sharpness(model, run.loss, inputs, target)
        result |= {name: eigen.value, f"{name}_converged": eigen.converged}
    return result | _ascent(before, batches, run, x[:samples])


def _distance(before: nn.Module, after: nn.Module) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return gradient_norm([(b - a).detach() for a, b in pairs]).item()


def _ascent(before: nn.Module, batches, run, x: torch.Tensor) -> dict:
    if run.rho == 0:
        return {"ascent_stability": None, "swing": None}
    inputs, labels = next(batches.chunks("train"))
    inputs, labels = inputs[: run.batch_size], labels[: run.batch_size]
    perturbed = ascended(before, run, inputs, batches.loss_target(labels))
    with torch.no_grad():
        swing = run.alpha * (perturbed(inputs) - before(inputs)).norm(dim=1).mean()
    return {"ascent_stability": linearize.activation_stability(before, perturbed, x), "swing": swing.item()}


def ascended(model: nn.Module, run, x: torch.Tensor, target: torch.Tensor) -> nn.Module:
    """A copy of the model at w + ε, after SAM's ascent with the run's ρ on the batch (x, target)."""
    moved = copy.deepcopy(model)
    weights = list(moved.parameters())
    gradients = torch.autograd.grad(losses.per_sample(run.loss, moved(x), target).mean(), weights)
    norm = gradient_norm(gradients).item() if run.normalized else 1.0
    with torch.no_grad():
        for w, g in zip(weights, gradients, strict=True):
            w.add_(g, alpha=run.rho / norm if norm else 0.0)
    return moved


def _rounded(values: torch.Tensor) -> list[list[float]]:
    """To the digits that float32 has, so that a record stays short."""
    return [[float(f"{v:.7g}") for v in row] for row in values.tolist()]
