"""What has no per-sample Hessians, refused by name: modules, weights, data and losses.

A sample has a Hessian of its own where its loss depends on no other sample and on no chance. What breaks that is
refused here, once, so that everything behind it may rely on it.
"""

import pickle
import random

import numpy as np
import torch
from torch import nn

from lib.core import losses
from lib.hessian.samples import arguments, leaves, mapped

PASSES = 8  # of a pair, in search of a chance that no generator shows
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def check_inputs(model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor) -> nn.Parameter:
    """A parameter of the model, whose dtype and device x has. Raises ValueError for an unknown loss, data that are no
    tensors, empty, misshapen or non-finite, and weights that are none, non-finite or of another dtype or device."""
    losses.check(loss)
    like = check_weights(model)
    check_data(model, like, x, y, tree=False)
    return like


def check_weights(model: nn.Module, *, frozen: bool = True) -> nn.Parameter:
    """A parameter of the model, whose dtype and device data have. Raises ValueError for weights that are none,
    non-finite, or not all in float32 or all in float64."""
    weights = list(model.parameters())
    if not [w for w in weights if frozen or w.requires_grad]:
        raise ValueError("model has no parameters" + " that are not frozen" * bool(weights) + ": there is no Hessian")
    dtypes = list(dict.fromkeys(w.dtype for w in weights))
    if len(dtypes) > 1 or dtypes[0] not in (torch.float32, torch.float64):
        named = " and ".join(map(str, dtypes))
        raise ValueError(f"model is in {named}: convert it with model.float() or model.double()")
    if not all(w.isfinite().all() for w in weights):
        raise ValueError("model has weights that are NaN or infinite: the run diverged; use an earlier checkpoint")
    return weights[0]


def check_data(model: nn.Module, like: nn.Parameter, x, y, *, tree: bool) -> None:
    """Raise ValueError for trees x and y that do not fit each other or the model. tree: whether y may be one."""
    nested = isinstance(x, tuple | dict)
    for name, whole in (("x", x), ("y", y)):
        for t in leaves(whole) if tree or (name == "x" and nested) else [whole]:
            if not isinstance(t, torch.Tensor):
                raise ValueError(
                    f"{name} is a {type(t).__module__}.{type(t).__name__}: give a tensor, torch.as_tensor({name})"
                )
            if t.dim() == 0:
                raise ValueError(
                    f"{name} is a single number: give a tensor whose first dimension counts samples, {name}[None]"
                )
    counts = [[len(t) for t in leaves(whole)] or [0] for whole in (x, y)]
    if counts[0][0] == 0 or len({*counts[0], *counts[1]}) > 1:
        numbers = [" and ".join(map(str, dict.fromkeys(count))) for count in counts]
        raise ValueError(f"x has {numbers[0]} samples and y has {numbers[1]}: give as many of each, one or more")
    tokens = nested or any(isinstance(m, EMBEDDINGS) for m in model.modules())
    for t in leaves(x):
        whole = tokens and not (t.is_floating_point() or t.is_complex())
        if not (t.dtype == like.dtype or whole) or t.device != like.device:
            raise ValueError(
                f"x is {t.dtype} on {t.device}, the model {like.dtype} on {like.device}: "
                "standardize x, then x.to(model's dtype and device)"
            )
        if not t.isfinite().all():
            raise ValueError("x has entries that are NaN or infinite: remove those samples")


def check_modules(model: nn.Module) -> None:
    """Raise ValueError for modules that mix samples, or draw, or change with a pass, by what they are."""
    for name, m in model.named_modules():
        at = f"{type(m).__name__} {name!r}"
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.training or m.running_mean is None):
            raise ValueError(
                f"{at} normalizes by the statistics of the batch, so that no sample has a Hessian of its own: "
                "use evaluation-mode statistics: model.eval(), with track_running_stats=True"
            )
        if isinstance(m, nn.modules.instancenorm._InstanceNorm) and m.training and m.track_running_stats:
            raise ValueError(f"{at} would change its running statistics: model.eval() normalizes by them as they are")
        rate = m.p if isinstance(m, nn.modules.dropout._DropoutNd) else getattr(m, "dropout", 0.0)
        if m.training and isinstance(rate, int | float) and rate > 0:
            raise ValueError(f"{at}: dropout is on, so that the loss is random; switch it off with model.eval()")


def check_outputs(model: nn.Module, loss, samples, dtype: torch.dtype) -> int | None:
    """Number of outputs for a named loss, else None, once two samples together give what each gives alone, again and
    again, in outputs and losses, and change nothing."""
    kept = {name: b.clone() for name, b in model.named_buffers()}
    buffers = {name: b.clone() for name, b in kept.items()}
    (x, y), n = samples.first(2), min(2, samples.n)
    shape = " and ".join(str(tuple(t.shape)) for t in leaves(samples.x))

    def output(x, y):
        """(outputs, losses), the latter for a loss that is a function."""
        f = torch.func.functional_call(model, buffers, *arguments(x))
        return (f, loss(f, y) if callable(loss) else None)

    try:
        before = _chance(model)
        together, values = output(x, y)
        drawn = _chance(model) != before
        alone = [mapped(lambda t: t[i : i + 1], (x, y)) for i in range(n)]  # noqa: B023
        passes = [[output(*one) for one in alone] for _ in range(PASSES)]
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"model cannot take x of shape {shape}: {error}") from error
    if not callable(loss) and (not isinstance(together, torch.Tensor) or together.dim() != 2 or len(together) != n):
        shape = tuple(together.shape) if isinstance(together, torch.Tensor) else type(together).__name__
        raise ValueError(
            f"model gives {shape} for two samples: a Hessian of {loss!r} needs one row of outputs for each; give "
            "another loss as a function of (outputs, targets)"
        )
    if callable(loss):
        _check_loss(together, values, n)
    if not all(t.isfinite().all() for t in leaves(together)):
        raise ValueError("model's outputs are NaN or infinite: check weights, buffers and the scale of x")
    if drawn:
        raise ValueError("model draws random numbers, so that the loss is random: switch that off, as by model.eval()")
    for name, b in buffers.items():
        if not torch.equal(b, kept[name]):
            raise ValueError(f"buffer {name!r} changes with every pass, and with it the loss: try model.eval()")
    whole = [t for t in leaves((together, values)) if t is not None]
    for one in passes:
        parts = zip(*([t for t in leaves(pair) if t is not None] for pair in one), strict=True)
        for t, part in zip(whole, map(torch.cat, parts), strict=True):
            allowed = 1e4 * torch.finfo(dtype).eps * t.abs().max().clamp(min=torch.finfo(dtype).tiny)
            if not t.shape == part.shape or (t - part).abs().max() > allowed:
                raise ValueError(
                    "model's output for a sample depends on the other samples or on chance: try model.eval()"
                )
    return None if callable(loss) else together.shape[1]


def _check_loss(outputs, values, n):
    odd = [t for t in leaves(outputs) if not (isinstance(t, torch.Tensor) and t.is_floating_point() and len(t) == n)]
    if odd:
        raise ValueError("model gives outputs that are no floating-point tensors with a row for each sample")
    if not isinstance(values, torch.Tensor) or values.shape != (n,):
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise ValueError(f"loss gives {shape} for {n} samples: it must give one loss for each, as by reduction='none'")
    if not values.isfinite().all():
        raise ValueError("loss gives NaN or infinite values: check outputs and targets")


def _chance(model):
    """The state of every random generator that a pass can draw from, but for one that no module holds."""
    held = [value for m in model.modules() for value in vars(m).values()]
    devices = [torch.default_generator, *torch.cuda.default_generators]
    states = [g.get_state() for g in devices + [g for g in held if isinstance(g, torch.Generator)]]
    others = [g.bit_generator.state for g in held if isinstance(g, np.random.Generator)]
    others += [random.getstate(), np.random.get_state()]  # noqa: NPY002 that is what a model may use
    return [state.numpy().tobytes() for state in states], pickle.dumps(others)


def targets(loss: str, y: torch.Tensor, n: int, outputs: int, like: torch.Tensor) -> torch.Tensor:
    """y as `lib.core.losses.per_sample` takes it for n rows of `outputs`, or a ValueError that says why not."""
    if y.is_floating_point():
        if loss == "cross_entropy":
            raise ValueError(f"y is {y.dtype}: cross_entropy takes class indices, y.long()")
        if y.shape != (n, outputs):
            raise ValueError(f"y of shape {tuple(y.shape)}: {loss} takes targets of shape {(n, outputs)} or {n} labels")
        if not y.isfinite().all():
            raise ValueError("y has entries that are NaN or infinite: remove those samples")
        return y.to(like.device, like.dtype)
    if y.dtype == torch.bool or y.is_complex():
        raise ValueError(f"y is {y.dtype}: labels must be whole numbers, y.long()")
    if y.shape != (n,) or y.min() < 0 or y.max() >= outputs:
        raise ValueError(f"y of shape {tuple(y.shape)}: labels must be {n} numbers in 0..{outputs - 1}, one a sample")
    return losses.target(loss, y.to(like.device, torch.int64), outputs, like.dtype)
