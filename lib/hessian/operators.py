"""Linear operators on flat vectors in `parameters()` order, known by their products alone, and those of Section 4.

`samples`, below, is a network with a loss at N samples, as `lib.hessian.sample_hessians` makes it: either a
`Perceptron` or a `General`. Both apply polynomials in the per-sample Hessians H_i, moments about their mean H, and the
Jacobian.
"""

from collections.abc import Callable

import torch


class Operator:
    """A linear map known by its products: `A @ v`, `A @ B`, `A + B`, `A - B`, `2 * A`, `A * 2`, `A ** 3`, `A.T`.

    shape: (rows, columns). `adjoint` is the transposed product; without it the operator is symmetric.
    Raises ValueError for shapes that do not go together, and for powers that are no integer or below 1.

    >>> double = Operator((2, 2), lambda v: 2 * v, dtype=torch.float64, device=torch.device("cpu"))
    >>> ((double @ double - double) @ torch.ones(2, dtype=torch.float64)).tolist()
    [2.0, 2.0]
    """

    def __init__(self, shape, matvec: Callable, adjoint: Callable | None = None, *, dtype, device):
        self.shape, self.dtype, self.device = tuple(shape), dtype, torch.device(device)
        self.matvec, self.adjoint = matvec, adjoint or matvec

    @classmethod
    def dense(cls, matrix: torch.Tensor) -> "Operator":
        """The operator of a matrix that is there."""
        adjoint = matrix.T
        return cls(matrix.shape, lambda v: matrix @ v, lambda v: adjoint @ v, dtype=matrix.dtype, device=matrix.device)

    def like(self, shape, matvec, adjoint) -> "Operator":
        return Operator(shape, matvec, adjoint, dtype=self.dtype, device=self.device)

    def __matmul__(self, other):
        if isinstance(other, Operator):
            self._check(other.shape[0])
            shape = self.shape[0], other.shape[1]
            return self.like(shape, lambda v: self.matvec(other.matvec(v)), lambda v: other.adjoint(self.adjoint(v)))
        self._check(*other.shape)
        return self.matvec(other)

    def _check(self, *shape):
        if shape != self.shape[1:]:
            raise ValueError(f"an operator of shape {self.shape} cannot be applied to shape {shape}")

    def __add__(self, other):
        if self.shape != other.shape:
            raise ValueError(f"operators of shapes {self.shape} and {other.shape} cannot be added")
        return self.like(
            self.shape,
            lambda v: self.matvec(v) + other.matvec(v),
            lambda v: self.adjoint(v) + other.adjoint(v),
        )

    def __rmul__(self, factor: float):
        return self.like(self.shape, lambda v: factor * self.matvec(v), lambda v: factor * self.adjoint(v))

    __mul__ = __rmul__

    def __sub__(self, other):
        return self + (-1.0) * other

    def __pow__(self, k: int):
        check_power(k)
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"power {k} of an operator of shape {self.shape}: it must be square")
        power = self
        for _ in range(k - 1):
            power = self @ power
        return power

    @property
    def T(self):
        return self.like(self.shape[::-1], self.adjoint, self.matvec)


def mean_polynomial(samples, coefficients: dict[int, float]) -> Operator:
    """mean_i Σ_k c_k H_i^k for `coefficients` {k: c_k}, k ≥ 1: {k: 1.0} is the moment M_k.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # H_1 = 1, H_2 = 9
    >>> samples = sample_hessians(model, "mse", x, torch.zeros(2, 1))
    >>> (mean_polynomial(samples, {2: 1.0}) @ torch.ones(1)).item()
    41.0
    """
    check_power(*coefficients)
    return _symmetric(samples, samples.size, lambda v: samples.polynomial(v, coefficients))


def mean_hessian(samples) -> Operator:
    """H = mean_i H_i, the Hessian of the mean loss.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # H_1 = 1, H_2 = 9
    >>> (mean_hessian(sample_hessians(model, "mse", x, torch.zeros(2, 1))) @ torch.ones(1)).item()
    5.0
    """
    return mean_polynomial(samples, {1: 1.0})


def central_moment(samples, k: int) -> Operator:
    """M_k − H^k (Section 4), as mean_i H_i (H_i^{k−1} − H^{k−1}).

    The two are one, for mean_i H_i is H. So H^k costs k − 1 products with H, not k, and the difference is taken before
    the last one, sample by sample, where the two terms are as far apart as the samples are.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # H_1 = 1, H_2 = 9
    >>> (central_moment(sample_hessians(model, "mse", x, torch.zeros(2, 1)), 2) @ torch.ones(1)).item()
    16.0
    """
    check_power(k)
    return _symmetric(samples, samples.size, lambda v: samples.central(v, k))


def gauss_newton(samples) -> Operator:
    """G = mean_i J_iᵀ Q_i J_i, with J_i the Jacobian of the outputs and Q_i the Hessian of the loss at them.

    It is H without the curvature of the network, positive semidefinite where the loss is convex in the outputs. For the
    named losses it is also the Fisher information, the mean of g gᵀ over labels drawn from the network's own
    distribution: the softmax's for "cross_entropy", for "mse" and "squared" a Gaussian of variance 1 and ½.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # J = x, n = 2
    >>> (gauss_newton(sample_hessians(model, "mse", x, torch.zeros(2, 1))) @ torch.ones(1)).item()
    5.0
    """
    return _symmetric(samples, samples.size, samples.gauss_newton)


def empirical_fisher(samples) -> Operator:
    """F = mean_i g_i g_iᵀ, with g_i the gradient of the loss of sample i at its own label.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)
    >>> y = model(x).detach() - 2  # f − y = 2, so that g = 2x and n = 2
    >>> round((empirical_fisher(sample_hessians(model, "mse", x, y)) @ torch.ones(1)).item(), 4)
    20.0
    """
    return _symmetric(samples, samples.size, samples.empirical_fisher)


MATRICES = {"hessian": mean_hessian, "gauss_newton": gauss_newton, "empirical_fisher": empirical_fisher}


def matrix(samples, name: str) -> Operator:
    """The operator of that name, one of MATRICES. Raises ValueError for another name."""
    if name not in MATRICES:
        raise ValueError(f"matrix = {name!r}: must be one of {', '.join(MATRICES)}")
    return MATRICES[name](samples)


def gauss_newton_root(samples) -> Operator:
    """R = SᵀJ/√n of N·outputs rows: RᵀR is the Gauss-Newton matrix.

    H = RᵀR + mean_i Σ_c g_ic ∇²f_c: exact where the loss gradients g_i at the outputs vanish, as at an interpolating
    minimum of a squared loss.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # J = x, n = 2
    >>> root = gauss_newton_root(sample_hessians(model, "mse", x, torch.zeros(2, 1)))
    >>> round((root.T @ root @ torch.ones(1)).item(), 4)
    5.0
    """
    scale, shape = samples.n**-0.5, (samples.n, samples.outputs)
    return Operator(
        (samples.n * samples.outputs, samples.size),
        lambda v: samples.jacobian(v).mul_(scale).flatten(),
        lambda u: samples.jacobian_t(u.view(shape)).mul_(scale),
        dtype=samples.dtype,
        device=samples.device,
    )


def gauss_newton_dual(samples) -> Operator:
    """R Rᵀ, N·outputs square: its eigenvalues are those of the Gauss-Newton matrix, but for zeros.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)
    >>> dual = gauss_newton_dual(sample_hessians(model, "mse", x, torch.zeros(2, 1)))  # xxᵀ/n
    >>> (dual @ torch.tensor([1.0, 0.0])).round(decimals=4).tolist()
    [0.5, 1.5]
    """
    root = gauss_newton_root(samples)
    return root @ root.T


def gauss_newton_moment(samples, k: int) -> Operator:
    """The Gauss-Newton part of M_k − H^k: Rᵀ(D^{k−1} − (RRᵀ)^{k−1})R for k ≥ 2, D the n-fold diagonal blocks of RRᵀ.

    >>> from lib.hessian import sample_hessians
    >>> x, model = torch.tensor([[1.0], [3.0]]), torch.nn.Linear(1, 1, bias=False)  # H_1 = 1, H_2 = 9
    >>> samples = sample_hessians(model, "mse", x, torch.zeros(2, 1))
    >>> round((gauss_newton_moment(samples, 2) @ torch.ones(1)).item(), 4)
    16.0
    """
    check_power(k)
    if k < 2:
        raise ValueError(f"k = {k!r}: the Gauss-Newton moment is about the mean, k must be 2 or more")
    root = gauss_newton_root(samples)
    blocks = torch.linalg.matrix_power(samples.blocks(), k - 1)
    diagonal = _symmetric(samples, root.shape[0], lambda u: (blocks @ u.view(samples.n, -1, 1)).flatten())
    return root.T @ (diagonal - (root @ root.T) ** (k - 1)) @ root


def check_power(*powers: int) -> None:
    """Raise ValueError unless each of `powers` is an integer of at least 1, and there is one."""
    for k in powers or (None,):
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k = {k!r}: the power of the Hessians must be an integer, 1 or more")


def _symmetric(samples, size, matvec):
    return Operator((size, size), matvec, dtype=samples.dtype, device=samples.device)
