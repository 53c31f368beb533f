"""Pre-activation residual networks of any width (He et al. 2016, *Identity Mappings*), as Andriushchenko and Flammarion
trained them on CIFAR: with batch norm, or with group norm in width/2 groups in every layer.

| network | blocks | parameters at width 64, 10 classes |
|---|---|---|
| preact_resnet18 | 2, 2, 2, 2 | 11.17 million |
| preact_resnet34 | 3, 4, 6, 3 | 21.28 million |

A block adds to its input two 3×3 convolutions, each behind a norm and a ReLU:

    a = ReLU(norm₁(x)),   y = shortcut + conv₂(ReLU(norm₂(conv₁(a)))).

The shortcut is x, or where the block changes size a 1×1 convolution of a. The stem is a 3×3 convolution alone, and a
norm and a ReLU follow the last block. Stage k = 0…3 has width·2^k filters.
"""

from collections.abc import Sequence

import torch
from torch import nn

from lib.models.resnet import PointwiseConv2d, normalization

DEPTHS = {"preact_resnet18": (2, 2, 2, 2), "preact_resnet34": (3, 4, 6, 3)}


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, each behind its norm and a ReLU, and a shortcut around them."""

    def __init__(self, before: int, after: int, stride: int, norm):
        super().__init__()
        self.norm1, self.norm2, self.relu = norm(before), norm(after), nn.ReLU()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        resized = stride != 1 or before != after
        self.shortcut = PointwiseConv2d(before, after, 1, stride, bias=False) if resized else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu(self.norm1(x))
        inner = self.conv2(self.relu(self.norm2(self.conv1(activated))))
        return inner + (x if self.shortcut is None else self.shortcut(activated))


def preact_resnet18(width: int, in_shape: Sequence[int], classes: int, norm: str = "batch") -> nn.Sequential:
    """18 layers for inputs of `in_shape` C×H×W of any size, 32×32 in the paper."""
    return _preact_resnet(DEPTHS["preact_resnet18"], width, in_shape, classes, norm)


def preact_resnet34(width: int, in_shape: Sequence[int], classes: int, norm: str = "batch") -> nn.Sequential:
    """34 layers for inputs of `in_shape` C×H×W of any size, 32×32 in the paper."""
    return _preact_resnet(DEPTHS["preact_resnet34"], width, in_shape, classes, norm)


def groups(width: int) -> int:
    """Of every group norm: width/2, or the next smaller number that divides the width.

    >>> [groups(width) for width in (1, 4, 9, 64)]
    [1, 2, 3, 32]
    """
    return next(count for count in range(max(width // 2, 1), 0, -1) if width % count == 0)


def _preact_resnet(
    depths: Sequence[int], width: int, in_shape: Sequence[int], classes: int, norm: str
) -> nn.Sequential:
    def normalize(channels: int) -> nn.Module:
        return nn.GroupNorm(groups(width), channels) if norm == "group" else normalization(norm, channels)

    layers: list[nn.Module] = [nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False)]
    before = width
    for stage, depth in enumerate(depths):
        after = width * 2**stage
        for i in range(depth):
            layers.append(PreActBlock(before, after, 2 if stage and not i else 1, normalize))
            before = after
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    model = nn.Sequential(*layers, normalize(before), nn.ReLU(), *head)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(model[-1].bias)
    return model
