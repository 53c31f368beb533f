"""The losses of the paper by name: what one sample costs, and what the output is compared with."""

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
