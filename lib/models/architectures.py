"""The networks of the paper, each a function of one `width`, initialized from one seed.

| name | what | `width` | options |
|---|---|---|---|
| linear2 | W₂W₁x, two factors without biases (Figure 1a) | the rank, columns of W₂ | |
| two_layer | one hidden ReLU layer | its neurons | |
| mlp | LeNet-300-100: two hidden ReLU layers (Appendix A) | factor on 300 and 100 | initialization |
| resnet18 | `lib.models.resnet` | filters of the first stage | norm, initialization |
| resnet50 | `lib.models.resnet` | filters of the first stage | norm |
| preact_resnet18, preact_resnet34 | `lib.models.preact_resnet` | filters of the first stage | norm |
| vgg11 | `lib.models.vgg` | filters of the first convolution | batch_norm |
| vit | `lib.models.vit` | the hidden dimension, a multiple of 32 | patch |
| MODULE:ENTRY | a user's `OwnModel` (`lib.models.own`) | as its builder takes it | |
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from lib.core import own
from lib.core.seeds import derive, seeded
from lib.models import preact_resnet, resnet, vgg, vit
from lib.models.own import OwnModel, network
from lib.models.own import check_width as check_own_width


def layer_sizes(name: str, width: float, in_shape: Sequence[int], classes: int) -> list[int]:
    """Numbers of units from input to output of a fully connected network (`linear2`, `two_layer`, `mlp`).

    >>> layer_sizes("mlp", 1, (1, 28, 28), 10)
    [784, 300, 100, 10]
    """
    hidden = {"linear2": (width,), "two_layer": (width,), "mlp": (300 * width, 100 * width)}[name]
    return [math.prod(in_shape), *(round(h) for h in hidden), classes]


def _linear2(width: float, in_shape: Sequence[int], classes: int) -> nn.Sequential:
    return _perceptron(layer_sizes("linear2", width, in_shape, classes), bias=False, relu=False)


def _two_layer(width: int, in_shape: Sequence[int], classes: int) -> nn.Sequential:
    return _perceptron(layer_sizes("two_layer", width, in_shape, classes), bias=True, relu=True)


def _mlp(width: float, in_shape: Sequence[int], classes: int) -> nn.Sequential:
    return _perceptron(layer_sizes("mlp", width, in_shape, classes), bias=True, relu=True)


def _perceptron(sizes: list[int], bias: bool, relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.ReLU()] if relu and i else []
        layers += [nn.Linear(a, b, bias=bias)]
    return nn.Sequential(*layers)


# Each is called with (width, in_shape, classes) and the options of OPTIONS.
_BUILDERS = {
    "linear2": _linear2,
    "two_layer": _two_layer,
    "mlp": _mlp,
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "preact_resnet18": preact_resnet.preact_resnet18,
    "preact_resnet34": preact_resnet.preact_resnet34,
    "vgg11": vgg.vgg11,
    "vit": vit.vit,
}
NAMES = tuple(_BUILDERS)
OPTIONS = {
    "mlp": ("initialization",),
    "resnet18": ("norm", "initialization"),
    "resnet50": ("norm",),
    "preact_resnet18": ("norm",),
    "preact_resnet34": ("norm",),
    "vgg11": ("batch_norm",),
    "vit": ("patch",),
}
INITIALIZATIONS = ("default", "lecun")


def build(
    name: str, *, width: float, in_shape: Sequence[int], classes: int, seed: int, **options: str | int
) -> nn.Module:
    """The network `name` on the CPU in float32, for inputs N×`in_shape` = N×C×H×W and `classes` outputs.

    options: norm, "batch" or "group", of a resnet; batch_norm, False or True, of a vgg11; patch, the side of a
        patch, of a vit; initialization, "default" (torch's for an mlp, He's for a resnet18) or "lecun"
        (`lecun_normal`), of both.

    The weights are a function of the arguments alone; the global random state is left as it was.
    Raises ValueError for an unknown name or option, and for a width that gives no neurons, a fraction of a filter, or
    a fraction of an attention head.

    >>> count_parameters(build("mlp", width=1, in_shape=(1, 28, 28), classes=10, seed=0))
    266610
    """
    canonical(name)
    for option in options:
        if option not in OPTIONS.get(name, ()):
            there = ", ".join(OPTIONS.get(name, ())) or "none"
            raise ValueError(f"{option} = {options[option]!r}: no option of {name}; it has {there}")
    check_width(name, width)
    initialization = options.pop("initialization", "default")
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"initialization = {initialization!r}: must be one of {', '.join(INITIALIZATIONS)}")
    with seeded(derive(seed, "initialization")):
        if own.is_own(name):
            return network(name, width, in_shape, classes)
        model = _BUILDERS[name](width if name == "mlp" else int(width), in_shape, classes, **options)
        return lecun_normal(model) if initialization == "lecun" else model


def canonical(name: str) -> str:
    """The name itself; of a user's model, with its present version. ValueError for what is the name of no model.

    >>> canonical("mlp")
    'mlp'
    """
    if own.is_own(name):
        return own.canonical("model", name, OwnModel)
    if name not in NAMES:
        raise ValueError(f"model = {name!r}: must be one of {', '.join(NAMES)}, or MODULE:ENTRY of your own")
    return name


@torch.no_grad()
def lecun_normal(model: nn.Module) -> nn.Module:
    """Draw the weights of its Linear and convolution layers from LeCun's normal distribution, in place, and set their
    biases to 0, as flax does: variance 1/(inputs of a unit), cut off at two standard deviations of the normal
    distribution that is cut.

    >>> round(lecun_normal(nn.Linear(100, 10_000)).weight.std().item(), 3)
    0.1
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            deviation = (layer.weight[0].numel() ** -0.5) / CUT_NORMAL
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


CUT_NORMAL = math.sqrt(1 - 4 * math.exp(-2) / (math.sqrt(2 * math.pi) * math.erf(math.sqrt(2))))  # its deviation


def outline(name: str, *, width: float, in_shape: Sequence[int], classes: int, **options: str | int) -> nn.Module:
    """The network that `build` gives, on the meta device: names and shapes without the memory.

    >>> count_parameters(outline("resnet18", width=64, in_shape=(3, 32, 32), classes=10))
    11173962
    """
    with torch.device("meta"):
        return build(name, width=width, in_shape=in_shape, classes=classes, seed=0, **options)


def count_parameters(module: nn.Module) -> int:
    """How many trainable numbers the module has.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def check_width(name: str, width: float) -> None:
    """Raise ValueError unless `width` gives the network `name` at least one neuron, filter or head a layer.

    >>> check_width("mlp", 0.5)
    >>> check_width("vgg11", 0.5)
    Traceback (most recent call last):
    ValueError: width = 0.5: a vgg11 needs a whole number of neurons or filters, 1 or more
    """
    whole = math.isfinite(width) and width >= 1 and float(width).is_integer()
    if own.is_own(name):
        check_own_width(name, width)
    elif name == "mlp":
        if not (math.isfinite(100 * width) and round(100 * width) >= 1):
            raise ValueError(
                f"width = {width!r}: the hidden layers of an mlp have 300 and 100 times width neurons, "
                "at least one each, so 100 times width must round to 1 or more"
            )
    elif name == "vit":
        if not (whole and width % vit.HEAD == 0):
            raise ValueError(
                f"width = {width!r}: a vit has a head for every {vit.HEAD} dimensions, so {vit.HEAD}, 64 …"
            )
    elif not whole:
        raise ValueError(f"width = {width!r}: a {name} needs a whole number of neurons or filters, 1 or more")
