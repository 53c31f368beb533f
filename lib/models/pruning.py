"""Which weights a sparse network keeps, chosen at initialization (Section 6).

A mask (`lib.models.masking`) says which weights of Linear and convolution layers are kept.

| pruner | keeps | sparsity |
|---|---|---|
| random | the same share of each layer, drawn | any |
| snip | those with the largest score abs(w · ∂L/∂w) of all layers together (Lee et al. 2019) | any |
| 2:4, 1:4 | the largest N of every M weights in a row (Section 8; Zhou et al. 2021) | 1 − N/M |
"""

import contextlib
import math
import warnings

import torch
from torch import nn

from lib.core import losses
from lib.core.seeds import generator
from lib.models import masking

SNIP_SAMPLES = 1000


class LayerCollapse(UserWarning):
    """A mask that leaves nothing of a layer, so that nothing passes it but its bias, and what goes around it.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     masks = random_mask(nn.Linear(2, 1), 0.9, seed=0)
    >>> [warning.category.__name__ for warning in caught]
    ['LayerCollapse']
    """


def random_mask(model: nn.Module, sparsity: float, *, seed: int, strict: bool = False) -> dict[str, torch.Tensor]:
    """Keep round((1 − sparsity)·numel) weights of each layer, chosen uniformly; a function of the arguments alone.

    strict: remove ⌊sparsity·numel⌋ + 1 instead, as the paper's released code does, also at sparsity 0.
    sparsity: the share removed, in [0, 1). Raises ValueError for one outside, for a seed that is no whole number, and
    for a model with nothing to prune or with a frozen weight; warns (LayerCollapse) of a layer of which nothing is
    kept.

    >>> masks = random_mask(nn.Linear(10, 10), 0.75, seed=0)
    >>> int(masks["weight"].sum())
    25
    """
    sparsity = masking.check_sparsity(sparsity)
    if not masking.is_whole(seed):
        raise ValueError(f"seed = {seed!r}: must be a whole number")
    masks = {}
    for name, weight in masking.to_prune(model).items():
        order = torch.randperm(weight.numel(), generator=generator(seed, "mask", name))
        count = masking.kept_count(weight.numel(), sparsity, strict)
        masks[name] = _keep_first(order, count).view(weight.shape).to(weight.device)
    return _warn_of_collapse(masks)


def snip_mask(
    model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, sparsity: float, *, strict: bool = False
) -> dict[str, torch.Tensor]:
    """Keep the round((1 − sparsity)·n) weights, of all layers together, with the largest |w · ∂L/∂w| (Lee et al. 2019).

    L is the mean `loss` (a name of `losses.NAMES`) over all samples x (N×…) with their labels (N, int64) or targets
    (N×K) y, in the mode the model is in; all pass it at once, which takes the memory of their activations. Ties go to
    the earlier weight. Gradients and buffers are left as they were.

    strict: keep the scores above the one of rank ⌊sparsity·n⌋ from below, counted from 0, as the paper's released code
    does: it removes that one too, and all that tie with it.

    Raises ValueError for a sparsity outside [0, 1), no samples, labels or targets that do not fit the loss and the
    output, an unknown loss, a weight that is frozen or that the output does not depend on, and for scores that are not
    finite or all 0; warns (LayerCollapse) of a layer of which nothing is kept.

    >>> model, x, y = nn.Linear(10, 2), torch.randn(8, 10), torch.randint(2, (8,))
    >>> int(snip_mask(model, "cross_entropy", x, y, 0.9)["weight"].sum())
    2
    """
    sparsity = masking.check_sparsity(sparsity)
    losses.check(loss)
    weights = masking.to_prune(model)
    _check_samples(x, y, next(iter(weights.values())))
    with _kept_buffers(model), torch.enable_grad():
        output = model(x)
        losses.check_target(loss, y, output)
        target = losses.target(loss, y, output.shape[-1], output.dtype)
        value = losses.per_sample(loss, output, target).mean()
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
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
    if strict:
        kept = scores > scores.sort().values[math.floor(sparsity * len(scores))]
    else:
        kept = _keep_first(scores.argsort(descending=True, stable=True), masking.kept_count(len(scores), sparsity))
    kept = kept.split([w.numel() for w in weights.values()])
    return _warn_of_collapse({name: k.view(w.shape) for (name, w), k in zip(weights.items(), kept, strict=True)})


def nm_mask(model: nn.Module, n: int, m: int) -> dict[str, torch.Tensor]:
    """Keep the `n` largest |w| of every `m` weights that follow each other along a layer's input dimension.

    Groups of m are counted from the first input (of a convolution: the first input channel), for each output and each
    position of the kernel by itself. Where the inputs are no multiple of m, the last group is taken as filled up with
    zeros, as sparse tensor cores do: of its r < m weights min(n, r) are kept, so that no layer is ever lost. Ties go to
    the earlier input.

    Raises ValueError unless 1 ≤ n ≤ m, for a model with nothing to prune or with a frozen weight, and for weights that
    are not finite.

    >>> nm_mask(nn.Linear(8, 1), 2, 4)["weight"].view(2, 4).sum(1).tolist()
    [2, 2]
    """
    if not (masking.is_whole(n) and masking.is_whole(m) and 1 <= n <= m):
        raise ValueError(f"n, m = {n!r}, {m!r}: must be 1 ≤ n ≤ m, so many weights kept of how many")
    masks = {}
    for name, weight in masking.to_prune(model).items():
        size = weight.detach().abs().movedim(1, -1)
        if not size.isfinite().all():
            raise ValueError(f"{name}: the weights hold NaN or infinities, which cannot be compared")
        filled = nn.functional.pad(size, (0, -size.shape[-1] % m), value=-1.0).unflatten(-1, (-1, m))
        largest = filled.argsort(dim=-1, descending=True, stable=True)[..., :n]
        kept = torch.zeros_like(filled, dtype=torch.bool).scatter_(-1, largest, True)
        masks[name] = kept.flatten(-2)[..., : size.shape[-1]].movedim(-1, 1).contiguous()
    return masks


def masks_of(run, model: nn.Module, batches) -> dict[str, torch.Tensor]:
    """The mask of a run for its network at initialization; empty for a dense run.

    "random" draws it from the run's seed; "snip" scores the weights on `run.snip_samples` training samples, balanced
    over the classes, of `batches` (`lib.training.batches.Batches`), or on the first batch; a pattern looks at the
    weights themselves.
    """
    if not run.masked:
        return {}
    if run.pruner == "random":
        return random_mask(model, run.sparsity, seed=run.seed, strict=run.strict_threshold)
    if run.pruner in masking.PATTERNS:
        return nm_mask(model, *masking.PATTERNS[run.pruner])
    x, y = batches.balanced(run.snip_samples) if run.snip_samples else batches.first_batch(run.seed)
    if len(y) == 0:
        raise ValueError(
            f"{run.dataset}: has more than {run.snip_samples} classes, of which SNIP cannot take a sample each"
        )
    return snip_mask(model, run.loss, x, y, run.sparsity, strict=run.strict_threshold)


@contextlib.contextmanager
def _kept_buffers(model: nn.Module):
    """Afterwards the modules have the buffers that they have now, the tensors themselves, with the same values."""
    bound = [(module, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for _, buffers in bound for buffer in buffers.values() if buffer is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):  # one that is an expanded view could not be written
                    buffer.copy_(value)
        for module, buffers in bound:
            module._non_persistent_buffers_set -= module._buffers.keys() - buffers.keys()
            module._buffers.clear()
            module._buffers.update(buffers)


def _keep_first(order: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    mask[order[:count]] = True
    return mask


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
    for name, count in masking.kept(masks).items():
        if count == 0:
            warnings.warn(f"{name}: no weight is kept, so nothing passes this layer", LayerCollapse, stacklevel=3)
    return masks
