"""The networks of the paper, each a function of one `width`, initialized from one seed.

| name | what | `width` |
|---|---|---|
| linear2 | W₂W₁x, two factors without biases (Figure 1a) | the rank, columns of W₂ |
| mlp | LeNet-300-100: two hidden ReLU layers (Appendix A) | factor on 300 and 100 |
| resnet18 | 3×3 stem without pooling, post-activation basic blocks, batch norm | filters of the first stage |
"""

import contextlib
import itertools
import math
import threading
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from lib.seeds import derive

NAMES = ("linear2", "mlp", "resnet18")


def build(name: str, *, width: float, in_shape: Sequence[int], classes: int, seed: int) -> nn.Module:
    """The network `name` on the CPU in float32, for inputs N×`in_shape` = N×C×H×W and `classes` outputs.

    The weights are a function of the arguments alone; the global random state is left as it was.
    Raises ValueError for an unknown name, and for a width that gives no neurons or a fraction of a filter.
    """
    if name not in NAMES:
        raise ValueError(f"model = {name!r}: unknown; there are {', '.join(NAMES)}")
    check_width(name, width)
    with _seeded(derive(seed, "initialization")):
        if name == "resnet18":
            return _resnet18(int(width), in_shape[0], classes)
        return _perceptron(layer_sizes(name, width, in_shape, classes), bias=name == "mlp", relu=name == "mlp")


def count_parameters(module: nn.Module) -> int:
    """How many trainable numbers the module has."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def layer_sizes(name: str, width: float, in_shape: Sequence[int], classes: int) -> list[int]:
    """Numbers of units from input to output of a fully connected network (`linear2`, `mlp`)."""
    hidden = {"linear2": (width,), "mlp": (300 * width, 100 * width)}[name]
    return [math.prod(in_shape), *(round(h) for h in hidden), classes]


def check_width(name: str, width: float) -> None:
    """Raise ValueError unless `width` gives the network `name` at least one neuron or filter a layer."""
    if name == "mlp":
        if not (math.isfinite(width) and round(100 * width) >= 1):
            raise ValueError(
                f"width = {width!r}: the hidden layers of an mlp have 300 and 100 times width neurons, "
                "at least one each, so 100 times width must round to 1 or more"
            )
    elif not (math.isfinite(width) and width >= 1 and float(width).is_integer()):
        raise ValueError(f"width = {width!r}: a {name} needs a whole number of neurons or filters, 1 or more")


def _perceptron(sizes: list[int], bias: bool, relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.ReLU()] if relu and i else []
        layers += [nn.Linear(a, b, bias=bias)]
    return nn.Sequential(*layers)


def _resnet18(width: int, channels: int, classes: int) -> nn.Sequential:
    """He et al.'s 18 layers in the form used for 32×32 images: 11.17 million parameters at width 64."""
    blocks: list[nn.Module] = []
    inplanes = width
    for stage in range(4):
        planes = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            shortcut = None
            if stride != 1 or inplanes != planes:
                conv = nn.Conv2d(inplanes, planes, 1, stride, bias=False)
                shortcut = nn.Sequential(conv, nn.BatchNorm2d(planes))
            blocks.append(BasicBlock(inplanes, planes, stride, shortcut))
            inplanes = planes
    stem = (
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inplanes, classes))
    model = nn.Sequential(*stem, *blocks, *head)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return model


_GLOBAL_STATE = threading.Lock()  # torch's initializers draw from one global generator, whichever thread calls


@contextlib.contextmanager
def _seeded(seed: int):
    with _GLOBAL_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
