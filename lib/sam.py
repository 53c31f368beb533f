"""Sharpness-aware minimization as a `torch.optim.Optimizer` around any base optimizer.

One step at w with gradient g = ∇f(w), on one mini-batch (Section 2.1, equation 4, and Appendix D):

    ε = ρ g / ‖g‖₂  (normalized)    or    ε = ρ g  (unnormalized, the variant of Theorems 7, 9 and 12)
    w ← base optimizer's step at w with the gradient ∇f(w + ε)

The norm is one norm over all parameters. Weight decay belongs to the base optimizer and does not enter ε. `SAM.step`
also splits the batch (m-SAM), climbs by another batch (n-SAM) and in several steps.
"""

import contextlib
import functools
import inspect
import itertools
import math
import numbers

import torch


class SAM(torch.optim.Optimizer):
    """SAM around `base_optimizer(params, **kwargs)`; `rho=0` is the base optimizer at its usual cost.

    params: what any torch optimizer takes; a group may set its own `rho` or `normalized`.
    rho: the radius ρ ≥ 0, in units of the weights if normalized, else a multiple of the gradient.
    clip: scale an unnormalized ε down to length ρ where it is longer.
    steps, step_size: K ascent steps of size s, by default ρ/K, of which each climbs by the gradient at the point where
        the one before it arrived: ε ← Π(ε + s·g(w + ε)/‖g(w + ε)‖), projected to ‖ε‖ ≤ ρ; unnormalized without /‖g‖,
        and without Π unless `clip`.
    model: if given, the buffers that its pass at w changes, such as running statistics, are left alone in the pass at
        w + ε, so that they are what the base optimizer alone would have gathered at the same weights.

    Where the base maximizes f, the step is that of minimizing −f. A checkpoint is one of the base optimizer, with `rho`
    and `normalized` in its groups; one without them, from the base alone, keeps those given here.
    Parameters may be sharded over devices by `fully_shard`: ‖g‖ is that of all shards.
    Raises ValueError for an option out of range, and for a base optimizer with an option `rho` or `normalized` of its
    own (Adadelta) or whose step needs a closure (LBFGS); TypeError when `step` gets no closure, and for parameters of
    FullyShardedDataParallel, which hides the other shards.

    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, model=model)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = model(torch.ones(4, 2)).square().mean()
    ...     loss.backward()
    ...     return loss
    >>> bool(optimizer.step(closure) >= 0)
    True
    """

    def __init__(
        self, params, base_optimizer, *, rho, normalized=True, clip=False, steps=1, step_size=None, model=None, **kwargs
    ):
        _check_rho(rho)
        _check_steps(steps, step_size)
        own = dict(rho=float(rho), normalized=bool(normalized))
        super().__init__(params, own)
        self.clip, self.steps, self.step_size, self._model = clip, steps, step_size, model
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        _check_base(self.base_optimizer, own)
        self.defaults = {**self.base_optimizer.defaults, **own}
        self._adopt()

    def _adopt(self):
        # One set of groups and state: a scheduler or a checkpoint that sees this optimizer sees the base too.
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state
        for group in self.param_groups:
            group |= {option: group.get(option, self.defaults[option]) for option in ("rho", "normalized")}
            if any(getattr(p, "_fsdp_flattened", False) for p in group["params"]):
                raise TypeError("FullyShardedDataParallel hides the norm over all shards: use fully_shard instead")

    def add_param_group(self, param_group):
        _check_rho(param_group.get("rho", 0.0))
        if "base_optimizer" not in self.__dict__:  # the constructor adds the first groups
            return super().add_param_group(param_group)
        self.base_optimizer.add_param_group({name: self.defaults[name] for name in ("rho", "normalized")} | param_group)
        self._adopt()

    def __getstate__(self):
        own = {name: self.__dict__[name] for name in ("base_optimizer", "_model", "clip", "steps", "step_size")}
        return super().__getstate__() | own  # torch's keeps its own attributes only, in a copy or a pickle

    def __setstate__(self, state):
        super().__setstate__(state)
        self._adopt()

    def state_dict(self):
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict)  # knows the options that an older checkpoint lacks
        self._adopt()

    def step(self, closure=None, *, ascent=None, steps=None, scaler=None):
        """One step; `closure` zeroes the gradients, calls backward and returns the loss. Returns the loss at w.

        The closure is called at w and, where some ρ > 0, again at w + ε. w is restored exactly, also when
        the second call raises. A sequence of closures, one for each part of the batch, makes the step one of m-SAM:
        every part climbs by its own gradient, and the base optimizer gets the mean of the gradients at these points.
        The loss returned is the mean of the parts' losses at w.

        ascent: what leaves the gradients to climb by in place of `closure`, which is then called at w + ε only: a
        closure of another batch (n-SAM), or anything that sets `grad`; a sequence if `closure` is one. The loss
        returned is then its own. Where no ρ > 0 it is not called. steps: in place of the optimizer's.

        scaler: a `torch.amp.GradScaler` by which the closure scales what it calls backward on. ε is then of unscaled
        gradients. The scaler steps the base optimizer, so that it unscales what that gets, and skips the step if a
        gradient is not finite, at w or at w + ε. Its `update` is left to the caller.
        """
        if closure is None:
            raise TypeError(
                "SAM.step needs a closure that zeroes the gradients, calls backward and returns the loss: "
                "it evaluates the gradient twice. With a GradScaler: optimizer.step(closure, scaler=scaler)"
            )
        steps = self.steps if steps is None else steps
        _check_steps(steps)
        if callable(closure):
            loss = self._gradient(closure, ascent, steps, scaler)
        else:
            loss = self._mean_gradient(list(closure), ascent, steps, scaler)
        if scaler is None:
            self.base_optimizer.step()
        else:
            scaler.step(self.base_optimizer)
        return loss

    def _gradient(self, closure, ascent, steps, scaler):
        """Leave the gradient at w + ε in the parameters; return the loss at w."""
        closure = torch.enable_grad()(closure)
        if not any(group["rho"] > 0 for group in self.param_groups):
            return closure()
        climb = closure if ascent is None else torch.enable_grad()(ascent)
        before = _buffers(self._model)
        loss, after = climb(), _buffers(self._model).items()  # a norm layer changes its running_… without counting it
        moving = {at: new[2] for at, new in after if at[1].startswith("running_") or before.get(at) != new}
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if scaler is not None and not gradient_norm([p.grad for p, _ in moved]).isfinite():
            return loss  # the scaler finds this gradient and skips the step
        scale = 1.0 if scaler is None else scaler.get_scale()
        with _restored([p for p, _ in moved], moving) as saved:
            offsets = self._ascend(moved, None, saved, steps, scale)
            for _ in range(steps - 1):
                climb()
                offsets = self._ascend(moved, offsets, saved, steps, scale)
            closure()
        return loss

    def _mean_gradient(self, closures, ascents, steps, scaler):
        if not closures:
            raise ValueError("SAM.step got no closure: it needs one for each part of the batch, at least one")
        ascents = [None] * len(closures) if ascents is None else list(ascents)
        if len(ascents) != len(closures):
            raise ValueError(f"ascent: {len(ascents)} closures for {len(closures)} parts of the batch; each needs one")
        total, sums = 0, {}
        for closure, ascent in zip(closures, ascents, strict=True):
            total = total + self._gradient(closure, ascent, steps, scaler).detach()
            for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
                sums[p] = sums[p] + p.grad if p in sums else p.grad.clone()
        for p, g in sums.items():
            p.grad = g / len(closures)
        return total / len(closures)

    @torch.no_grad()
    def _ascend(self, moved, offsets, saved, steps, scale):
        """Take one ascent step from w + ε, or from w if `offsets` is None, and return the new offsets ε."""
        gradients = [_wide(torch.zeros_like(p) if p.grad is None else p.grad) for p, _ in moved]
        units, norm, _ = _in_range(gradients)
        inverse = torch.where(norm > 0, 1 / norm, 0) if moved else norm
        climbs = []
        every = zip(moved, gradients, units, strict=True)
        for _, members in itertools.groupby(every, key=lambda one: (one[1].device, one[0][0].dtype, id(one[0][1]))):
            pairs, gradients, units = zip(*members, strict=True)
            group = pairs[0][1]
            size = group["rho"] / steps if steps == 1 or self.step_size is None else self.step_size * (group["rho"] > 0)
            size *= -1 if group.get("maximize") or getattr(self.base_optimizer, "maximize", False) else 1
            if group["normalized"]:
                factor = (size * inverse).to(units[0].device, units[0].dtype)
                climbs += torch._foreach_mul(units, factor.item() if hasattr(units[0], "to_local") else factor)
            else:
                climbs += torch._foreach_mul(gradients, size / scale)
        if offsets is not None:
            climbs = torch._foreach_add(offsets, climbs)
            _copy([p for p, _ in moved], saved)
        # In the ball Σ ‖ε_k/ρ_k‖² ≤ 1 over the groups k that have one: ‖ε‖ ≤ ρ where all have the same ρ.
        ball = [group["rho"] * (steps > 1 if group["normalized"] else self.clip) for _, group in moved]
        if any(ball):
            shrink = (1 / gradient_norm([e / rho for e, rho in zip(climbs, ball, strict=True) if rho])).clamp(max=1)
            climbs = [e * shrink.to(e.device, e.dtype) if rho else e for e, rho in zip(climbs, ball, strict=True)]
        if moved:
            torch._foreach_add_([p for p, _ in moved], climbs)
        return climbs


@contextlib.contextmanager
def _restored(parameters, buffers):
    """Gives copies of the parameters. Afterwards these, and the buffers by module and name, are as now to the bit."""
    saved, values = [p.detach().clone() for p in parameters], [b.clone() for b in buffers.values()]
    try:
        yield saved
    finally:
        with torch.no_grad():
            _copy(parameters, saved)
            for ((m, name), b), value in zip(buffers.items(), values, strict=True):
                m._buffers[name] = b.copy_(value)


def _by(method, tensor):
    """The result of a method that only tensors sharded by `fully_shard` have, else the tensor itself."""
    return getattr(tensor, method)() if hasattr(tensor, method) else tensor


def _copy(parameters, values):
    if parameters:
        torch._foreach_copy_(*([_by("to_local", t) for t in tensors] for tensors in (parameters, values)))


def gradient_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """‖g‖₂ over all tensors together, a float64 scalar, of real and imaginary parts alike; NaN propagates.

    A sum of squares, which torch adds up in pairs: at five million float32 entries on a CPU it is off by 5e-8, where
    `vector_norm` is off by up to 4e-3 and a dot product by 3e-4 (both worst for equal entries).
    """
    _, norm, unit = _in_range([_wide(g) for g in gradients])
    return norm * unit


def _wide(gradient):
    """The gradient in float32 at least: in half precision squares overflow and vanish."""
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _in_range(gradients):
    """(g/u, ‖g/u‖₂, u): u = 1 where no square that counts overflows or vanishes, else a power of two for which so."""
    if not gradients:
        return gradients, torch.zeros((), dtype=torch.float64), 1.0
    look = not gradients[0].is_cuda  # there it would wait for the device, and a graph could not be recorded
    if look:
        norm = _norm(gradients)
        if not (norm == math.inf or norm < max(torch.finfo(g.dtype).tiny for g in gradients) ** 0.4):
            return gradients, norm, 1.0
    common = functools.reduce(torch.promote_types, (g.dtype.to_real() for g in gradients))
    gradients = [g.to(torch.promote_types(g.dtype, common)) for g in gradients]
    filled = [values for values in map(_entries, gradients) if values.numel()]
    maxima = torch._foreach_norm(filled or [torch.zeros(1)], math.inf)  # max |g| of each
    largest = torch.stack([_by("full_tensor", one).to(maxima[0].device, torch.float64) for one in maxima]).max()
    bound = -math.frexp(torch.finfo(common).tiny)[1]
    exponent = torch.where(largest.isfinite(), torch.frexp(largest).exponent, 0).clamp(-bound, bound)
    factor = torch.ldexp(torch.ones_like(largest), -exponent)
    scaled = []
    for alike, members in itertools.groupby(gradients, key=lambda g: (g.device, g.dtype)):
        scaled += torch._foreach_mul(list(members), factor.to(*alike))
    return scaled, _norm(scaled), 1 / factor


def _entries(gradient):
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return torch.view_as_real(values) if values.is_complex() else values


def _norm(gradients):
    gradients = [_entries(g) for g in gradients]
    if gradients[0].is_cuda:  # sums in a tree, all tensors in one launch
        squares = [_by("full_tensor", norm).double().square() for norm in torch._foreach_norm(gradients)]
    else:
        squares = [_by("full_tensor", g.square().sum()).double() for g in gradients]
    return torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt()


def _buffers(model):
    """Every buffer of a model by its module and name, after what tells whether it is the same, unchanged tensor."""
    named = ((m, name, b) for m in (model.modules() if model else ()) for name, b in m._buffers.items())
    return {(m, name): (id(b), b._version, b) for m, name, b in named if b is not None}


def _check_base(base, own):
    name = type(base).__name__
    for option in own.keys() & base.defaults.keys():
        raise ValueError(
            f"{name} has an option {option!r} of its own, which SAM's would overwrite: take another base optimizer"
        )
    needed = [p.name for p in inspect.signature(base.step).parameters.values() if p.default is p.empty and p.kind < 2]
    if needed:
        raise ValueError(
            f"{name}.step needs a {needed[0]}, for it evaluates the loss itself: "
            "SAM can only be around an optimizer that steps by the gradient it is given"
        )


def _check_steps(steps, step_size=None):
    if not (isinstance(steps, numbers.Integral) and steps >= 1):
        raise ValueError(f"steps = {steps!r}: SAM takes a whole number of ascent steps, 1 or more")
    if step_size is not None and not (isinstance(step_size, numbers.Real) and 0 < step_size < math.inf):
        raise ValueError(f"step_size = {step_size!r}: the size of an ascent step must be a positive number, or None")


def _check_rho(rho):
    if not (isinstance(rho, numbers.Real) and math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: the radius of SAM must be a finite number, 0 or more")
