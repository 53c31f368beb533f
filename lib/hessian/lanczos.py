"""Linear operators known by their products, and what products alone tell: the top eigenvalue, the spectral density.

One Krylov basis Q, grown vector by vector and reorthogonalised in full, serves both. With T = QᵀAQ the largest
eigenvalue of A is found as the largest one of T, T y = θ y. Only the last product leaves the span of Q, so
‖A Qy − θ Qy‖ = β|y_last| costs nothing. A full basis is compressed to its best Ritz vectors and grown on (thick
restart, Wu and Simon 2000). The density of the spectrum is the mean over random starts of Σ_j (y_j)₁² δ(θ_j).
"""

import math
from dataclasses import dataclass

import torch

from lib.core import interruption
from lib.core.seeds import generator
from lib.hessian.operators import Operator

TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-8}
MINIMUM = 8  # products before the residual is believed: at first it may be small at a lower eigenvalue
NOISE = 0.1  # parts of a Gaussian vector to one of a start that is given: it may lack the top eigenvector
BASIS = 3 * 2**28, 24, 200  # bytes of vectors kept before a restart; at least and at most so many vectors
STRETCH = 2**15  # entries summed in single precision
KEPT = 12  # Ritz vectors kept at a restart


@dataclass(frozen=True)
class Eigen:
    """The largest (algebraic) eigenvalue λ of a symmetric operator A.

    value: the quantity asked for, in its own units (λ itself unless the function that returns it says otherwise).
    vector: a unit eigenvector, flat. residual: ‖Av − λv‖/‖A‖. iterations: products with A spent.
    converged: whether the residual reached the tolerance. norm: ‖A‖, the largest |Ritz value| seen. second: the next
    Ritz value plus the norm of its residual, an upper estimate of the second eigenvalue (infinite while there is none).

    >>> top = lanczos(Operator.dense(torch.diag(torch.tensor([1.0, 5.0]))))
    >>> round(top.eigenvalue, 4), top.converged
    (5.0, True)
    """

    value: float
    eigenvalue: float
    vector: torch.Tensor
    residual: float
    iterations: int
    converged: bool
    norm: float
    second: float


@dataclass(frozen=True)
class Density:
    """A spectral density as point masses: `nodes` (eigenvalue units) with `weights` that sum to 1, float64.

    >>> density = Density(torch.tensor([0.0, 2.0]), torch.tensor([0.5, 0.5]))
    >>> round(density.smooth(torch.tensor([2.0]), width=0.1).item(), 3)  # 0.5/(0.1 √(2π))
    1.995
    """

    nodes: torch.Tensor
    weights: torch.Tensor

    def smooth(self, grid: torch.Tensor, width: float) -> torch.Tensor:
        """The density at the points of `grid`, every mass a Gaussian of standard deviation `width`."""
        z = (grid.double()[:, None] - self.nodes) / width
        return (self.weights * torch.exp(-z.square() / 2)).sum(1) / (width * math.sqrt(2 * math.pi))


def lanczos(
    operator: Operator,
    *,
    tol: float | None = None,
    max_iterations: int = 300,
    min_iterations: int = MINIMUM,
    basis: int | None = None,
    start: torch.Tensor | None = None,
    below: float | None = None,
    seed: int = 0,
) -> Eigen:
    """The largest algebraic eigenvalue of a symmetric `operator`, however many there are near it.

    It stops after at least `min_iterations` products when the residual relative to ‖A‖ is at most `tol` (3e-5 in
    float32, 1e-8 in float64): some eigenvalue is then within tol·‖A‖. Where two eigenvalues δ apart are still mixed in
    the vector, c of the lower and s = √(1 − c²) of the higher, the residual is r = c s δ and the error c²δ = r c/s:
    below r while the higher one prevails, and r²/δ once it does. No residual tells of an eigenvector that the start
    lacks: hence the minimum, and a tenth of a Gaussian vector in every start. Without convergence the best found is
    returned, `converged` False.

    basis: vectors kept before a restart, by default what 0.75 GiB holds. start: a vector to begin at. below: an upper
    estimate of all eigenvalues but the largest, from a search that took the minimum of products; a start whose Rayleigh
    quotient is above it is taken as it is, without noise, and its residual believed from the first product on.

    Raises ValueError for an operator that is not square or whose product is not finite; Interrupted between products,
    where `lib.core.interruption` asks for it.

    >>> diagonal = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    >>> operator = Operator((3, 3), lambda v: diagonal * v, dtype=torch.float64, device=torch.device("cpu"))
    >>> round(lanczos(operator).eigenvalue, 6)
    5.0
    """
    n = square(operator)
    tol = TOLERANCE[operator.dtype] if tol is None else tol
    limit = min(max_iterations, 10 * n)
    if basis is None:
        size, least, most = BASIS
        basis = min(max(size // (n * operator.dtype.itemsize), least), most)
    if basis < 2:
        raise ValueError(f"basis = {basis}: a restart needs at least two vectors")
    krylov = Krylov(operator, start_at(operator, start, seed, NOISE if below is None else 0.0), min(basis, n))
    products, norm = 0, 0.0
    while True:
        krylov.expand()
        products += 1
        values, vectors = torch.linalg.eigh(krylov.t)
        theta, norm = values[-1].item(), max(norm, values.abs().max().item())
        left = krylov.beta * vectors[-1].abs()  # ‖A Qy − θ Qy‖ of each Ritz pair
        if below is not None and (theta <= below or (values[:-1] > below).any()):  # `below` says nothing of this start
            krylov, below = Krylov(operator, start_at(operator, start, seed, NOISE), min(basis, n)), None
            continue
        residual = left[-1].item() / norm if norm else 0.0
        whole = krylov.exhausted
        done = residual <= tol and (products >= min_iterations or below is not None or whole)
        if done or whole or products >= limit:
            break
        if krylov.full:
            krylov.restart(vectors, values, min(KEPT, krylov.m - 1))
    vector = krylov.combine(vectors[:, -1:])[0]
    second = below
    if below is None:
        second = (values + left)[-2].item() if len(values) > 1 else math.inf
    return Eigen(theta, theta, vector / norm2(vector), residual, products, done, norm, second)


def spectral_density(operator: Operator, *, probes: int = 4, steps: int = 48, seed: int = 0) -> Density:
    """Stochastic Lanczos quadrature: the density of all eigenvalues from `probes` Gaussian starts of `steps` products.

    The moments up to 2·steps − 1 are exact for each start; the mean over starts has a standard deviation of about
    √(2/(n·probes)) of a mass. See Ghorbani, Krishnan and Xiao (2019). Raises as `lanczos` does.

    >>> density = spectral_density(Operator.dense(torch.diag(torch.tensor([1.0, 5.0]))), probes=1)
    >>> density.nodes.round(decimals=4).tolist()
    [1.0, 5.0]
    """
    n = square(operator)
    if probes < 1 or steps < 1:
        raise ValueError(f"probes = {probes}, steps = {steps}: both must be 1 or more")
    nodes, weights = [], []
    for probe in range(probes):
        krylov = Krylov(operator, _gaussian(operator, seed, "density", probe), min(steps, n))
        while not (krylov.m and (krylov.full or krylov.exhausted)):
            krylov.expand()
        values, vectors = torch.linalg.eigh(krylov.t)
        nodes.append(values)
        weights.append(vectors[0].square() / probes)
    return Density(torch.cat(nodes), torch.cat(weights))


class Krylov:
    """An orthonormal basis Q (rows, in the operator's dtype), T = Q A Qᵀ in float64 and the next vector.

    m: rows of Q that A has been applied to. beta: how far A times the last row leaves the span.
    """

    def __init__(self, operator: Operator, start: torch.Tensor, capacity: int):
        self.operator, self.capacity, self.m, self.beta = operator, capacity, 0, math.inf
        # Rows beyond those in use are never touched, so on a CPU they take no memory.
        self.q = torch.empty(capacity + 1, len(start), dtype=operator.dtype, device=operator.device)
        self.q[0] = start / norm2(start)
        self.t, self.restarted = torch.zeros(0, 0, dtype=torch.float64), False

    @property
    def full(self) -> bool:
        return self.m == self.capacity

    @property
    def exhausted(self) -> bool:
        """The span is invariant: nothing of A is left outside it that this start could reach."""
        return self.beta == 0.0

    def expand(self) -> None:
        interruption.check()
        basis = self.q[: self.m + 1]
        w = self.operator @ basis[-1]
        before = size = norm2(w)
        if not math.isfinite(size):
            raise ValueError(
                "the operator's product with a unit vector is not finite: check weights, data and scale, or take a "
                "smaller power or float64"
            )
        column = torch.zeros(len(basis), dtype=torch.float64)
        # The three-term recurrence first (all rows right after a restart), then Gram-Schmidt over all rows, repeated
        # while it cancels: one full pass is enough as a rule.
        near, new = basis if self.restarted else basis[-2:], self.q[len(basis)]
        for turn, rows in enumerate((near, basis, basis, basis)):
            h = inner(rows, w)
            w = torch.addmv(w, rows.T, h.to(w), alpha=-1, out=new)
            column[-len(rows) :] += h.cpu()
            last, size = size, norm2(w)
            if turn and size > 0.5 * last:
                break
        self.restarted = False
        t = torch.zeros(len(basis), len(basis), dtype=torch.float64)
        t[:-1, :-1] = self.t
        t[-1], t[:, -1] = column, column
        self.t = t
        self.m += 1
        scale = max(before, torch.linalg.matrix_norm(t, 2).item())
        self.beta = size if size > 10 * torch.finfo(w.dtype).eps * scale and self.m < len(w) else 0.0
        if self.beta:
            new /= size

    def restart(self, vectors: torch.Tensor, values: torch.Tensor, kept: int) -> None:
        """Go on from the `kept` Ritz vectors of the largest values and the vector that was to come next."""
        self.q[:kept] = self.combine(vectors[:, -kept:])
        self.q[kept] = self.q[self.m]
        self.t, self.m, self.restarted = torch.diag(values[-kept:]), kept, True

    def combine(self, coefficients: torch.Tensor) -> torch.Tensor:
        """coefficientsᵀ Q, one row for each column of `coefficients` (m × r)."""
        return coefficients.T.to(self.q) @ self.q[: self.m]


def inner(rows: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """⟨row, v⟩ for each row, float64. Single precision is trusted over STRETCH entries and no further:
    a float32 norm over five million entries is wrong in the fourth digit on a CPU. A GPU takes all stretches as one
    batched product, since launching 164 of them takes longer than their arithmetic."""
    if rows.dtype == torch.float64:
        return rows @ v
    if not rows.is_cuda:
        stretches = zip(rows.split(STRETCH, 1), v.split(STRETCH), strict=True)
        return torch.stack([(part @ piece).double() for part, piece in stretches]).sum(0)
    count = len(v) // STRETCH
    whole = count * STRETCH
    rest = (rows[:, whole:] @ v[whole:]).double()
    if not count:
        return rest
    stretches = rows[:, :whole].unflatten(1, (count, STRETCH)).transpose(0, 1)
    return torch.bmm(stretches, v[:whole].view(count, STRETCH, 1)).double().sum((0, 2)) + rest


def norm2(v: torch.Tensor) -> float:
    """‖v‖₂, accumulated in float64."""
    return math.sqrt(inner(v[None], v).item())


def square(operator: Operator) -> int:
    """The rows of an operator that has eigenvalues to compute; ValueError for another."""
    rows, columns = operator.shape
    if rows != columns or rows < 1:
        raise ValueError(f"operator of shape {operator.shape}: eigenvalues need a square one with at least one row")
    if operator.dtype not in TOLERANCE:
        raise ValueError(f"operator in {operator.dtype}: eigenvalues are computed in float32 or float64")
    return rows


def _gaussian(operator, seed, *purpose):
    # Drawn on the CPU in float32: the same start on every device and in every precision.
    noise = torch.randn(operator.shape[1], dtype=torch.float32, generator=generator(seed, "lanczos", *purpose))
    return noise.to(operator.device, operator.dtype)


def start_at(operator: Operator, start: torch.Tensor | None, seed: int, share: float) -> torch.Tensor:
    """`start` as a unit vector with `share` of a Gaussian one added, which stands alone without a start."""
    if start is None:
        return _gaussian(operator, seed)
    if start.shape != operator.shape[1:]:
        raise ValueError(
            f"start of shape {tuple(start.shape)}: the operator takes vectors of length {operator.shape[1]}"
        )
    size = norm2(start)
    if not math.isfinite(size):
        raise ValueError("start is not finite")
    if size and not share:
        return start / size
    noise = _gaussian(operator, seed)
    return start / size + noise * (share / norm2(noise)) if size else noise
