"""Sharpness during training: what is measured every few epochs, in the call that trains.

With H_i the Hessian of sample i's loss at the weights after e epochs, H = mean_i H_i and g the mean gradient:

    a = λ_max(H)    s2 = λ_max(mean_i H_i² − H²)^{1/2}    gradient = ‖g‖₂

of which `lib.theory.bouncing.sam_edge(gradient, eta, rho)` makes SAM's edge of stability, to which a climbs.
"""

import copy

import torch
from torch import nn

from lib import hessian
from lib.core import losses
from lib.runs.run import Run
from lib.sam import gradient_norm


def check(run: Run) -> None:
    """Raise ValueError for a tangent model."""
    if run.linearize == "tangent":
        raise ValueError("linearize = 'tangent': the Hessian of a tangent model does not change; take 'none'")


def course(model: nn.Module, epoch: int, batches, run: Run, *, every: int = 1, samples: int = 200) -> dict | None:
    """The quantities above after so many epochs, on the first `samples` training samples, as many of each class; after
    0, `every`, 2·`every` … epochs and the last, otherwise None, as for weights or outputs that are not finite.

    epoch: how many the model was trained. loss: the mean at these samples. a_converged, s2_converged: of the solver.
    The model is left as it is. A record has lists of all of them. Raises ValueError for a tangent model.
    """
    check(run)
    if every < 1:
        raise ValueError(f"every = {every!r}: must be a number of epochs, 1 or more")
    if epoch % every and epoch != run.epochs:
        return None
    model, (x, y) = copy.deepcopy(model).eval(), batches.balanced(samples)
    target, weights = batches.loss_target(y), [p for p in model.parameters() if p.requires_grad]
    loss = losses.per_sample(run.loss, model(x), target).mean()
    norm = gradient_norm(torch.autograd.grad(loss, weights))
    if not (loss.isfinite() and norm.isfinite()):
        return None
    try:
        eigen = hessian.moments(model, run.loss, x, target, ks=(2,))
    except ValueError as error:
        if "finite" in str(error) or "overflow" in str(error):  # the network is about to diverge
            return None
        raise
    result = {"epoch": epoch, "loss": loss.item(), "gradient": norm.item()} | {k: e.value for k, e in eigen.items()}
    return result | {f"{key}_converged": e.converged for key, e in eigen.items()}


def table(points: list[dict]) -> dict[str, list]:
    """Lists by names of what `course` gave, in order."""
    return {name: [point[name] for point in points] for name in points[0]} if points else {}
