"""The losses of the paper by name: what one sample costs, what the output is compared with, its curvature."""

import torch
from torch import nn

NAMES = ("cross_entropy", "mse", "squared")


def per_sample(loss: str, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The N losses of `output` (N×K): "cross_entropy" (labels N), "squared" ‖f − y‖² and "mse" half of it (N×K)."""
    check(loss)
    if loss == "cross_entropy":
        return nn.functional.cross_entropy(output, target, reduction="none")
    return (output - target).square().sum(-1) * (0.5 if loss == "mse" else 1.0)


def target(loss: str, y: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """What `per_sample` compares with: labels (N, int64) for cross entropy, else vectors N×K, labels made one-hot."""
    check(loss)
    if loss == "cross_entropy" or y.is_floating_point():
        return y
    return nn.functional.one_hot(y, classes).to(dtype)


def check(loss: str) -> None:
    """Raise ValueError for a loss that there is not."""
    if loss not in NAMES:
        raise ValueError(f"loss = {loss!r}: must be one of {', '.join(NAMES)}")


def check_target(loss: str, y: torch.Tensor, output: torch.Tensor) -> None:
    """Raise ValueError for a y that `target` cannot make something of to compare with the output (N×K)."""
    classes, labels = output.shape[-1], not y.is_floating_point()
    message = f"y: of {y.dtype} and shape {tuple(y.shape)}; "
    if labels and not (y.dtype == torch.int64 and y.shape == output.shape[:1] and 0 <= y.min() and y.max() < classes):
        raise ValueError(f"{message}labels are {len(output)} of torch.int64 in 0 to {classes - 1}")
    if not labels and loss == "cross_entropy":
        raise ValueError(f"{message}cross entropy takes labels, {len(output)} of torch.int64")
    if not labels and y.shape != output.shape:
        raise ValueError(f"{message}targets are of the output's shape, {tuple(output.shape)}")


class Curvature:
    """A loss to second order at the outputs f (N×K): its `gradient` (N×K) and its Hessian Q_i = S_i S_iᵀ.

    Q is 1 for "mse" and 2 for "squared". For the softmax π of "cross_entropy" it is diag π − ππᵀ = SSᵀ with
    S = diag √π − π√πᵀ, for √π has length 1. `y` as `per_sample` takes it.
    """

    def __init__(self, loss: str, f: torch.Tensor, y: torch.Tensor):
        check(loss)
        self.factor = 2.0 if loss == "squared" else 1.0
        self.softmax = f.softmax(1) if loss == "cross_entropy" else None
        if self.softmax is None:
            self.gradient = self.factor * (f - y)
        else:
            self.gradient = self.softmax - nn.functional.one_hot(y, f.shape[1])

    def product(self, u: torch.Tensor) -> torch.Tensor:
        """Q_i u_i."""
        return self.factor * u if self.softmax is None else self.root(self.root_t(u))

    def root(self, u: torch.Tensor) -> torch.Tensor:
        """S_i u_i."""
        if self.softmax is None:
            return self.factor**0.5 * u
        v = self.softmax.sqrt() * u
        return v - self.softmax * v.sum(1, keepdim=True)

    def root_t(self, u: torch.Tensor) -> torch.Tensor:
        """S_iᵀ u_i."""
        if self.softmax is None:
            return self.factor**0.5 * u
        return self.softmax.sqrt() * (u - (self.softmax * u).sum(1, keepdim=True))
