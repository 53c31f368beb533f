"""The trace of a symmetric operator from random products: Hutch++ (Meyer, Musco, Musco and Woodruff 2021).

With S and G of m/3 random signs each and Q an orthonormal basis of AS,

    tr A = tr(QᵀAQ) + tr((I − QQᵀ) A (I − QQᵀ)) ≈ Σ_j q_jᵀ A q_j + (3/m) Σ_j g_jᵀ (I − QQᵀ) A (I − QQᵀ) g_j

The first term, of the large eigenvalues, is exact; only the rest is estimated.
"""

import math
import statistics
from typing import NamedTuple

import torch

from lib.core.seeds import generator
from lib.hessian.lanczos import inner, square
from lib.hessian.operators import Operator


class Trace(NamedTuple):
    """value: the estimate. error: its standard error, from the spread of the probes G; 0 where it is exact.
    products: with the operator.

    >>> Trace(6.0, 0.0, 3).value
    6.0
    """

    value: float
    error: float
    products: int


def hutch(operator: Operator, *, products: int = 48, seed: int = 0) -> Trace:
    """tr A of a symmetric `operator` by `products` products, a third of them for each part; exact, by one product a
    dimension, where that needs no more. Unbiased. Raises ValueError for fewer than six products.

    >>> hutch(Operator.dense(torch.diag(torch.tensor([1.0, 2.0, 3.0])))).value
    6.0
    """
    n = square(operator)
    if not isinstance(products, int) or isinstance(products, bool) or products < 6:
        raise ValueError(f"products = {products!r}: must be a whole number, 6 or more")
    if n <= products:
        eye = torch.eye(n, dtype=operator.dtype, device=operator.device)
        return Trace(math.fsum((operator @ e)[i].item() for i, e in enumerate(eye)), 0.0, n)
    count = products // 3

    def signs(purpose):
        draws = generator(seed, "trace", purpose)
        return [
            (2 * torch.randint(2, (n,), generator=draws) - 1).to(operator.device, operator.dtype) for _ in range(count)
        ]

    q = torch.linalg.qr(torch.stack([operator @ s for s in signs("sketch")], 1))[0].T.contiguous()
    exact = math.fsum(_form(v, operator @ v) for v in q)
    rest = []
    for g in signs("probes"):
        g = g - q.T @ inner(q, g).to(g)
        rest.append(_form(g, operator @ g))
    return Trace(exact + statistics.fmean(rest), statistics.stdev(rest) / math.sqrt(count), 3 * count)


def _form(u, v) -> float:
    return inner(u[None], v).item()
