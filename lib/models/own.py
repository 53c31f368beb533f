"""A user's network as an entry that runs can name: Run(model="MODULE:ENTRY") (`lib.core.own`)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lib.core import own


@dataclass(frozen=True)
class OwnModel:
    """build: a function of (width, in_shape, classes) that gives a network for inputs N×`in_shape` = N×C×H×W with N×
    `classes` outputs; width is an int where it is whole. It draws what it draws by torch's global generator, which is
    seeded for it. version: raised by whoever changes what it builds.

    >>> OwnModel(lambda width, in_shape, classes: nn.Linear(math.prod(in_shape), classes)).version
    1
    """

    build: Callable[[float, Sequence[int], int], nn.Module]
    version: int = 1


def network(name: str, width: float, in_shape: Sequence[int], classes: int) -> nn.Module:
    """The network of that name; ValueError where its entry builds none."""
    model = own.entry("model", name, OwnModel).build(int(width) if width == int(width) else width, in_shape, classes)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model = {name!r}: its entry builds a {type(model).__name__}, must be a torch.nn.Module")
    return model


def check_width(name: str, width: float) -> None:
    """Raise ValueError for a width that is no finite number above 0."""
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width = {width!r}: {name} needs a finite number above 0")
