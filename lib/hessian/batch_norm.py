"""Batch norm at weights that were not trained: which statistics normalize, and how they are estimated again.

The running statistics of a network belong to its weights. At other weights, as on a line between two networks, they are
estimated again: from passes in training mode, averaged over the batches with their sizes as weights.
"""

import contextlib

import torch
from torch import nn

from lib.core import interruption

MODES = ("eval", "train")


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """All batch-norm layers of a model."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@contextlib.contextmanager
def mode(model: nn.Module, batch_norm: str):
    """Within this context batch norm is in the mode "eval" or "train" and all else in evaluation mode; afterwards every
    module is as it was. Raises ValueError for another mode, and for "eval" where a layer keeps no statistics.

    >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout())
    >>> with mode(model, "train"):
    ...     [layer.training for layer in model]
    [True, False]
    """
    if batch_norm not in MODES:
        raise ValueError(f"batch_norm = {batch_norm!r}: must be one of {', '.join(MODES)}")
    if batch_norm == "eval" and any(norm.running_mean is None for norm in batch_norms(model)):
        raise ValueError(
            "batch_norm = 'eval': a layer keeps no running statistics; build it with track_running_stats=True"
        )
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for norm in batch_norms(model):
            norm.train(batch_norm == "train")
        yield
    finally:
        for module, training in before:
            module.training = training


def reestimate(model: nn.Module, x: torch.Tensor, batch_size: int = 128) -> None:
    """Set the running statistics of `model`, in place, to those of x (N×…) at its weights, in batches of `batch_size`.

    Each batch normalizes by its own mean and variance; the buffers become the averages of these over the batches (the
    variances unbiased, as torch keeps them), weighted by the samples. The last batch may be smaller. Modes and momenta
    are left as they were. Raises ValueError for no samples, or batches too small to have a variance.

    >>> model, x = nn.BatchNorm1d(1), torch.tensor([[1.0], [3.0]])
    >>> reestimate(model, x)
    >>> model.running_mean.item(), model.running_var.item()
    (2.0, 2.0)
    """
    if len(x) == 0 or batch_size < 1:
        raise ValueError(f"{len(x)} samples in batches of {batch_size}: statistics need one or more of each")
    norms = [norm for norm in batch_norms(model) if norm.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    try:
        with mode(model, "train"), torch.no_grad():
            seen = 0
            for batch in x.split(batch_size):
                interruption.check()
                seen += len(batch)
                for norm in norms:
                    norm.momentum = len(batch) / seen
                model(batch)
    except ValueError as error:
        raise ValueError(f"batch_size = {batch_size} of {len(x)} samples: {error}") from error
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
