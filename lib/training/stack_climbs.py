"""The ways of a stack to climb for which every gradient is formed (`lib.runs.climbing`): in several steps, by another
batch, at random, or with weight decay."""

import torch

from lib.training import perturbation
from lib.training.stack_passes import Parameters


def forms_every_gradient(run) -> bool:
    """Whether a run climbs in such a way."""
    return perturbation.climbs_elsewhere(run) or run.ascent_steps > 1 or run.decay_in_ascent


class Climbs:
    """Replaces the gradients at w of the stack's members with ρ > 0 by those at w + ε.

    ε has a buffer of its own: with the size s and u of `lib.runs.climbing`, ε ← Π(ε + s·u(w + ε)) for each member.
    """

    def __init__(self, stack, shapes):
        self.stack, self.run = stack, stack.run
        self.offsets = Parameters(shapes, stack.dtype, stack.device)
        self.members = stack.at_perturbed
        self.own = self.members.own(self.offsets)
        self.bounded = stack.normalized & (self.run.ascent_steps > 1) | self.run.clip

    def gradient(self, x: torch.Tensor, y: torch.Tensor, other: tuple | None) -> None:
        """For the batch (x, y) of each seed, and the one that climbs instead of it, if there is one."""
        self.offsets.flat.zero_()
        for k in range(self.run.ascent_steps):
            if self.run.perturbation == "random":
                self._draw()
            elif k or other is not None:
                self._descend(*(other or (x, y)))
            self._ascend()
        self._descend(x, y)

    def _descend(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Fill the members' gradients at w + ε."""
        members, stack = self.members, self.stack
        torch.add(stack.weights.flat, self.offsets.flat, out=stack.perturbed.flat)
        members.gradient(x, members.first(x), lambda output: stack.loss_gradient(output, y[members.seed_of_member]))
        if self.run.decay_in_ascent:
            torch._foreach_add_(members.gradients, members.layers, alpha=self.run.weight_decay)

    def _draw(self) -> None:
        like = [layer[0] for layer in self.members.gradients]
        drawn = [perturbation.draw(seed, self.stack.number, like) for seed in self.stack.seeds]
        for gradient, layers in zip(self.members.gradients, zip(*drawn, strict=True), strict=True):
            gradient.copy_(torch.stack(layers)[self.members.seed_of_member])
        for gradient, mask in zip(self.members.gradients, self.members.masks, strict=bool(self.members.masks)):
            gradient.mul_(mask)

    def _ascend(self) -> None:
        """One step by the members' gradients, projected to ‖ε‖ ≤ ρ where it is bounded."""
        rho, normalized = self.stack.rho, self.stack.normalized
        step = self.run.ascent_step * self.stack.scale
        size = torch.full_like(rho, step) if step else rho / self.run.ascent_steps
        norm = _norm(self.members.gradients)
        scale = torch.where(normalized, torch.where(norm > 0, size / norm, 0), size)
        for offset, gradient in zip(self.own, self.members.gradients, strict=True):
            offset.addcmul_(gradient, _column(scale, offset))
        shrink = torch.where(self.bounded, (rho / _norm(self.own)).clamp(max=1), 1)
        for offset in self.own:
            offset.mul_(_column(shrink, offset))


def _norm(layers: list[torch.Tensor]) -> torch.Tensor:
    """The norm of each member over all its layers, in double precision."""
    return sum(layer.flatten(1).square().sum(1).double() for layer in layers).sqrt()


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
