"""How large the network of a run is, without building it in memory."""

import functools

from torch import nn

from lib import data, models
from lib.models import masking
from lib.runs.run import Run


def outline(run: Run) -> nn.Module:
    """The run's network, dense, as `models.outline` gives it: shared by all who ask, so only to be read."""
    return _outline(*data.shapes(run.dataset), run.model, run.width, **run.options)


@functools.cache  # a grid has many runs of one network
def _outline(classes: int, in_shape: tuple[int, ...], model: str, width: float, **options: str | int) -> nn.Module:
    return models.outline(model, width=width, in_shape=in_shape, classes=classes, **options)


def parameters(run: Run) -> int:
    """The trainable numbers of the run's network, those that its mask removes included."""
    return models.count_parameters(outline(run))


def remaining(run: Run) -> int:
    """The trainable numbers of the run's network; of a sparse one, those that its mask keeps or never covers."""
    return masking.remaining(outline(run), run.sparsity, run.pruner, run.strict_threshold)
