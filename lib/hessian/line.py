"""The loss on the line between two networks, with the statistics of batch norm found anew at every point.

    w(α) = (1 − α) w₀ + α w₁

"Towards Understanding SAM", Figures 10 and 15c. Interpolated running statistics would not be those of the interpolated
network (Izmailov et al. 2018), so each point gets its own from `statistics`.
"""

import copy
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from lib.core import interruption, losses
from lib.hessian.batch_norm import batch_norms, mode, reestimate
from lib.hessian.checks import check_inputs, targets


class Line(NamedTuple):
    """At each α: the mean loss, and the share of samples classified wrongly (NaN where y are no labels); float64.

    >>> Line(alpha=torch.tensor([0.0, 1.0]), loss=torch.tensor([0.5, 0.1]), error=torch.zeros(2)).loss.argmin().item()
    1
    """

    alpha: torch.Tensor
    loss: torch.Tensor
    error: torch.Tensor


def loss_on_line(
    first: nn.Module,
    second: nn.Module,
    loss: str,
    x,
    y,
    alphas: Iterable[float],
    *,
    statistics: torch.Tensor | None = None,
    batch_size: int = 128,
) -> Line:
    """The mean loss at (x, y) of the networks with weights (1 − α) w_first + α w_second, in evaluation mode.

    first, second: networks of one architecture; both are left as they are. loss, x, y: as `lib.hessian.sharpness`
    takes them. alphas: any numbers; the paper takes −1 to 2 in steps of 0.05, with 1,024 samples in x.
    statistics: inputs N×… for batch norm (see `batch_norm.reestimate`), 5,000 training images in the paper; needed
    where a network has such layers, also at α = 0 and 1, so that all points are measured alike. batch_size: of passes.
    Other buffers are those of `first`. Raises ValueError for networks that differ in their parameters, absent
    `statistics`, and data that do not fit.

    >>> first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = first.weight.data.fill_(0.0), second.weight.data.fill_(2.0)
    >>> x = torch.ones(3, 1)
    >>> loss_on_line(first, second, "squared", x, x, [0, 0.5, 1]).loss.tolist()
    [1.0, 0.0, 1.0]
    """
    like = check_inputs(first, loss, x, y)
    check_inputs(second, loss, x, y)
    start, end = dict(first.named_parameters()), dict(second.named_parameters())
    shapes = [{key: tuple(p.shape) for key, p in weights.items()} for weights in (start, end)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"first and second differ in their parameters: {shapes[0]} and {shapes[1]}")
    if batch_norms(first) and statistics is None:
        raise ValueError(
            "the networks have batch norm: give statistics=inputs, for its mean and variance at each point"
        )
    alpha = torch.as_tensor(list(alphas), dtype=torch.float64)
    model = copy.deepcopy(first)
    values, errors = [], []
    for a in alpha.tolist():
        with torch.no_grad():
            for key, p in model.named_parameters():
                # In this form both ends are met exactly.
                p.copy_((1 - a) * start[key] + a * end[key])
            if batch_norms(model):
                reestimate(model, statistics, batch_size)
            with mode(model, "eval"):
                value, error = _evaluate(model, loss, x, y, like, batch_size)
        values.append(value)
        errors.append(error)
    return Line(alpha, torch.tensor(values, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64))


def _evaluate(model, loss, x, y, like, batch_size):
    """The mean loss and the share of wrong labels of a network."""
    outputs = []
    for batch in x.split(batch_size):
        interruption.check()
        outputs.append(model(batch))
    output = torch.cat(outputs)
    values = losses.per_sample(loss, output, targets(loss, y, len(x), output.shape[1], like))
    error = math.nan if y.is_floating_point() else (output.argmax(1) != y.to(output.device)).double().mean().item()
    return values.double().mean().item(), error
