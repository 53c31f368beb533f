"""VGG-11 for 32×32 images as Chizat et al. train it (Appendix C): eight 3×3 convolutions with a ReLU behind each, five
poolings by 2 that leave one pixel, one linear layer; filters w, 2w, 4w, 4w, 8w, 8w, 8w, 8w.

There is no normalization by default: Appendix C linearizes the network, and batch norm would scale its weights away.
"""

from collections.abc import Sequence

from torch import nn

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # filters of each convolution over the width, a pooling after each stage
SIDE = 2 ** len(STAGES)  # pixels


def vgg11(width: int, in_shape: Sequence[int], classes: int, batch_norm: bool = False) -> nn.Sequential:
    """VGG-11 of `width` first filters, 9.2 million parameters at 64, for C×H×W; smaller images are scaled up to 32×32.

    batch_norm: between each convolution and its ReLU.

    He's initialization in torchvision's form, variance 2/(outputs × kernel area), which keeps what flows back, and
    biases of 0. Without a norm torch's default leaves hardly a signal behind eight layers: at width 8 the outputs of
    different digits differ by a hundredth of what they do here and less. The form that keeps what flows forward makes
    the loss about ten times as sharp there.
    """
    from torchvision.ops import Conv2dNormActivation  # takes seconds that no other network should pay

    channels, *sides = in_shape
    norm = nn.BatchNorm2d if batch_norm else None
    layers: list[nn.Module] = [nn.Upsample((SIDE, SIDE), mode="bilinear")] if min(sides) < SIDE else []
    for stage in STAGES:
        for factor in stage:
            layers.append(Conv2dNormActivation(channels, factor * width, 3, norm_layer=norm))
            channels = factor * width
        layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    nn.init.kaiming_normal_(model[-1].weight, nonlinearity="linear")
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
    return model
