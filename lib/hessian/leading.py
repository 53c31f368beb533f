"""The k largest eigenvalues of a symmetric operator, each with its vector: one Krylov basis, then deflation.

Lanczos from one start sees one eigenvector of each eigenspace, which is enough for k = 1. For more, after the k largest
Ritz pairs of one basis have converged, a Rayleigh–Ritz step on them, of k products, gives residuals that are computed
and not estimated. Then they are pushed below the rest of the spectrum, A − Σ_i (λ_i + ‖A‖) v_i v_iᵀ, and the largest
eigenvalue of that is sought from another start. What it finds above the k-th is taken up, and so on until there is
none.
"""

import math

import torch

from lib.hessian.lanczos import BASIS, KEPT, MINIMUM, TOLERANCE, Eigen, Krylov, inner, lanczos, norm2, square, start_at
from lib.hessian.operators import Operator


def leading(
    operator: Operator,
    k: int,
    *,
    tol: float | None = None,
    max_iterations: int = 1000,
    basis: int | None = None,
    seed: int = 0,
) -> list[Eigen]:
    """The k largest algebraic eigenvalues of a symmetric `operator`, with multiplicity, largest first.

    Each has its residual ‖Av − λv‖/‖A‖, at most `tol` (3e-5 in float32, 1e-8 in float64) where it is `converged`, and
    `iterations`, the products of the whole search. `second` is the next eigenvalue. Where the search for others above
    the k-th came to no end within `max_iterations` products, all that it could displace are not converged. For k = 1
    it is `lanczos`, with its `second`.
    Raises ValueError for k below 1 or above the size of the operator, and as `lanczos` does.

    >>> diagonal = torch.tensor([1.0, 2.0, 5.0, 5.0], dtype=torch.float64)
    >>> [round(pair.value, 6) for pair in leading(Operator.dense(torch.diag(diagonal)), 3)]
    [5.0, 5.0, 2.0]
    """
    n = square(operator)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= n:
        raise ValueError(f"k = {k!r}: must be a whole number of eigenvalues from 1 to {n}")
    if k == 1:
        return [lanczos(operator, tol=tol, max_iterations=max_iterations, basis=basis, seed=seed)]
    tol = TOLERANCE[operator.dtype] if tol is None else tol
    vectors, norm, products = _first(operator, k, tol, max_iterations, basis, seed)
    vectors, values, residuals = _rayleigh(operator, vectors)
    products += len(vectors)
    bound, certain = -math.inf, True
    while len(vectors) < n:
        room = max(max_iterations - products, MINIMUM)
        rest = lanczos(
            _deflated(operator, vectors, values, norm), tol=tol, max_iterations=room, seed=seed + len(vectors)
        )
        products += rest.iterations
        certain = certain and rest.converged
        bound = rest.eigenvalue + rest.residual * rest.norm
        if len(vectors) >= k and (not rest.converged or rest.eigenvalue <= values[k - 1] + tol * norm):
            break
        vectors, values, residuals = _rayleigh(operator, torch.cat([vectors, rest.vector[None]]))
        products += len(vectors)
    values = values.tolist()
    following = [*values[1:], bound if len(values) < n else -math.inf]
    pairs = zip(values, vectors, residuals, following, strict=True)
    result = []
    for value, vector, residual, second in pairs:
        done = residual <= tol * norm and (certain or value >= bound)
        relative = residual / norm if norm else 0.0
        result.append(Eigen(value, value, vector, relative, products, done, norm, second))
    return result[:k]


def _first(operator, k, tol, limit, basis, seed):
    """Orthonormal rows that span the k largest Ritz vectors of one start, or fewer where its span ends before; ‖A‖."""
    n, kept = operator.shape[0], k + KEPT
    size, least, most = BASIS
    basis = max(min(max(size // (n * operator.dtype.itemsize), least), most), 2 * kept) if basis is None else basis
    krylov = Krylov(operator, start_at(operator, None, seed, 0.0), min(max(basis, kept + 1), n))
    products, norm = 0, 0.0
    while True:
        krylov.expand()
        products += 1
        values, vectors = torch.linalg.eigh(krylov.t)
        norm = max(norm, values.abs().max().item())
        left = krylov.beta * vectors[-1].abs()
        done = len(values) >= k and products >= MINIMUM and (left[-k:] <= tol * norm / 2).all()
        if done or krylov.exhausted or products >= limit:
            return krylov.combine(vectors[:, -k:]).flip(0), norm, products
        if krylov.full:
            krylov.restart(vectors, values, min(kept, krylov.m - 1))


def _rayleigh(operator, rows):
    """Ritz vectors (rows), values in descending order, and residual norms of A on the span of `rows`."""
    q = torch.linalg.qr(rows.T)[0].T.contiguous()
    # In float32 the rows' lengths are off by 1e-5 at a million entries, and the Ritz values by twice that.
    gram = torch.stack([inner(q, v) for v in q]).cpu()
    q = torch.linalg.inv(torch.linalg.cholesky(gram)).to(q) @ q
    products = torch.stack([operator @ v for v in q])
    t = torch.stack([inner(q, v) for v in products]).cpu()
    values, turn = torch.linalg.eigh((t + t.T) / 2)
    values, turn = values.flip(0), turn.flip(1).T.to(q)
    vectors, images = turn @ q, turn @ products
    return vectors, values, [norm2(a - v * x) for a, v, x in zip(images, values.to(q), vectors, strict=True)]


def _deflated(operator, vectors, values, norm):
    shift = (values + norm).to(vectors)

    def product(v):
        return operator @ v - vectors.T @ (shift * inner(vectors, v).to(v))

    return operator.like(operator.shape, product, product)
