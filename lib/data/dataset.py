"""One split of a data set, whole and raw, as every reader returns it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lib.data.errors import damaged


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split. Its tensors are shared by all who load it: never write to them.

    x: N×C×H×W, raw (uint8 in 0..255, or float32); y: labels (int64, N) or targets (float, N×outputs).
    classes: the number of classes, or of outputs.

    >>> Dataset(torch.zeros(2, 1, 8, 8), torch.tensor([3, 5]), 10, "two blank images").classes
    10
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: int
    name: str


def complete(result: Dataset, count: int, shape: tuple[int, ...], file: Path) -> Dataset:
    """The data set itself, or DataUnavailable if it has not `count` images of that shape."""
    if result.x.shape != (count, *shape):
        raise damaged(file, f"its images are {times(result.x.shape)}, must be {times((count, *shape))}")
    return result


def times(shape) -> str:
    """A shape in words: 3×32×32."""
    return "×".join(map(str, shape))
