"""A network, a loss and data as per-sample Hessians, or a clear word why there are none (`lib.hessian.checks`)."""

from collections.abc import Callable

import torch
from torch import nn

from lib.core import losses
from lib.core.seeds import generator
from lib.hessian.autodiff import General, plain_attention
from lib.hessian.checks import check_data, check_modules, check_outputs, check_weights, targets
from lib.hessian.dead_units import Embedded, Live
from lib.hessian.mlp import Perceptron
from lib.hessian.samples import Batches, Samples, leaves, mapped, plain

MEMORY = 2**30
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Identity: "identity"}


def sample_hessians(model: nn.Module, loss: str | Callable, x, y=None, *, memory: int = MEMORY, frozen: bool = True):
    """The per-sample Hessians of `model` at (x, y), for the operators of `lib.hessian.operators`; `model` is left as it
    is.

    A `Sequential` of Flatten (at most), Linear and ReLU, Tanh or Identity gives an `Embedded` `Perceptron` of its live
    units, other modules `General`.
    loss: a name, or a function of (outputs, targets) that gives one loss for each sample, such as
    torch.nn.NLLLoss(reduction="none"). Outputs and targets are then of any shape, or tuples or dictionaries.
    x, y: tensors of N samples. x is in the parameters' dtype, or whole numbers for a model with an embedding. A tuple
    is given to the model entry by entry, a dictionary by names; their entries may be whole numbers or masks as well.
    Without y, x is a DataLoader or another iterable of batches (x, y), the same in each pass; batches are moved to the
    model's device, and read anew for every product.
    frozen: parameters that require no gradient count too; False leaves them out, as constants, of H and of all vectors.
    What a model computes under `no_grad` is a constant as well; its parameters count, with zeros in H. Tied parameters
    count once.
    Raises ValueError for an unknown loss or one that is not one for each sample, data that are no tensors, empty,
    misshapen or non-finite, weights that are non-finite or in half precision, dropout that is on, norms that use the
    batch, buffers that a pass changes, batches that differ between two passes, modules whose output for a sample
    depends on other samples or on chance or that have no second derivatives, and `memory` that is no number of bytes
    above 0.

    >>> samples = sample_hessians(nn.Linear(3, 1, bias=False), "mse", torch.eye(3), torch.zeros(3, 1))
    >>> samples.n, samples.size  # samples, and parameters
    (3, 3)
    """
    if not isinstance(memory, int | float) or not memory > 0:
        raise ValueError(f"memory = {memory!r}: must be a number of bytes above 0, such as {MEMORY}")
    if not callable(loss):
        losses.check(loss)
    like = check_weights(model, frozen=frozen)
    check_modules(model)
    outputs = None

    def checked(x, y):
        nonlocal outputs
        check_data(model, like, x, y, tree=callable(loss))
        if outputs is None:
            with torch.no_grad(), plain_attention():
                outputs = check_outputs(model, loss, Samples(x, y), like.dtype)
        x, y = mapped(torch.Tensor.detach, (x, y))
        return Samples(x, y if callable(loss) else targets(loss, y, len(leaves(x)[0]), outputs, like))

    def moved(x, y):
        samples = checked(*mapped(lambda t: t.to(like.device) if isinstance(t, torch.Tensor) else t, (x, y)))
        return samples.x, samples.y

    if y is None and (isinstance(x, torch.Tensor | dict) or not hasattr(x, "__iter__")):
        raise ValueError("y is missing: give x and y, or an iterable of batches (x, y) such as a DataLoader")
    data = Batches(x, moved) if y is None else checked(plain(x), plain(y))
    layers, activations = _perceptron(model, data.x) if isinstance(data, Samples) else (None, None)
    if layers and not callable(loss) and (frozen or all(w.requires_grad for w in model.parameters())):
        live = Live(layers, activations, data.x.flatten(1))
        return Embedded(live, Perceptron(live.layers, activations, loss, live.inputs, data.y, memory=memory))
    return _differentiated(General(model, loss, data, outputs=outputs, memory=memory, frozen=frozen), memory)


def _differentiated(data, memory):
    """`data` set to a way of differentiation that gives symmetric Hessians of its model and its loss."""
    (x, y), error = data.data.first(2), None
    with torch.no_grad():
        outputs = mapped(torch.Tensor.detach, data._output(data.weights, x))
        # Half the square, at a distance of 1: unlike a loss at its minimum it has derivatives that rounding leaves.
        away = mapped(lambda f: f - 1, outputs)
    probe = General(data.model, _half_square, Samples(x, away), outputs=data.outputs, memory=memory)
    probe.weights, probe.size = data.weights, data.size
    for probe.reverse in (False, True):
        data.reverse = probe.reverse
        try:
            if probe.is_symmetric() and (data.rooted or _loss_is_symmetric(data, outputs, y)):
                data.record()
                return data
            error = None
        except RuntimeError as failure:  # NotImplementedError is one
            error = failure
    if error:
        raise ValueError(f"model has no second derivatives in torch: {str(error).splitlines()[0]}") from error
    raise ValueError(
        "second derivatives of the model or of the loss are not symmetric, so they are no Hessian: look for autograd "
        "functions of its own"
    )


def _half_square(outputs, y):
    return sum(
        (f - t).square().reshape(len(f), -1).sum(1) * 0.5 for f, t in zip(leaves(outputs), leaves(y), strict=True)
    )


def _loss_is_symmetric(data, outputs, y) -> bool:
    """Whether uᵀQv = vᵀQu for the loss' Hessian Q at the outputs, a random v and u = Qv; in float64 where the loss can
    be taken of that, as near a minimum Q is left over from a cancellation."""

    def double(t):
        return t.double() if t.is_floating_point() else t

    def products(f, y):
        noise = generator(0, "loss")
        v = mapped(lambda t: torch.randn(t.shape, dtype=torch.float32, generator=noise).to(t), f)
        u = data.curved(f, y, v)
        return v, u, data.curved(f, y, u)

    try:
        parts = products(*mapped(double, (outputs, y)))
    except RuntimeError:  # a weight in the loss, say, in float32
        parts = products(outputs, y)
    v, u, again = (torch.cat([t.flatten().double() for t in leaves(part)]) for part in parts)
    square = u.square().sum()
    return bool((square - v @ again).abs() <= 3 * torch.finfo(data.dtype).eps ** 0.5 * square)


def _perceptron(model, x):
    """Layers and activations of a plain perceptron, else (None, None)."""
    modules = list(model) if type(model) is nn.Sequential and isinstance(x, torch.Tensor) else []
    if modules and type(modules[0]) is nn.Flatten and (modules[0].start_dim, modules[0].end_dim) == (1, -1):
        modules = modules[1:]
    elif not modules or x.dim() != 2:
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
