"""Masks of weights: what they cover, how they are applied, and how many weights they keep.

A mask is a dictionary from the names of `named_parameters()` to Boolean tensors, True where the weight is kept, over
the weights of Linear and convolution layers only; biases and norms are never pruned. How a mask is chosen is in
`lib.models.pruning`.
"""

import hashlib
import math
import numbers

import numpy as np
import torch
from torch import nn

UNSTRUCTURED = ("random", "snip")
PATTERNS = {"2:4": (2, 4), "1:4": (1, 4)}  # N of every M; the first is what sparse tensor cores take
PRUNERS = (*UNSTRUCTURED, *PATTERNS)
PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that a mask covers, by their names; one that several layers share is there once.

    Raises ValueError for a weight that is computed from others, as by weight norm, and for one of a lazy layer that has
    seen no input: neither can be masked.

    >>> list(prunable(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))))
    ['0.weight', '2.weight']
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, PRUNABLE)}
    computed = [name for name, module in modules.items() if "weight" not in module._parameters]
    if computed:
        raise ValueError(f"{', '.join(computed)}: the weight is computed from others; remove its parametrization first")
    lazy = [name for name, module in modules.items() if nn.parameter.is_lazy(module.weight)]
    if lazy:
        raise ValueError(f"{', '.join(lazy)}: the weight has no shape yet; pass the model an input first")
    weights = {id(module.weight) for module in modules.values()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in weights}


def apply(model: nn.Module, masks: dict[str, torch.Tensor]) -> nn.Module:
    """Set to 0 what the masks remove from the model, in place, and return it.

    A weight whose gradients are multiplied by its mask too stays 0, whatever the optimizer.
    Raises ValueError for a mask of a layer that is not there, of another shape or on another device than the layer, or
    not a Boolean tensor; the model is then left as it was.

    >>> model = nn.Linear(2, 1)
    >>> _ = apply(model, {"weight": torch.tensor([[True, False]])})
    >>> model.weight[0, 1].item()
    0.0
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
        if mask.device != weights[name].device:
            raise ValueError(f"mask of {name!r}: on {mask.device}, the weight is on {weights[name].device}")
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(~mask, 0.0)  # also where it is not finite
    return model


def kept(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    """How many weights the masks keep of each layer; a layer with 0 has collapsed.

    >>> kept({"weight": torch.tensor([True, False, True])})
    {'weight': 2}
    """
    return {name: int(mask.sum()) for name, mask in masks.items()}


def digest(masks: dict[str, torch.Tensor]) -> str:
    """64 hexadecimal digits that tell one mask from another.

    >>> digest({"weight": torch.tensor([True, False])}) == digest({"weight": torch.tensor([False, True])})
    False
    """
    result = hashlib.sha256()
    for name, mask in masks.items():
        result.update(name.encode())
        result.update(np.packbits(mask.cpu().numpy()).tobytes())
    return result.hexdigest()


def matching(model: nn.Module, parameters: int) -> float:
    """The sparsity at which `parameters` trainable numbers of the model remain: those that a mask never covers, such
    as biases and norms, and as many of the weights as that leaves (Section 6).

    sparsity = 1 − (parameters − uncovered)/covered, with which `snip_mask` is exact and `random_mask` off by less than
    one weight a layer, as it rounds in each. Raises ValueError for a count that is no whole number or that no sparsity
    in [0, 1) gives, and for a model without a weight to prune, or with a frozen one.

    >>> matching(nn.Linear(10, 10), 60)  # 10 biases and half of the weights
    0.5
    """
    if not is_whole(parameters):
        raise ValueError(f"parameters = {parameters!r}: must be a whole number")
    weights = to_prune(model)
    covered = sum(weight.numel() for weight in weights.values())
    uncovered = sum(p.numel() for p in model.parameters() if p.requires_grad) - covered
    if not uncovered < parameters <= uncovered + covered:
        raise ValueError(
            f"parameters = {parameters!r}: the model has {uncovered + covered}, of which {uncovered} are never pruned; "
            f"it can be brought to {uncovered + 1} up to {uncovered + covered}"
        )
    return 1 - (parameters - uncovered) / covered


def remaining(model: nn.Module, sparsity: float, pruner: str, strict: bool = False) -> int:
    """The trainable numbers that a mask of this kind leaves of the model, those that it never covers included.

    "random" rounds in each layer, "snip" once, a pattern keeps min(n, r) of an incomplete group; strict: as `pruning`
    has it, if no scores tie. Nothing is drawn, so a model on the meta device will do. Raises ValueError for a sparsity
    outside [0, 1) or another one than the pattern's, an unknown pruner, and a model with nothing to prune or with a
    frozen weight.

    >>> remaining(nn.Linear(10, 10), 0.75, "random")  # 10 biases and a quarter of the weights
    35
    """
    sparsity = check_sparsity(sparsity)
    if pruner not in PRUNERS:
        raise ValueError(f"pruner = {pruner!r}: must be one of {', '.join(PRUNERS)}")
    if sparsity and pruner in PATTERNS:
        check_pattern(pruner, sparsity)
    weights = to_prune(model).values()
    uncovered = sum(p.numel() for p in model.parameters() if p.requires_grad) - sum(w.numel() for w in weights)
    if sparsity and pruner in PATTERNS:
        n, m = PATTERNS[pruner]
        return uncovered + sum(
            w.numel() // w.shape[1] * (w.shape[1] // m * n + min(n, w.shape[1] % m)) for w in weights
        )
    sizes = [w.numel() for w in weights]
    return uncovered + sum(
        kept_count(size, sparsity, strict) for size in (sizes if pruner == "random" else [sum(sizes)])
    )


def check_pattern(pruner: str, sparsity: float) -> None:
    """Raise ValueError for another sparsity than that which the pattern sets."""
    n, m = PATTERNS[pruner]
    if sparsity != 1 - n / m:
        message = f"pruner {pruner!r} keeps {n} of {m} weights, so the sparsity must be {1 - n / m:g}"
        raise ValueError(f"sparsity = {sparsity!r}: {message}")


def is_whole(number) -> bool:
    """Whether this is an integer, and no Boolean."""
    return isinstance(number, numbers.Integral) and not isinstance(number, bool)


def check_sparsity(sparsity) -> float:
    """The sparsity as a float, or a ValueError for what is no share in [0, 1)."""
    if not (isinstance(sparsity, numbers.Real) and not isinstance(sparsity, bool) and 0 <= sparsity < 1):
        raise ValueError(f"sparsity = {sparsity!r}: must be in [0, 1), a number, the share of weights that is removed")
    return float(sparsity)


def to_prune(model: nn.Module) -> dict[str, nn.Parameter]:
    """What `prunable` gives, or a ValueError if that is nothing, or if a weight is frozen."""
    weights = prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer; there is nothing to prune")
    frozen = [name for name, weight in weights.items() if not weight.requires_grad]
    if frozen:
        raise ValueError(f"{', '.join(frozen)}: frozen, but a mask covers what is trained; call requires_grad_() first")
    return weights


def kept_count(count: int, sparsity: float, strict: bool = False) -> int:
    """How many of `count` weights remain at this sparsity; strict: with one more removed than ⌊sparsity·count⌋."""
    return count - math.floor(sparsity * count) - 1 if strict else round((1 - sparsity) * count)
