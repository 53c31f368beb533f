"""Several eigenvalues, and the trace, of a network's Hessian, Gauss–Newton matrix or empirical Fisher matrix."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from lib.hessian.hutchinson import Trace, hutch
from lib.hessian.lanczos import Eigen
from lib.hessian.leading import leading
from lib.hessian.operators import matrix as named_matrix
from lib.hessian.per_sample import MEMORY, sample_hessians


def top(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    k: int = 1,
    *,
    matrix: str = "hessian",
    seed: int = 0,
    memory: int = MEMORY,
    frozen: bool = True,
    **options,
) -> list[Eigen]:
    """The k largest eigenvalues with their vectors, largest first, of the Hessian or of another `matrix`:
    "gauss_newton" or "empirical_fisher" (`lib.hessian.operators`). Each has its residual and whether it converged. They
    are those of the parameters that the samples can tell apart; all others have the eigenvalue 0.

    `options`: those of `lib.hessian.leading`. Other arguments and errors as `sharpness`; ValueError also unless k is at
    least 1 and at most the number of parameters that the samples can tell apart.

    >>> import torch
    >>> x, model = torch.diag(torch.tensor([1.0, 2.0, 3.0])), nn.Linear(3, 1, bias=False)
    >>> [round(pair.value, 3) for pair in top(model, "mse", x, torch.zeros(3, 1), k=2)]  # squares, over 3 samples
    [3.0, 1.333]
    """
    data = sample_hessians(model, loss, x, y, memory=memory, frozen=frozen)
    pairs = leading(named_matrix(data.live, matrix), k, seed=seed, **options)
    return [replace(pair, vector=data.extend(pair.vector)) for pair in pairs]


def trace(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    *,
    products: int = 48,
    matrix: str = "hessian",
    seed: int = 0,
    memory: int = MEMORY,
    frozen: bool = True,
) -> Trace:
    """The trace of the Hessian, or of another `matrix` as for `top`, by Hutch++: `value`, its standard `error` and the
    `products` spent, at most as many as asked for (6 or more). Other arguments and errors as `sharpness`.

    >>> import torch
    >>> x, model = torch.diag(torch.tensor([1.0, 2.0, 3.0])), nn.Linear(3, 1, bias=False)
    >>> round(trace(model, "mse", x, torch.zeros(3, 1)).value, 3)  # (1 + 4 + 9)/3
    4.667
    """
    data = sample_hessians(model, loss, x, y, memory=memory, frozen=frozen)
    operator = named_matrix(data.live, matrix)
    return hutch(operator, products=products, seed=seed) if data.live.size else Trace(0.0, 0.0, 0)
