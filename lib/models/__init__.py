"""The networks of the paper, their masks and their linearizations."""

from lib.models.architectures import (
    INITIALIZATIONS,
    NAMES,
    OPTIONS,
    build,
    canonical,
    check_width,
    count_parameters,
    layer_sizes,
    outline,
)
from lib.models.own import OwnModel

__all__ = [
    "INITIALIZATIONS",
    "NAMES",
    "OPTIONS",
    "OwnModel",
    "build",
    "canonical",
    "check_width",
    "count_parameters",
    "layer_sizes",
    "outline",
]
