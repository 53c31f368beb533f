"""Sharpness-aware minimization as a `torch.optim.Optimizer` around any base optimizer.

One step at w with gradient g = ∇f(w), on one mini-batch (Section 2.1, equation 4, and Appendix D):

    ε = ρ g / ‖g‖₂  (normalized)    or    ε = ρ g  (unnormalized, the variant of Theorems 7, 9 and 12)
    w ← base optimizer's step at w with the gradient ∇f(w + ε)

The norm is one norm over all parameters. Weight decay belongs to the base optimizer and does not enter ε.
"""

import contextlib
import itertools
import math
import numbers

import torch
from torch import nn


class SAM(torch.optim.Optimizer):
    """SAM around `base_optimizer(params, **base_options)`; `rho=0` is the base optimizer at its usual cost.

    params: what any torch optimizer takes; a group may set its own `rho` or `normalized`.
    rho: the radius ρ ≥ 0, in units of the weights if normalized, else a multiple of the gradient.
    model: if given, the running statistics of its batch-norm layers move in the pass at w only, so that they
        are what the base optimizer alone would have gathered at the same weights.

    Raises ValueError for a rho that is negative or not finite, TypeError when `step` gets no closure.

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

    def __init__(self, params, base_optimizer, *, rho, normalized=True, model=None, **base_options):
        _check_rho(rho)
        super().__init__(params, dict(rho=float(rho), normalized=bool(normalized)))
        self.base_optimizer = base_optimizer(self.param_groups, **base_options)
        self.defaults = {**self.base_optimizer.defaults, **self.defaults}
        self._share_state()
        self._batch_norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if model else []

    def _share_state(self):
        # One set of groups and state: a scheduler or a checkpoint that sees this optimizer sees the base too.
        self.base_optimizer.param_groups = self.param_groups
        self.base_optimizer.state = self.state

    def add_param_group(self, param_group):
        _check_rho(param_group.get("rho", 0.0))
        super().add_param_group(param_group)

    def __getstate__(self):
        own = {name: self.__dict__[name] for name in ("base_optimizer", "_batch_norms")}
        return super().__getstate__() | own  # torch's keeps its own attributes only, in a copy or a pickle

    def __setstate__(self, state):
        super().__setstate__(state)
        self._share_state()

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self._share_state()

    def step(self, closure=None):
        """One step; `closure` zeroes the gradients, calls backward and returns the loss. Returns the loss at w.

        The closure is called at w and, where some ρ > 0, again at w + ε. w is restored exactly, also when
        the second call raises. A sequence of closures, one for each part of the batch, makes the step one of m-SAM:
        every part climbs by its own gradient, and the base optimizer gets the mean of the gradients at these points.
        The loss returned is the mean of the parts' losses at w.
        """
        if closure is None:
            raise TypeError(
                "SAM.step needs a closure that zeroes the gradients, calls backward and returns the loss: "
                "it evaluates the gradient twice"
            )
        if callable(closure):
            loss = self._gradient(closure)
        else:
            loss = self._mean_gradient(list(closure))
        self.base_optimizer.step()
        return loss

    def _gradient(self, closure):
        """Leave the gradient at w + ε in the parameters; return the loss at w."""
        closure = torch.enable_grad()(closure)
        loss = closure()
        if any(group["rho"] > 0 for group in self.param_groups):
            with self._perturbed(), _frozen_statistics(self._batch_norms):
                closure()
        return loss

    def _mean_gradient(self, closures):
        if not closures:
            raise ValueError("SAM.step got no closure: it needs one for each part of the batch, at least one")
        total, sums = 0, {}
        for closure in closures:
            total = total + self._gradient(closure).detach()
            for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
                sums[p] = sums[p] + p.grad if p in sums else p.grad.clone()
        for p, g in sums.items():
            p.grad = g / len(closures)
        return total / len(closures)

    @contextlib.contextmanager
    def _perturbed(self):
        """Within this context the parameters are w + ε; afterwards they are w to the last bit."""
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        parameters = [p for p, _ in moved]
        saved = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            norm = gradient_norm([p.grad for p in parameters])
            inverse = torch.where(norm > 0, 1 / norm, 0) if moved else norm
            for alike, members in itertools.groupby(moved, key=lambda one: (one[0].device, one[0].dtype, id(one[1]))):
                members = list(members)
                group = members[0][1]
                scale = (group["rho"] * inverse).to(*alike[:2]) if group["normalized"] else group["rho"]
                torch._foreach_add_([p for p, _ in members], torch._foreach_mul([p.grad for p, _ in members], scale))
        try:
            yield
        finally:
            with torch.no_grad():
                if moved:
                    torch._foreach_copy_(parameters, saved)


_BatchNorm = nn.modules.batchnorm._BatchNorm


def gradient_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """‖g‖₂ over all tensors together, a float64 scalar; NaN propagates.

    A sum of squares, which torch adds up in pairs: at five million float32 entries on a CPU it is off by 5e-8.
    `vector_norm` is off by up to 4e-3 and a dot product by 3e-4 (both worst for equal entries), and float64 takes
    twenty times as long.
    """
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    if gradients[0].is_cuda and not any(g.is_sparse for g in gradients):  # sums in a tree, all tensors in one launch
        squares = [norm.double().square() for norm in torch._foreach_norm(gradients)]
    else:
        squares = [g.square().sum().double() for g in gradients]
    return torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt()


@contextlib.contextmanager
def _frozen_statistics(batch_norms):
    # Without tracking, a layer in training mode normalizes by the batch as before but updates no buffer.
    tracking = [m.track_running_stats for m in batch_norms]
    for m in batch_norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m, tracked in zip(batch_norms, tracking, strict=True):
            m.track_running_stats = tracked


def _check_rho(rho):
    if not (isinstance(rho, numbers.Real) and math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: the radius of SAM must be a finite number, 0 or more")
