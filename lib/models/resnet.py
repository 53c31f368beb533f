"""Residual networks of any width from torchvision's blocks (He et al. 2016), with batch or group norm.

| network | blocks | stem | parameters at width 64 |
|---|---|---|---|
| resnet18 | 2, 2, 2, 2 of two 3×3 convolutions | 3×3, without pooling, for small images | 11.17 million, 10 classes |
| resnet50 | 3, 4, 6, 3 of 1×1, 3×3, 1×1 | ImageNet's: 7×7 of stride 2, then max-pooling | 25.56 million, 1000 classes |

The blocks of stage k = 0…3 have width·2^k filters, four times as many at the output of a bottleneck.
"""

from collections.abc import Sequence

import torch
from torch import nn

NORMS = ("batch", "group")
MOST_GROUPS = 32  # Wu and He 2018
LEAST_CHANNELS = 4  # of a group, so that narrow stages of 1×1 pixels are not normalized to nothing


FAULTY_CHANNELS = 16  # below so many inputs a group a strided 1×1 convolution may damage memory, see docs/onednn.md


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution of any stride s. With few channels it takes every s-th pixel first and then has stride 1:

        (W ∗ₛ x)[i, j] = W x[s·i, s·j],

    the same numbers, without the primitive of oneDNN whose gradient in W writes past its workspace.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == (1, 1) or self.in_channels // self.groups >= FAULTY_CHANNELS:
            return super().forward(x)
        down, across = self.stride
        return nn.functional.conv2d(x[:, :, ::down, ::across], self.weight, self.bias, groups=self.groups)


def resnet18(width: int, in_shape: Sequence[int], classes: int, norm: str = "batch") -> nn.Sequential:
    """18 layers for inputs of `in_shape` C×H×W of any size, 32×32 in the paper."""
    from torchvision.models.resnet import BasicBlock  # takes seconds that no other network should pay

    stem = [nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False), normalization(norm, width), nn.ReLU(inplace=True)]
    return _resnet(BasicBlock, (2, 2, 2, 2), stem, width, classes, norm)


def resnet50(width: int, in_shape: Sequence[int], classes: int, norm: str = "batch") -> nn.Sequential:
    """50 layers for inputs of `in_shape` C×H×W of any size, 224×224 in the paper."""
    from torchvision.models.resnet import Bottleneck

    stem = [
        nn.Conv2d(in_shape[0], width, 7, stride=2, padding=3, bias=False),
        normalization(norm, width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    return _resnet(Bottleneck, (3, 4, 6, 3), stem, width, classes, norm)


def normalization(norm: str, channels: int) -> nn.Module:
    """Batch norm, or group norm in at most MOST_GROUPS equal groups of LEAST_CHANNELS or more (one if there are fewer).

    Raises ValueError for an unknown name.
    """
    if norm not in NORMS:
        raise ValueError(f"norm = {norm!r}: must be one of {', '.join(NORMS)}")
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    most = max(min(MOST_GROUPS, channels // LEAST_CHANNELS), 1)
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


def _resnet(block, depths: Sequence[int], stem: list[nn.Module], width: int, classes: int, norm: str) -> nn.Sequential:
    blocks: list[nn.Module] = []
    inplanes = width
    for stage, depth in enumerate(depths):
        planes = width * 2**stage
        for i in range(depth):
            stride, shortcut = 2 if stage and not i else 1, None
            if stride != 1 or inplanes != planes * block.expansion:
                conv = PointwiseConv2d(inplanes, planes * block.expansion, 1, stride, bias=False)
                shortcut = nn.Sequential(conv, normalization(norm, planes * block.expansion))
            blocks.append(block(inplanes, planes, stride, shortcut, norm_layer=lambda n: normalization(norm, n)))
            inplanes = planes * block.expansion
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inplanes, classes))
    model = nn.Sequential(*stem, *blocks, *head)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return model
