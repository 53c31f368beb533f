"""A network, a loss and data as per-sample Hessians, or a clear word why there are none.

A sample has a Hessian of its own where its loss depends on no other sample and on no chance. What breaks that is
refused here, once and by name, so that everything behind it may rely on it.
"""

import pickle
import random

import numpy as np
import torch
from torch import nn

from lib.core import losses
from lib.hessian.autodiff import General
from lib.hessian.dead_units import Embedded, Live
from lib.hessian.mlp import Perceptron

MEMORY = 2**30
PASSES = 8  # of a pair, in search of a chance that no generator shows
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Identity: "identity"}


def sample_hessians(
    model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, *, memory: int = MEMORY, frozen: bool = True
):
    """The per-sample Hessians of `model` at (x, y), for the operators of `lib.hessian.operators`; `model` is left as it
    is.

    A `Sequential` of Flatten (at most), Linear and ReLU, Tanh or Identity gives an `Embedded` `Perceptron` of its live
    units, other modules `General`. x is in the parameters' dtype, or whole numbers for a model with an embedding.
    frozen: parameters that require no gradient count too; False leaves them out, as constants, of H and of all vectors.
    What a model computes under `no_grad` is a constant as well; its parameters count, with zeros in H.
    Raises ValueError for an unknown loss, data that are no tensors, empty, misshapen or non-finite, non-finite weights,
    dropout that is on, norms that use the batch, buffers that a pass changes, modules whose output for a sample depends
    on other samples or on chance or that have no second derivatives, and `memory` that is no number of bytes above 0.

    >>> samples = sample_hessians(nn.Linear(3, 1, bias=False), "mse", torch.eye(3), torch.zeros(3, 1))
    >>> samples.n, samples.size  # samples, and parameters
    (3, 3)
    """
    if not isinstance(memory, int | float) or not memory > 0:
        raise ValueError(f"memory = {memory!r}: must be a number of bytes above 0, such as {MEMORY}")
    like = check_inputs(model, loss, x, y, frozen=frozen)
    _check_modules(model)
    with torch.no_grad():
        outputs = _check_outputs(model, x, like.dtype)
    y = targets(loss, y.detach(), len(x), outputs, like)
    layers, activations = _perceptron(model, x)
    if layers and (frozen or all(w.requires_grad for w in model.parameters())):
        live = Live(layers, activations, x.detach().flatten(1))
        return Embedded(live, Perceptron(live.layers, activations, loss, live.inputs, y, memory=memory))
    return _differentiated(General(model, loss, x.detach(), y, outputs=outputs, memory=memory, frozen=frozen), memory)


def check_inputs(model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, *, frozen: bool = True) -> nn.Parameter:
    """A parameter of the model, whose dtype and device x has. Raises ValueError for an unknown loss, data that are no
    tensors, empty, misshapen or non-finite, and weights that are none, non-finite or of another dtype or device."""
    losses.check(loss)
    weights = list(model.parameters())
    if not [w for w in weights if frozen or w.requires_grad]:
        raise ValueError("model has no parameters" + " that are not frozen" * bool(weights) + ": there is no Hessian")
    like = weights[0]
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"model is in {like.dtype}: convert it with model.float() or model.double()")
    if not all(w.isfinite().all() for w in weights):
        raise ValueError("model has weights that are NaN or infinite: the run diverged; use an earlier checkpoint")
    for name, t in (("x", x), ("y", y)):
        if not isinstance(t, torch.Tensor):
            raise ValueError(
                f"{name} is a {type(t).__module__}.{type(t).__name__}: give a tensor, torch.as_tensor({name})"
            )
        if t.dim() == 0:
            raise ValueError(
                f"{name} is a single number: give a tensor whose first dimension counts samples, {name}[None]"
            )
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y has {len(y)}: give as many of each, one or more")
    tokens = not (x.is_floating_point() or x.is_complex()) and any(isinstance(m, EMBEDDINGS) for m in model.modules())
    if not (x.dtype == like.dtype or tokens) or x.device != like.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, the model {like.dtype} on {like.device}: "
            "standardize x, then x.to(model's dtype and device)"
        )
    if not x.isfinite().all():
        raise ValueError("x has entries that are NaN or infinite: remove those samples")
    return like


def _differentiated(data, memory):
    """`data` set to a way of differentiation that gives symmetric Hessians of its model."""
    x, error = data.x[:2], None
    with torch.no_grad():
        # Half the square, at a distance of 1: unlike a loss at its minimum it has derivatives that rounding leaves.
        y = data._output(data.weights, x).detach() - 1
    probe = General(data.model, "mse", x, y, outputs=data.outputs, memory=memory)
    probe.weights, probe.size = data.weights, data.size
    for probe.reverse in (False, True):
        try:
            if probe.is_symmetric():
                data.reverse, data.vmapped = probe.reverse, probe.each_is_vmapped()
                return data
            error = None
        except RuntimeError as failure:  # NotImplementedError is one
            error = failure
    if error:
        raise ValueError(f"model has no second derivatives in torch: {str(error).splitlines()[0]}") from error
    raise ValueError(
        "model's second derivatives are not symmetric, so they are no Hessian: look for autograd functions of its own"
    )


def _check_modules(model):
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


def _check_outputs(model, x, dtype):
    """Number of outputs, once two samples together give what each gives alone, again and again, and change nothing."""
    kept = {name: b.clone() for name, b in model.named_buffers()}
    buffers = {name: b.clone() for name, b in kept.items()}

    def output(x):
        return torch.func.functional_call(model, buffers, (x,))

    try:
        before = _chance(model)
        together = output(x[:2])
        drawn = _chance(model) != before
        passes = [torch.cat([output(s) for s in x[:2].split(1)]) for _ in range(PASSES)]
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"model cannot take x of shape {tuple(x.shape)}: {error}") from error
    if not isinstance(together, torch.Tensor) or together.dim() != 2 or len(together) != len(x[:2]):
        shape = tuple(together.shape) if isinstance(together, torch.Tensor) else type(together).__name__
        raise ValueError(f"model gives {shape} for two samples: a Hessian needs one row of outputs for each")
    if not together.isfinite().all():
        raise ValueError("model's outputs are NaN or infinite: check weights, buffers and the scale of x")
    if drawn:
        raise ValueError("model draws random numbers, so that the loss is random: switch that off, as by model.eval()")
    for name, b in buffers.items():
        if not torch.equal(b, kept[name]):
            raise ValueError(f"buffer {name!r} changes with every pass, and with it the loss: try model.eval()")
    off = max((together - alone).abs().max() for alone in passes)
    if off > 1e4 * torch.finfo(dtype).eps * together.abs().max().clamp(min=torch.finfo(dtype).tiny):
        raise ValueError("model's output for a sample depends on the other samples or on chance: try model.eval()")
    return together.shape[1]


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


def _perceptron(model, x):
    """Layers and activations of a plain perceptron, else (None, None)."""
    modules = list(model) if type(model) is nn.Sequential else []
    if modules and type(modules[0]) is nn.Flatten and (modules[0].start_dim, modules[0].end_dim) == (1, -1):
        modules = modules[1:]
    elif x.dim() != 2:
        return None, None
    layers, activations, expected = [], [], False
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for m in modules:
        if type(m) is nn.Linear:
            activations += ["identity"] if expected else []
            layers.append((m.weight.detach(), None if m.bias is None else m.bias.detach()))
            expected = True
        elif type(m) in ACTIVATIONS and expected:
            activations.append(ACTIVATIONS[type(m)])
            expected = False
        else:
            return None, None
    own = sum(2 - (b is None) for _, b in layers)  # fewer parameters than that: layers are tied
    plain = expected and not hooks and own == len(list(model.parameters()))
    return (layers, activations) if plain else (None, None)
