"""Which weights a sparse network keeps, chosen at initialization (Section 6).

A mask is a dictionary from the names of `named_parameters()` to Boolean tensors, True where the weight is kept, over
the weights of Linear and convolution layers only; biases and norms are never pruned.

| pruner | keeps | sparsity |
|---|---|---|
| random | the same share of each layer, drawn | any |
| snip | those with the largest score abs(w · ∂L/∂w) of all layers together (Lee et al. 2019) | any |
| 2:4, 1:4 | the largest N of every M weights in a row (Section 8; Zhou et al. 2021) | 1 − N/M |
"""

import hashlib
import numbers
import warnings

import numpy as np
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
    """A mask that leaves nothing of a layer, so that nothing passes it but its bias, and what goes around it."""


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that a mask covers, by their names; one that several layers share is there once.

    Raises ValueError for a weight that is computed from others, as by weight norm, and for one of a lazy layer that has
    seen no input: neither can be masked.
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


def random_mask(model: nn.Module, sparsity: float, *, seed: int) -> dict[str, torch.Tensor]:
    """Keep round((1 − sparsity)·numel) weights of each layer, chosen uniformly; a function of the arguments alone.

    sparsity: the share removed, in [0, 1). Raises ValueError for one outside, for a seed that is no whole number, and
    for a model with nothing to prune or with a frozen weight; warns (LayerCollapse) of a layer of which nothing is
    kept.
    """
    sparsity = _share(sparsity)
    if not _whole(seed):
        raise ValueError(f"seed = {seed!r}: must be a whole number")
    masks = {}
    for name, weight in _to_prune(model).items():
        order = torch.randperm(weight.numel(), generator=generator(seed, "mask", name))
        masks[name] = _keep_first(order, _kept(weight.numel(), sparsity)).view(weight.shape).to(weight.device)
    return _warn_of_collapse(masks)


def snip_mask(
    model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, sparsity: float
) -> dict[str, torch.Tensor]:
    """Keep the round((1 − sparsity)·n) weights, of all layers together, with the largest |w · ∂L/∂w| (Lee et al. 2019).

    L is the mean `loss` (a name of `losses.NAMES`) over all samples x (N×…) with their labels (N, int64) or targets
    (N×K) y, in the mode the model is in; all pass it at once, which takes the memory of their activations. Ties go to
    the earlier weight. Gradients and buffers are left as they were.

    Raises ValueError for a sparsity outside [0, 1), no samples, labels or targets that do not fit the loss and the
    output, an unknown loss, a weight that is frozen or that the output does not depend on, and for scores that are not
    finite or all 0; warns (LayerCollapse) of a layer of which nothing is kept.
    """
    sparsity = _share(sparsity)
    losses.check(loss)
    weights = _to_prune(model)
    _check_samples(x, y, next(iter(weights.values())))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.enable_grad():
            output = model(x)
            losses.check_target(loss, y, output)
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
    # In half precision so many products would be rounded to 0 that ties, not scores, would decide.
    exact = torch.promote_types(output.dtype, torch.float32)
    pairs = zip(weights.values(), gradients, strict=True)
    scores = torch.cat([(w.detach().to(exact) * g.to(exact)).abs().flatten() for w, g in pairs])
    if not scores.isfinite().all():
        raise ValueError("the scores |w · ∂L/∂w| are not all finite: the weights or the samples hold NaN or infinities")
    if not scores.any():
        raise ValueError("the scores |w · ∂L/∂w| are all 0: on these samples the loss does not depend on any weight")
    order = scores.argsort(descending=True, stable=True)
    kept = _keep_first(order, _kept(len(scores), sparsity)).split([w.numel() for w in weights.values()])
    return _warn_of_collapse({name: k.view(w.shape) for (name, w), k in zip(weights.items(), kept, strict=True)})


def nm_mask(model: nn.Module, n: int, m: int) -> dict[str, torch.Tensor]:
    """Keep the `n` largest |w| of every `m` weights that follow each other along a layer's input dimension.

    Groups of m are counted from the first input (of a convolution: the first input channel), for each output and each
    position of the kernel by itself. Where the inputs are no multiple of m, the last group is taken as filled up with
    zeros, as sparse tensor cores do: of its r < m weights min(n, r) are kept, so that no layer is ever lost. Ties go to
    the earlier input.

    Raises ValueError unless 1 ≤ n ≤ m, for a model with nothing to prune or with a frozen weight, and for weights that
    are not finite.
    """
    if not (_whole(n) and _whole(m) and 1 <= n <= m):
        raise ValueError(f"n, m = {n!r}, {m!r}: must be 1 ≤ n ≤ m, so many weights kept of how many")
    masks = {}
    for name, weight in _to_prune(model).items():
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
    Raises ValueError for a mask of a layer that is not there, of another shape or on another device than the layer, or
    not a Boolean tensor; the model is then left as it was.
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
    """How many weights the masks keep of each layer; a layer with 0 has collapsed."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def digest(masks: dict[str, torch.Tensor]) -> str:
    """64 hexadecimal digits that tell one mask from another."""
    found = hashlib.sha256()
    for name, mask in masks.items():
        found.update(name.encode())
        found.update(np.packbits(mask.cpu().numpy()).tobytes())
    return found.hexdigest()


def matching(model: nn.Module, parameters: int) -> float:
    """The sparsity at which `parameters` trainable numbers of the model remain: those that a mask never covers, such
    as biases and norms, and as many of the weights as that leaves (Section 6).

    sparsity = 1 − (parameters − uncovered)/covered, with which `snip_mask` is exact and `random_mask` off by less than
    one weight a layer, as it rounds in each. Raises ValueError for a count that is no whole number or that no sparsity
    in [0, 1) gives, and for a model without a weight to prune, or with a frozen one.
    """
    if not _whole(parameters):
        raise ValueError(f"parameters = {parameters!r}: must be a whole number")
    weights = _to_prune(model)
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
    model on the meta device will do. Raises ValueError for a sparsity outside [0, 1) or another one than the pattern's,
    an unknown pruner, and a model with nothing to prune or with a frozen weight.
    """
    sparsity = _share(sparsity)
    if pruner not in PRUNERS:
        raise ValueError(f"pruner = {pruner!r}: must be one of {', '.join(PRUNERS)}")
    if sparsity and pruner in PATTERNS:
        check_pattern(pruner, sparsity)
    weights = _to_prune(model).values()
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
    if len(y) == 0:
        raise ValueError(
            f"{run.dataset}: has more than {SNIP_SAMPLES} classes, of which SNIP cannot take a sample each"
        )
    return snip_mask(model, run.loss, x, y, run.sparsity)


def check_pattern(pruner: str, sparsity: float) -> None:
    """Raise ValueError for another sparsity than that which the pattern sets."""
    n, m = PATTERNS[pruner]
    if sparsity != 1 - n / m:
        told = f"pruner {pruner!r} keeps {n} of {m} weights, so the sparsity must be {1 - n / m:g}"
        raise ValueError(f"sparsity = {sparsity!r}: {told}")


def _kept(count: int, sparsity: float) -> int:
    return round((1 - sparsity) * count)


def _keep_first(order: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    mask[order[:count]] = True
    return mask


def _whole(number) -> bool:
    return isinstance(number, numbers.Integral) and not isinstance(number, bool)


def _share(sparsity) -> float:
    if not (isinstance(sparsity, numbers.Real) and not isinstance(sparsity, bool) and 0 <= sparsity < 1):
        raise ValueError(f"sparsity = {sparsity!r}: must be in [0, 1), a number, the share of weights that is removed")
    return float(sparsity)


def _to_prune(model: nn.Module) -> dict[str, nn.Parameter]:
    weights = prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer; there is nothing to prune")
    frozen = [name for name, weight in weights.items() if not weight.requires_grad]
    if frozen:
        raise ValueError(f"{', '.join(frozen)}: frozen, but a mask covers what is trained; call requires_grad_() first")
    return weights


def _check_samples(x, y, weight: torch.Tensor) -> None:
    odd = [type(part).__name__ for part in (x, y) if not (part is None or isinstance(part, torch.Tensor))]
    if odd:
        raise ValueError(f"x, y: a {odd[0]}, must be a torch.Tensor")
    counts = ["no" if part is None or part.dim() == 0 else str(len(part)) for part in (x, y)]
    if counts[0] != counts[1] or counts[0] in ("no", "0"):
        raise ValueError(f"x, y = {' and '.join(counts)} samples: SNIP needs as many labels as samples, at least one")
    for name, part in (("x", x), ("y", y)):
        if part.device != weight.device:
            raise ValueError(f"{name}: on {part.device}, the model is on {weight.device}")
    if x.is_floating_point() and x.dtype != weight.dtype:  # a model may take others, such as the numbers of tokens
        raise ValueError(f"x: of {x.dtype}, the model is of {weight.dtype}")


def _warn_of_collapse(masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for name, count in kept(masks).items():
        if count == 0:
            warnings.warn(f"{name}: no weight is kept, so nothing passes this layer", LayerCollapse, stacklevel=3)
    return masks
