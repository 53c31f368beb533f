"""Which weights a sparse network keeps, chosen at initialization (Section 6).

A mask is a dictionary from the names of `named_parameters()` to Boolean tensors, True where the weight is kept, over
the weights of Linear and convolution layers only; biases and norms are never pruned.

| pruner | keeps | sparsity |
|---|---|---|
| random | the same share of each layer, drawn | any |
| snip | those with the largest score abs(w · ∂L/∂w) of all layers together (Lee et al. 2019) | any |
| 2:4, 1:4 | the largest N of every M weights in a row (Section 8; Zhou et al. 2021) | 1 − N/M |
"""

import numbers
import warnings

import torch
from torch import nn

from lib import losses
from lib.seeds import generator

UNSTRUCTURED = ("random", "snip")
PATTERNS = {"2:4": (2, 4), "1:4": (1, 4)}  # N of every M; the first is what sparse tensor cores take
PRUNERS = (*UNSTRUCTURED, *PATTERNS)
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

    Raises ValueError for a sparsity outside [0, 1), no samples, an unknown loss, a weight that is frozen or that the
    output does not depend on, or a score that is not finite; warns (LayerCollapse) of a layer of which nothing is kept.
    """
    _check(sparsity)
    if x is None or y is None or len(x) == 0 or len(x) != len(y):
        found = " and ".join("no" if part is None else str(len(part)) for part in (x, y))
        raise ValueError(f"x, y = {found} samples: SNIP needs as many labels as samples, at least one")
    weights = prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer that could be scored; there is nothing to prune")
    _check_trainable(weights)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.enable_grad():
            output = model(x)
            target = losses.target(loss, y, output.shape[-1], output.dtype)
            value = losses.per_sample(loss, output, target).mean()
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    unused = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]
    if unused:
        raise ValueError(f"{', '.join(unused)}: no sample passes these layers, so SNIP has no score; remove them")
    scores = torch.cat([(w.detach() * g).abs().flatten() for w, g in zip(weights.values(), gradients, strict=True)])
    if not scores.isfinite().all():
        raise ValueError("the scores |w · ∂L/∂w| are not all finite: the weights or the samples hold NaN or infinities")
    order = scores.argsort(descending=True, stable=True)
    kept = _keep_first(order, _kept(len(scores), sparsity)).split([w.numel() for w in weights.values()])
    return _warn_of_collapse({name: k.view(w.shape) for (name, w), k in zip(weights.items(), kept, strict=True)})


def nm_mask(model: nn.Module, n: int, m: int) -> dict[str, torch.Tensor]:
    """Keep the `n` largest |w| of every `m` weights that follow each other along a layer's input dimension.

    Groups of m are counted from the first input (of a convolution: the first input channel), for each output and each
    position of the kernel by itself. Where the inputs are no multiple of m, the last group is taken as filled up with
    zeros, as sparse tensor cores do: of its r < m weights min(n, r) are kept, so that no layer is ever lost. Ties go to
    the earlier input.

    Raises ValueError unless 1 ≤ n ≤ m, and for weights that are not finite.
    """
    if not 1 <= n <= m:
        raise ValueError(f"n, m = {n!r}, {m!r}: must be 1 ≤ n ≤ m, so many weights kept of how many")
    masks = {}
    for name, weight in prunable(model).items():
        size = weight.detach().abs().movedim(1, -1)
        if not size.isfinite().all():
            raise ValueError(f"{name}: the weights hold NaN or infinities, which cannot be compared")
        filled = nn.functional.pad(size, (0, -size.shape[-1] % m), value=-1.0).unflatten(-1, (-1, m))
        largest = filled.argsort(dim=-1, descending=True, stable=True)[..., :n]
        kept = torch.zeros_like(filled, dtype=torch.bool).scatter_(-1, largest, True)
        masks[name] = kept.flatten(-2)[..., : size.shape[-1]].movedim(-1, 1).contiguous()
    return masks


def apply(model: nn.Module, masks: dict[str, torch.Tensor]) -> nn.Module:
    """Set to 0 what the masks remove from the model, in place, and return it.

    A weight whose gradients are multiplied by its mask too stays 0, whatever the optimizer.
    Raises ValueError for a mask of a layer that is not there, of another shape than the layer, or not a Boolean tensor.
    """
    weights = prunable(model)
    for name, mask in masks.items():
        if name not in weights:
            raise ValueError(
                f"mask of {name!r}: no Linear or convolution weight of the model; it has {', '.join(weights)}"
            )
        if not isinstance(mask, torch.Tensor):
            raise ValueError(f"mask of {name!r}: a {type(mask).__name__}, must be a torch.Tensor of torch.bool")
        if mask.shape != weights[name].shape:
            raise ValueError(
                f"mask of {name!r}: of shape {tuple(mask.shape)}, the weight's is {tuple(weights[name].shape)}"
            )
        if mask.dtype != torch.bool:
            raise ValueError(f"mask of {name!r}: of {mask.dtype}, must be torch.bool, True where the weight is kept")
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    return model


def kept(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    """How many weights the masks keep of each layer; a layer with 0 has collapsed."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def matching(model: nn.Module, parameters: int) -> float:
    """The sparsity at which `parameters` trainable numbers of the model remain: those that a mask never covers, such
    as biases and norms, and as many of the weights as that leaves (Section 6).

    sparsity = 1 − (parameters − uncovered)/covered, with which `snip_mask` is exact and `random_mask` off by less than
    one weight a layer, as it rounds in each. Raises ValueError for a count that no sparsity in [0, 1) gives, and for a
    model without a weight to prune, or with a frozen one.
    """
    weights = prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer, so no sparsity changes its count")
    _check_trainable(weights)
    covered = sum(weight.numel() for weight in weights.values())
    uncovered = sum(p.numel() for p in model.parameters() if p.requires_grad) - covered
    if not uncovered < parameters <= uncovered + covered:
        raise ValueError(
            f"parameters = {parameters!r}: the model has {uncovered + covered}, of which {uncovered} are never pruned; "
            f"it can be brought to {uncovered + 1} up to {uncovered + covered}"
        )
    return 1 - (parameters - uncovered) / covered


def remaining(model: nn.Module, sparsity: float, pruner: str) -> int:
    """The trainable numbers that a mask of this kind leaves of the model, those that it never covers included.

    "random" rounds in each layer, "snip" once, a pattern keeps min(n, r) of an incomplete group. Nothing is drawn, so a
    model on the meta device will do. Raises ValueError for a sparsity outside [0, 1), an unknown pruner and a frozen
    weight.
    """
    _check(sparsity)
    if pruner not in PRUNERS:
        raise ValueError(f"pruner = {pruner!r}: must be one of {', '.join(PRUNERS)}")
    _check_trainable(prunable(model))
    weights = prunable(model).values()
    uncovered = sum(p.numel() for p in model.parameters() if p.requires_grad) - sum(w.numel() for w in weights)
    if sparsity and pruner in PATTERNS:
        n, m = PATTERNS[pruner]
        return uncovered + sum(
            w.numel() // w.shape[1] * (w.shape[1] // m * n + min(n, w.shape[1] % m)) for w in weights
        )
    sizes = [w.numel() for w in weights]
    return uncovered + sum(_kept(size, sparsity) for size in (sizes if pruner == "random" else [sum(sizes)]))


def masks_of(run, model: nn.Module, batches) -> dict[str, torch.Tensor]:
    """The mask of a run for its network at initialization; empty for a dense run.

    "random" draws it from the run's seed; "snip" scores the weights on SNIP_SAMPLES training samples, balanced over
    the classes, of `batches` (`lib.batches.Batches`); a pattern looks at the weights themselves.
    """
    if run.sparsity == 0:
        return {}
    if run.pruner == "random":
        return random_mask(model, run.sparsity, seed=run.seed)
    if run.pruner in PATTERNS:
        return nm_mask(model, *PATTERNS[run.pruner])
    x, y = batches.balanced(SNIP_SAMPLES)
    return snip_mask(model, run.loss, x, y, run.sparsity)


def _kept(count: int, sparsity: float) -> int:
    return round((1 - sparsity) * count)


def _keep_first(order: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    mask[order[:count]] = True
    return mask


def _check(sparsity):
    if not (isinstance(sparsity, numbers.Real) and 0 <= sparsity < 1):
        raise ValueError(f"sparsity = {sparsity!r}: must be in [0, 1), a number, the share of weights that is removed")


def _check_trainable(weights: dict[str, torch.Tensor]) -> None:
    frozen = [name for name, weight in weights.items() if not weight.requires_grad]
    if frozen:
        raise ValueError(f"{', '.join(frozen)}: frozen, but a mask covers what is trained; call requires_grad_() first")


def _warn_of_collapse(masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for name, count in kept(masks).items():
        if count == 0:
            warnings.warn(f"{name}: no weight is kept, so nothing passes this layer", LayerCollapse, stacklevel=3)
    return masks
