"""The networks of the paper, their masks and their linearizations."""

from lib.models.architectures import (
    INITIALIZATIONS,
    NAMES,
    OPTIONS,
    build,
    check_width,
    count_parameters,
    layer_sizes,
    outline,
)

__all__ = [
    "INITIALIZATIONS",
    "NAMES",
    "OPTIONS",
    "build",
    "check_width",
    "count_parameters",
    "layer_sizes",
    "outline",
]
