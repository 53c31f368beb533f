"""Which weights a sparse network keeps, chosen at initialization (Section 6).

A mask is a dictionary from the names of `named_parameters()` to Boolean tensors, True where the weight is kept, over
the weights of Linear and convolution layers only; biases and norms are never pruned.
"""

import math
import warnings

import torch
from torch import nn

from lib import losses
from lib.seeds import generator

PRUNERS = ("random", "snip")
SNIP_SAMPLES = 1000
PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LayerCollapse(UserWarning):
    """A mask that leaves nothing of a layer, so that the network cannot train."""


def prunable(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that a mask covers, by their names."""
    return {
        f"{prefix}.weight" if prefix else "weight": module.weight
        for prefix, module in model.named_modules()
        if isinstance(module, PRUNABLE)
    }


def random_mask(model: nn.Module, sparsity: float, *, seed: int) -> dict[str, torch.Tensor]:
    """Keep round((1 − sparsity)·numel) weights of each layer, chosen uniformly; a function of the arguments alone.

    sparsity: the share removed, in [0, 1). Raises ValueError for one outside; warns (LayerCollapse) of a layer of
    which nothing is kept.
    """
    _check(sparsity)
    masks = {}
    for name, weight in prunable(model).items():
        order = torch.randperm(weight.numel(), generator=generator(seed, "mask", name))
        masks[name] = _keep_first(order, _kept(weight.numel(), sparsity)).view(weight.shape).to(weight.device)
    return _warn_of_collapse(masks)


def snip_mask(
    model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, sparsity: float
) -> dict[str, torch.Tensor]:
    """Keep the round((1 − sparsity)·n) weights, of all layers together, with the largest |w · ∂L/∂w| (Lee et al. 2019).

    L is the mean `loss` (a name of `losses.NAMES`) over all samples x (N×…) with their labels or targets y, in the
    mode the model is in. Ties go to the earlier weight. Gradients and buffers are left as they were.

    Raises ValueError for a sparsity outside [0, 1), no samples, an unknown loss, or a score that is not finite; warns
    (LayerCollapse) of a layer of which nothing is kept.
    """
    _check(sparsity)
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x, y = {len(x)} and {len(y)} samples: SNIP needs as many labels as samples, at least one")
    weights = prunable(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        output = model(x)
        target = losses.target(loss, y, output.shape[-1], output.dtype)
        gradients = torch.autograd.grad(losses.per_sample(loss, output, target).mean(), list(weights.values()))
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    scores = torch.cat([(w.detach() * g).abs().flatten() for w, g in zip(weights.values(), gradients, strict=True)])
    if not scores.isfinite().all():
        raise ValueError("the scores |w · ∂L/∂w| are not all finite: the weights or the samples hold NaN or infinities")
    order = scores.argsort(descending=True, stable=True)
    kept = _keep_first(order, _kept(len(scores), sparsity)).split([w.numel() for w in weights.values()])
    return _warn_of_collapse({name: k.view(w.shape) for (name, w), k in zip(weights.items(), kept, strict=True)})


def masks_of(run, model: nn.Module, batches) -> dict[str, torch.Tensor]:
    """The mask of a run for its network at initialization; empty for a dense run.

    "random" draws it from the run's seed; "snip" scores the weights on SNIP_SAMPLES training samples, balanced over
    the classes, of `batches` (`train.Batches`).
    """
    if run.sparsity == 0:
        return {}
    if run.pruner == "random":
        return random_mask(model, run.sparsity, seed=run.seed)
    x, y = batches.balanced(SNIP_SAMPLES)
    return snip_mask(model, run.loss, x, y, run.sparsity)


def _kept(count: int, sparsity: float) -> int:
    return round((1 - sparsity) * count)


def _keep_first(order: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    mask[order[:count]] = True
    return mask


def _check(sparsity):
    if not (math.isfinite(sparsity) and 0 <= sparsity < 1):
        raise ValueError(f"sparsity = {sparsity!r}: must be in [0, 1), the share of weights that is removed")


def _warn_of_collapse(masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for name, mask in masks.items():
        if not mask.any():
            warnings.warn(f"{name}: no weight is kept, so nothing passes this layer", LayerCollapse, stacklevel=3)
    return masks
