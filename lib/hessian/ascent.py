"""How far the loss can rise within a ball around the weights: m-sharpness by projected gradient ascent.

    S_ρ(w) = mean over groups G of m samples of  max_{‖δ‖ ≤ ρ} L_G(w + δ) − L_G(w),   L_G = mean of ℓ_i over G

"Towards Understanding SAM", equation (1), with batches in place of the training set. The ascent of Appendix D is

    δ ← δ + s g/‖g‖, g = ∇L_G(w + δ);   then δ ← δ ρ/‖δ‖ where ‖δ‖ > ρ

with one norm over all trainable parameters, s its step size. Any point of it bounds the maximum from below, so the best
of all points of all starts counts. The released code takes something else (`MSharpness.released`).
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from lib.core import interruption, losses
from lib.core.seeds import generator
from lib.hessian.batch_norm import mode
from lib.hessian.checks import check_inputs, targets
from lib.hessian.lanczos import norm2
from lib.hessian.per_sample import MEMORY


class MSharpness(NamedTuple):
    """What ascent found, in units of the loss.

    value: mean over groups of the best rise on any path, at least 0. groups: that rise for each group (float64).
    last: mean over groups of the rise at the end of the first path, which starts at w; may be negative.
    released: what the evaluation released with the paper returns for that path. Where the end of the path classifies a
        sample of the group wrongly that is the same rise, but where it classifies all of them rightly it is −L_G(w).
        (With one restart from w. Compared with that code on a small MLP in float64: equal to 1e-10.) NaN if y are no
        labels.

    >>> MSharpness(value=0.3, last=0.3, released=0.3, groups=torch.tensor([0.2, 0.4]))._fields
    ('value', 'last', 'released', 'groups')
    """

    value: float
    last: float
    released: float
    groups: torch.Tensor


def m_sharpness(
    model: nn.Module,
    loss: str,
    x,
    y,
    *,
    rho: float,
    m: int,
    steps: int = 1,
    step_size: float | None = None,
    starts: int = 1,
    seed: int = 0,
    batch_norm: str = "eval",
    memory: int = MEMORY,
) -> float:
    """max_{‖δ‖ ≤ ρ} L_G(w + δ) − L_G(w) by projected ascent, averaged over the consecutive groups G of m samples.

    model: any module; it is left as it is. loss, x, y: as `lib.hessian.sharpness` takes them. The last group has fewer
    samples where m does not divide their number, and the mean gives it the weight of the others.
    rho: the radius ρ ≥ 0, in units of the weights. steps (1): of ascent. step_size (ρ): the length of a step, in units
    of the weights; the paper has 100 steps of 0.1ρ. With ρ the first step is SAM's. More steps never find less.
    starts (1): paths for each group. The first starts at w, where a zero gradient would end it at once; the others
    start at points drawn uniformly from the ball by `seed`, the number of the group and that of the start.
    batch_norm ("eval"): "eval" normalizes by the running statistics, "train" by those of the group. All else, such as
    dropout, is in evaluation mode, and no buffer moves.
    memory: bytes for activations, which limits the samples of a pass except with batch norm in "train" mode.
    Returns the mean, never below 0. Raises ValueError for values out of range and for data that do not fit the model.

    >>> model, x = nn.Linear(2, 1, bias=False).double(), torch.tensor([[3.0, 4.0]]).double()
    >>> y = model(x).detach() + 1  # (|r| + ρ‖x‖)² − r² for r = 1, ‖x‖ = 5
    >>> round(m_sharpness(model, "squared", x, y, rho=0.1, m=1), 6)
    1.25
    """
    options = dict(steps=steps, step_size=step_size, starts=starts, seed=seed, batch_norm=batch_norm, memory=memory)
    return m_sharpness_details(model, loss, x, y, rho=rho, m=m, **options).value


def m_sharpness_details(
    model: nn.Module,
    loss: str,
    x,
    y,
    *,
    rho: float,
    m: int,
    steps: int = 1,
    step_size: float | None = None,
    starts: int = 1,
    seed: int = 0,
    batch_norm: str = "eval",
    memory: int = MEMORY,
) -> MSharpness:
    """`m_sharpness` with the value of each group, and with what the released code would return. Arguments as there.

    >>> model, x = nn.Linear(1, 1, bias=False).double(), torch.tensor([[1.0], [2.0]]).double()
    >>> y = model(x).detach() + 1  # (1 + ρ‖x‖)² − 1
    >>> [round(rise, 6) for rise in m_sharpness_details(model, "squared", x, y, rho=0.1, m=1).groups.tolist()]
    [0.21, 0.44]
    """
    step_size = rho if step_size is None else step_size
    like = check_inputs(model, loss, x, y)
    _check_options(rho, m, steps, step_size, starts, len(x))
    limit = memory if batch_norm == "eval" else math.inf
    with mode(model, batch_norm):
        y, labels = y.detach(), None if y.is_floating_point() else y.to(like.device)
        best, last, released = [], [], []
        for i, (inputs, goals) in enumerate(zip(x.detach().split(m), y.split(m), strict=True)):
            group = _Group(model, loss, inputs, goals, like, limit)
            rises, end = group.climb(group.start(rho, seed, i, 0), rho, steps, step_size)
            last.append(rises[-1])
            for start in range(1, starts):
                rises += group.climb(group.start(rho, seed, i, start), rho, steps, step_size)[0]
            best.append(max(0.0, *rises))
            if labels is not None:
                wrong = (end.argmax(1) != labels[i * m : (i + 1) * m]).any()
                released.append(last[-1] if wrong else -group.loss)
    return MSharpness(_mean(best), _mean(last), _mean(released), torch.tensor(best, dtype=torch.float64))


def _mean(values):
    return math.fsum(values) / len(values) if values else math.nan


class _Group:
    """The mean loss over a group of samples as a function of the displacement δ, flat, of the trainable parameters."""

    def __init__(self, model, name, x, y, like, memory):
        self.model, self.name, self.n, self.like = model, name, len(x), like
        self.weights = {key: p.detach() for key, p in model.named_parameters() if p.requires_grad}
        if not self.weights:
            raise ValueError("no parameter of the model requires a gradient: there is nothing to move")
        # Copies, for in training mode a norm writes its running statistics.
        self.buffers = {key: b.detach().clone() for key, b in model.named_buffers()}
        self.size = sum(p.numel() for p in self.weights.values())
        sample = 200 * x[0].numel() * x.element_size()  # twice the activations of a hundred inputs, as `General`
        self.inputs = x.split(len(x) if math.isinf(memory) else max(1, int(memory // sample)))
        try:
            outputs = self._outputs(self.weights)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise ValueError(f"model cannot take {len(x)} samples of shape {tuple(x.shape[1:])}: {error}") from error
        if outputs.dim() != 2 or len(outputs) != len(x):
            raise ValueError(f"model gives {tuple(outputs.shape)} for {len(x)} samples: one row of outputs for each")
        self.y = targets(name, y, len(x), outputs.shape[1], like)
        self.base = losses.per_sample(name, outputs, self.y).double()
        self.loss = self.base.mean().item()
        if not math.isfinite(self.loss):
            raise ValueError("the loss at the weights is NaN or infinite: check weights, buffers and the scale of x")

    def _apply(self, weights, x):
        interruption.check()
        return torch.func.functional_call(self.model, (weights, self.buffers), (x,))

    @torch.no_grad()
    def _outputs(self, weights):
        return torch.cat([self._apply(weights, x) for x in self.inputs])

    def _moved(self, delta):
        parts = delta.split([p.numel() for p in self.weights.values()])
        return {key: p + part.view_as(p) for (key, p), part in zip(self.weights.items(), parts, strict=True)}

    def _rise(self, outputs):
        # Sample by sample, in float64: for a small radius the two losses agree in most of their digits.
        return (losses.per_sample(self.name, outputs, self.y).double() - self.base).mean().item()

    def _ascend(self, delta):
        """The rise at δ, the outputs, and the flat gradient there."""
        weights = {key: p.requires_grad_() for key, p in self._moved(delta).items()}
        outputs, gradient, done = [], torch.zeros_like(delta), 0
        for x in self.inputs:
            with torch.enable_grad():
                outputs.append(self._apply(weights, x))
                loss = losses.per_sample(self.name, outputs[-1], self.y[done : done + len(x)]).sum() / self.n
                parts = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            outputs[-1], done = outputs[-1].detach(), done + len(x)
            gradient += torch.cat([part.flatten() for part in parts])
        outputs = torch.cat(outputs)
        return self._rise(outputs), outputs, gradient

    def start(self, rho, seed, group, number):
        """δ at the start of a path: 0 for the first, else uniform in the ball."""
        if number == 0:
            return torch.zeros(self.size, dtype=self.like.dtype, device=self.like.device)
        random = generator(seed, "m-sharpness", group, number)
        noise = torch.randn(self.size, generator=random, dtype=torch.float64)
        radius = rho * torch.rand((), generator=random, dtype=torch.float64).item() ** (1 / self.size)
        return (noise * (radius / norm2(noise))).to(self.like)

    def climb(self, delta, rho, steps, step_size):
        """The rises at all points of the path, and the outputs at its end."""
        rises = []
        for _ in range(steps):
            rise, outputs, gradient = self._ascend(delta)
            rises.append(rise)
            norm = norm2(gradient)
            if not (math.isfinite(norm) and norm > 0):  # no direction to climb in: the path ends here
                return rises, outputs
            delta = delta + gradient * (step_size / norm)
            length = norm2(delta)
            if length > rho:
                delta = delta * (rho / length)
        outputs = self._outputs(self._moved(delta))
        return [*rises, self._rise(outputs)], outputs


def _check_options(rho, m, steps, step_size, starts, n):
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: the radius must be a finite number, 0 or more")
    if not (math.isfinite(step_size) and step_size >= 0 and (step_size > 0 or rho == 0)):
        raise ValueError(
            f"step_size = {step_size!r}: must be a finite number above 0, such as 0.1 rho = {0.1 * rho:.3g}"
        )
    for name, value in (("m", m), ("steps", steps), ("starts", starts)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} = {value!r}: must be an integer, 1 or more")
    if m > n:
        raise ValueError(f"m = {m!r}: x has {n} samples, and a group takes m of them")
