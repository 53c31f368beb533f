"""Networks held near their linearization (Appendix C), and how near they are.

Around its initial weights w₀ a network f is approximately the model that is linear in its weights

    f(x; w) ≈ f(x; w₀) + J(x)(w − w₀),    J(x) = ∂f(x; w₀)/∂w,

the tangent model. With the centered network f̄(x; w) = f(x; w) − f(x; w₀) and the loss of Appendix C,

    L_α(w) = mean_i ‖f̄(x_i; w) − y_i/α‖² = α⁻² mean_i ‖αf̄(x_i; w) − y_i‖²,

a large α asks for outputs so small that w barely has to move, and training becomes lazy (Chizat et al., 2019): it stays
where the tangent model holds. The right-hand side is the scaled loss of Chizat et al., so that both have one gradient
and one learning rate; in units of the plain loss of αf̄ that rate is lr/α². Gradient descent on the tangent model needs
the same lr at every α, since L_α then has the same Hessian.

SAM does not scale like that. With u = α(w − w₀) the tangent model's L_α is α⁻² times a function of u alone, and an
ascent step of length ρ in w is one of length αρ in u: normalized SAM at (α, ρ) is SAM at (1, αρ).
"""

import contextlib
import copy

import torch
from torch import nn

from lib.core import interruption

FORMS = ("none", "centered", "tangent")
CHUNK = 500  # samples whose activations are held at a time


def wrap(model: nn.Module, form: str) -> nn.Module:
    """`model` itself ("none"), centered, or its tangent model without the constant f(x; w₀) ("tangent").

    >>> type(wrap(nn.Linear(3, 1), "centered")).__name__
    'Centered'
    """
    if form not in FORMS:
        raise ValueError(f"linearize = {form!r}: must be one of {', '.join(FORMS)}")
    return {"none": lambda m: m, "centered": Centered, "tangent": lambda m: Tangent(m, centered=True)}[form](model)


class Centered(nn.Module):
    """f(x; w) − f(x; w₀): `model` itself minus a frozen copy of it as it is now. Exactly 0 until its weights change.

    The copy follows train() and eval(), moves with `to`, and is part of the state dict (under `initial.`), so that a
    saved one can be loaded into any other of the same shape; its weights are buffers, so `parameters()` are the
    model's alone. Batch-norm statistics of both gather from the same batches. Dropout draws anew for each of the two.

    >>> float(Centered(nn.Linear(3, 1))(torch.ones(2, 3)).detach().abs().sum())
    0.0
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.initial = model, _frozen(model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) - self.initial(x)


class Tangent(nn.Module):
    """f(x; w₀) + J(x)δ with δ = w − w₀ as its parameters, 0 at first; `centered` leaves out f(x; w₀).

    J(x)δ is one forward-mode product, through which backward passes as through any other function. δ has one tensor
    for each parameter of `model`, in the order of `parameters()`; w₀ is a frozen copy, `model` is left as it is.

    >>> model, x = nn.Linear(3, 1), torch.ones(2, 3)
    >>> torch.equal(Tangent(model)(x), model(x))
    True
    """

    def __init__(self, model: nn.Module, *, centered: bool = False):
        super().__init__()
        self.initial, self.centered = _frozen(model), centered
        self.names = [name for name, _ in model.named_parameters()]
        self.displacement = nn.ParameterList(torch.zeros_like(p) for p in model.parameters())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = {name: self.initial.get_buffer(name) for name in self.names}
        step = dict(zip(self.names, self.displacement, strict=True))
        output, moved = torch.func.jvp(lambda w: torch.func.functional_call(self.initial, w, (x,)), (start,), (step,))
        return moved if self.centered else output + moved


def _frozen(model: nn.Module) -> nn.Module:
    """A copy of `model` whose parameters are buffers: it moves and is saved like them, and nothing can train it."""
    frozen = copy.deepcopy(model)
    buffers: dict[nn.Parameter, torch.Tensor] = {}  # tied weights stay tied
    for module in frozen.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, buffers.setdefault(p, p.detach()))
    return frozen


def activation_stability(before: nn.Module, after: nn.Module, x: torch.Tensor) -> float:
    """The share, in [0, 1], of pairs of a ReLU unit and a sample of `x` that are active (output > 0) in both networks
    or in neither: Chizat et al., Appendix C.2, and Figure 17b.

    A unit is one number that an `nn.ReLU` module puts out for a sample, so that a layer counts by its size and every
    position of a feature map is a unit. Both networks run in evaluation mode; of a `Centered` one the trained part
    counts. Raises ValueError for networks without an `nn.ReLU` or that use none, of different architectures, with
    weights or outputs that are not finite, and for an x that is empty or not finite.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> activation_stability(model, model, torch.randn(5, 3))
    1.0
    """
    before, after = (m.model if isinstance(m, Centered) else m for m in (before, after))
    _check_alike(before, after)
    if not any(isinstance(m, nn.ReLU) for m in before.modules()):
        raise ValueError(
            f"before is a {type(before).__name__} without nn.ReLU modules: stability of activations counts their "
            "signs; write ReLUs as modules"
        )
    if len(x) == 0:
        raise ValueError("x has no samples: give one or more")
    if not x.isfinite().all():
        raise ValueError("x has values that are NaN or infinite: no unit has a sign there")
    for name, model in (("before", before), ("after", after)):
        if not all(p.isfinite().all() for p in model.parameters()):
            raise ValueError(f"{name} has weights that are NaN or infinite: the run diverged")
    same = units = 0
    for part in x.split(CHUNK):
        interruption.check()
        signs, others = _active(before, part), _active(after, part)
        _check_units([tuple(a.shape[1:]) for a in signs], [tuple(b.shape[1:]) for b in others])
        for a, b in zip(signs, others, strict=True):
            same, units = same + (a == b).sum().item(), units + a.numel()
    return same / units


@torch.no_grad()
def _active(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What every ReLU of the model puts out for x, in the order of its calls, as positive or not."""
    result: list[torch.Tensor] = []

    def note(module, inputs, output):
        if not output.isfinite().all():
            raise ValueError("the network puts out NaN or infinity at a ReLU: it diverged, or its buffers did")
        result.append(output > 0)

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.ReLU)]
    try:
        with evaluating(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return result


def _check_alike(before: nn.Module, after: nn.Module) -> None:
    def parts(model):
        kinds = {name: type(m).__name__ for name, m in model.named_modules()}
        return kinds | {name: tuple(p.shape) for name, p in model.named_parameters()}

    a, b = parts(before), parts(after)
    differing = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"before and after are of different architectures: at {name!r} one has {a.get(name)}, the other "
            f"{b.get(name)}; compare a network with itself at initialization"
        )


def _check_units(before: list[tuple], after: list[tuple]) -> None:
    if not before and not after:
        raise ValueError("before has nn.ReLU modules but its forward pass calls none: there is no unit to count")
    if before != after:
        raise ValueError(
            f"before and after are of different architectures: the units of their ReLUs are {before} and {after} for "
            "the same samples; compare a network with itself at initialization"
        )


@contextlib.contextmanager
def evaluating(model: nn.Module):
    """Within this context the model is in evaluation mode; afterwards each module is in its own again."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def tangent_kernel(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The empirical tangent kernel J Jᵀ of N samples and K outputs, NK×NK, a sample's outputs next to each other.

    J holds ∂f_k(x_i; w)/∂w in its rows, N·K·(number of parameters) numbers: meant for a few samples. In evaluation
    mode. Raises ValueError for a model without trainable parameters.

    >>> tuple(tangent_kernel(nn.Linear(3, 2), torch.randn(4, 3)).shape)
    (8, 8)
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("model has no trainable parameters: there is no tangent kernel")
    rows = []
    with evaluating(model), torch.enable_grad():
        for sample in x.split(1):
            interruption.check()
            output = model(sample)[0]
            each = torch.eye(len(output), dtype=output.dtype, device=output.device)
            result = torch.autograd.grad(output, weights, each, is_grads_batched=True)
            rows.append(torch.cat([g.flatten(1) for g in result], 1))
    jacobian = torch.cat(rows)
    return jacobian @ jacobian.T


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """‖after − before‖ / ‖before‖, Frobenius: how far a tangent kernel has moved. ValueError where before is 0.

    >>> relative_change(torch.eye(2), 3 * torch.eye(2))
    2.0
    """
    if not before.any():
        raise ValueError("before is 0: a change relative to it has no meaning")
    return ((after - before).norm() / before.norm()).item()
