"""Sharpness during training: what is measured every few epochs, in the call that trains.

With H_i the Hessian of sample i's loss at the weights after e epochs, H = mean_i H_i and g the mean gradient:

    a = λ_max(H)    s2 = λ_max(mean_i H_i² − H²)^{1/2}    gradient = ‖g‖₂

of which `lib.theory.bouncing.sam_edge(gradient, eta, rho)` makes SAM's edge of stability, to which a climbs. Training
in batches divides ρ by the gradient of a batch, whose mean norm is `batch_gradient`.
"""

import copy
import math
import statistics

import torch
from torch import nn

from lib import hessian
from lib.core import losses
from lib.runs.flatness import draw_batches
from lib.runs.run import Run
from lib.sam import gradient_norm

DRAWS = 8  # of batches, for batch_gradient


def check(run: Run) -> None:
    """Raise ValueError for a tangent model."""
    if run.linearize == "tangent":
        raise ValueError("linearize = 'tangent': the Hessian of a tangent model does not change; take 'none'")


def course(
    model: nn.Module, epoch: int, batches, run: Run, *, every: int = 1, samples: int = 200, batch: int = 0
) -> dict | None:
    """The quantities above after so many epochs, on the first `samples` training samples, as many of each class; after
    0, `every`, 2·`every` … epochs and the last, otherwise None, as for weights or outputs that are not finite.

    epoch: how many the model was trained. sample_loss: the mean at these samples. a_converged, s2_converged: of the
    solver.
    batch: of how many of these samples `batch_gradient` is the mean norm of the gradients, over 8 draws; 0: it is left
    out. The model is left as it is. A record has lists of all of them. Raises ValueError for a tangent model, or unless
    `every` is 1 or more and `batch` 0 or more.
    """
    check(run)
    if every < 1:
        raise ValueError(f"every = {every!r}: must be a number of epochs, 1 or more")
    if batch < 0:
        raise ValueError(f"batch = {batch!r}: must be a number of samples, or 0")
    if epoch % every and epoch != run.epochs:
        return None
    model, (x, y) = copy.deepcopy(model).eval(), batches.balanced(samples)
    target = batches.loss_target(y)
    loss, norm = _loss(model, run.loss, x, target)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return None
    try:
        eigen = hessian.moments(model, run.loss, x, target, ks=(2,))
    except ValueError as error:
        if "finite" in str(error) or "overflow" in str(error):  # the network is about to diverge
            return None
        raise
    result = {"epoch": epoch, "sample_loss": loss, "gradient": norm}
    if batch:
        norms = [_loss(model, run.loss, x[i], target[i])[1] for i in draw_batches(len(x), batch, DRAWS, run.seed)]
        result["batch_gradient"] = statistics.fmean(norms)
    result |= {key: e.value for key, e in eigen.items()}
    return result | {f"{key}_converged": e.converged for key, e in eigen.items()}


def _loss(model, loss, x, target) -> tuple[float, float]:
    """The mean loss at these samples, and the norm of its gradient."""
    value = losses.per_sample(loss, model(x), target).mean()
    weights = [p for p in model.parameters() if p.requires_grad]
    return value.item(), gradient_norm(torch.autograd.grad(value, weights)).item()


def table(points: list[dict]) -> dict[str, list]:
    """Lists by names of what `course` gave, in order."""
    return {name: [point[name] for point in points] for name in points[0]} if points else {}
