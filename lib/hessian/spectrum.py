"""Sharpness and non-uniformity of the Hessian at trained networks (Section 4), without a matrix.

With H_i the Hessian of the loss of sample i, H = mean_i H_i and M_k = mean_i H_i^k:

    sharpness         a = λ_max(H)
    non-uniformity    s_k = λ_max(M_k − H^k)^{1/k}
    stability         λ_max of the matrix in Theorem 9, in which all powers of H cancel: mean_i (I − ηH_i − ηρH_i²)²

Each is one `lanczos` on an operator of `lib.hessian.operators` over `sample_hessians(model, loss, x, y)`: the plain
perceptron's recursion where the module is one, else `General`. Losses, summed over outputs and averaged over samples:
"mse" ½‖f(x) − y‖², "squared" without the ½, "cross_entropy". Vectors are flat, in `parameters()` order.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import nn

from lib.core.seeds import generator
from lib.hessian.lanczos import TOLERANCE, Density, Eigen, lanczos, norm2
from lib.hessian.lanczos import spectral_density as _density
from lib.hessian.operators import central_moment, check_power, mean_hessian, mean_polynomial
from lib.hessian.per_sample import MEMORY, sample_hessians


def sharpness(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    *,
    seed: int = 0,
    memory: int = MEMORY,
    frozen: bool = True,
    **options,
) -> Eigen:
    """a = λ_max(H), the largest eigenvalue of the Hessian of the mean loss.

    loss, x, y: as `sample_hessians` takes them: x inputs N×… in the parameters' dtype and device and y N class indices,
    or for "mse" and "squared" also N×outputs targets (indices are made one-hot); or tuples and dictionaries of tensors,
    a loss that is a function of (outputs, targets), or for x batches of both. `memory`: bytes for per-sample state.
    `frozen`: parameters that require no gradient count too; False leaves them out. `options`: those of `lanczos`.
    Where H is 0, as without biases where all hidden units are off, so is `value`, and `vector` a unit vector drawn at
    random, for every one is an eigenvector.
    Raises ValueError for data, weights or modules that have no per-sample Hessians (see `sample_hessians`).

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(50, 3), nn.Linear(3, 1, bias=False)
    >>> top = sharpness(model, "mse", x, torch.zeros(50, 1))
    >>> bool(torch.isclose(torch.tensor(top.value), torch.linalg.eigvalsh(x.T @ x / 50)[-1]))
    True
    """
    data, options = _live(sample_hessians(model, loss, x, y, memory=memory, frozen=frozen), options)
    return _extended(data, _top(mean_hessian, data, 1, seed, options))


def nonuniformity(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    k: int = 2,
    *,
    seed=0,
    memory: int = MEMORY,
    frozen: bool = True,
    **options,
) -> Eigen:
    """s_k = λ_max(M_k − H^k)^{1/k}: `eigenvalue` is λ, always the largest algebraic one, and `value`
    sign(λ)|λ|^{1/k}, since for odd k and indefinite H_i the largest may be negative. `iterations` counts products
    with M_k alone as well, which for even k > 2 find the start. Arguments as `sharpness`; ValueError also unless k ≥ 1.

    >>> x, model = torch.ones(50, 3), nn.Linear(3, 1, bias=False)  # all samples are alike
    >>> abs(nonuniformity(model, "mse", x, torch.zeros(50, 1), k=2).eigenvalue) < 1e-5
    True
    """
    check_power(k)
    data, options = _live(sample_hessians(model, loss, x, y, memory=memory, frozen=frozen), options)
    return _root(_extended(data, _central(data, k, seed, options)), k)


def moments(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    ks=(2, 3, 4),
    *,
    seed=0,
    memory: int = MEMORY,
    frozen: bool = True,
    **options,
) -> dict[str, Eigen]:
    """a and s_k for every k of `ks`: {"a": …, "s2": …, …}. Faster than one call for each, for they share what samples
    fix, and each starts from the eigenvector of the one before. Arguments and errors as `nonuniformity`.

    >>> x, model = torch.eye(3), nn.Linear(3, 1, bias=False)
    >>> sorted(moments(model, "mse", x, torch.zeros(3, 1), ks=(2,)))
    ['a', 's2']
    """
    if not isinstance(ks, Iterable):
        raise ValueError(f"ks = {ks!r}: must be a sequence of powers, such as ({ks!r},)")
    check_power(*ks)
    data, options = _live(sample_hessians(model, loss, x, y, memory=memory, frozen=frozen), options)
    last = _top(mean_hessian, data, 1, seed, options)
    result = {"a": _extended(data, last)}
    for k in sorted(set(ks)):
        last = _central(data, k, seed, {"start": last.vector} | options)
        result[f"s{k}"] = _root(_extended(data, last), k)
    return result


def stability(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    *,
    eta: float,
    rho: float,
    seed=0,
    memory: int = MEMORY,
    frozen: bool = True,
    **options,
) -> Eigen:
    """λ_max of the matrix T of Theorem 9 for batches of one and unnormalized SAM: at most 1 promises stability.

    Found on T − I = mean_i (−2ηH_i + η(η − 2ρ)H_i² + 2η²ρH_i³ + η²ρ²H_i⁴): `eigenvalue`, `residual` and `norm` are
    those of T − I, `value` is 1 + `eigenvalue`. Directions that no sample sees make λ_max(T − I) ≥ 0, so 0 is the
    best there is: ask `is_stable`. Arguments as `sharpness`; ValueError also unless η > 0 and ρ ≥ 0.

    >>> x, model = torch.eye(3), nn.Linear(3, 1, bias=False)
    >>> is_stable(stability(model, "mse", x, torch.zeros(3, 1), eta=0.1, rho=0.05))
    True
    """
    if not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"eta = {eta!r}: the step size must be a finite number above 0")
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: must be a finite number, 0 or more")
    data, options = _live(sample_hessians(model, loss, x, y, memory=memory, frozen=frozen), options)
    # Where T is stable its top is a small part of ‖T − I‖ and not where the curvature is: a start and a residual of its
    # own.
    options = {"tol": TOLERANCE[data.dtype] / 3} | options
    result = _extended(data, _solve(theorem9_operator(data.live, eta, rho), seed, options))
    return replace(result, value=1 + result.eigenvalue)


def is_stable(result: Eigen, tolerance: float = 1e-5) -> bool:
    """Whether Theorem 9 promises stability: a converged λ_max(T − I) ≤ tolerance·‖T − I‖, for what `stability` gave.

    >>> x, model = torch.eye(3), nn.Linear(3, 1, bias=False)
    >>> is_stable(stability(model, "mse", x, torch.zeros(3, 1), eta=10.0, rho=0.05))
    False
    """
    return result.converged and result.eigenvalue <= tolerance * result.norm


def theorem9_operator(data, eta: float, rho: float):
    """T − I of Theorem 9, (1 − ηh − ηρh²)² − 1 averaged over the samples' h = H_i.

    >>> samples = sample_hessians(nn.Linear(2, 1, bias=False), "mse", torch.eye(2), torch.zeros(2, 1))
    >>> (theorem9_operator(samples, eta=1.0, rho=0.0) @ torch.ones(2)).tolist()  # (0 + 1)/2 − 1
    [-0.5, -0.5]
    """
    c = {1: -2 * eta, 2: eta * (eta - 2 * rho), 3: 2 * eta**2 * rho, 4: eta**2 * rho**2}
    return mean_polynomial(data, {k: value for k, value in c.items() if value})


def spectral_density(
    model: nn.Module,
    loss: str | Callable,
    x,
    y=None,
    *,
    probes: int = 4,
    steps: int = 48,
    seed: int = 0,
    memory: int = MEMORY,
    frozen: bool = True,
) -> Density:
    """The spectral density of H by stochastic Lanczos quadrature; `probes` and `steps` as in `lib.hessian.lanczos`.

    What is known to be null space is one mass at 0. Arguments and errors as `sharpness`.

    >>> x, model = torch.randn(50, 3), nn.Linear(3, 1, bias=False)
    >>> density = spectral_density(model, "mse", x, torch.zeros(50, 1), probes=2, steps=3)
    >>> round(density.weights.sum().item(), 6)
    1.0
    """
    data = sample_hessians(model, loss, x, y, memory=memory, frozen=frozen)
    if data.live.size == 0:
        return Density(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    result = _density(mean_hessian(data.live), probes=probes, steps=steps, seed=seed)
    if data.live.size == data.size:
        return result
    share = data.live.size / data.size
    nodes, weights = torch.zeros(1, dtype=torch.float64), torch.tensor([1 - share], dtype=torch.float64)
    return Density(torch.cat([result.nodes, nodes]), torch.cat([share * result.weights, weights]))


def _central(data, k, seed, options):
    """λ_max(M_k − H^k) on live parameters."""
    spent = 0
    if k > 2 and k % 2 == 0:
        # H^k is a small part of M_k − H^k at trained networks and more than half of its cost: search without it first.
        # It is positive semidefinite, so by Weyl's inequality no eigenvalue is above its like of M_k.
        near = _top(lambda live: mean_polynomial(live, {k: 1.0}), data, k, seed, options)
        spent, options = near.iterations, options | {"start": near.vector}
        if near.converged:
            options |= {"below": near.second}
    result = _top(lambda live: central_moment(live, k), data, k, seed, options)
    return replace(result, iterations=spent + result.iterations)


def _top(operator, data, k, seed, options):
    """The top of `operator(data.live)`, from noise unless there is a start, to an error of `value` alike for all k."""
    live = data.live
    if "start" not in options and live.size and live.rooted:
        # What RᵀR and k − 1 more powers of the H_i make of noise: the first product without its most costly part.
        noise = torch.randn(live.size, dtype=torch.float32, generator=generator(seed, "start"))
        signals = live.jacobian(noise.to(live.device, live.dtype))
        start = live.jacobian_t(signals, power=k - 1)
        if not start.isfinite().all():
            raise ValueError(
                f"k = {k}: the Hessians to that power overflow in {live.dtype}: take a smaller k or float64"
            )
        options = options | {"start": start}
    # A k-th root divides the relative error by k.
    return _solve(operator(live), seed, {"tol": k * TOLERANCE[live.dtype]} | options)


def _solve(operator, seed, options):
    """`lanczos`, also where nothing is live."""
    if operator.shape == (0, 0):
        return Eigen(0.0, 0.0, torch.zeros(0).to(operator.device, operator.dtype), 0.0, 0, True, 0.0, math.inf)
    return lanczos(operator, seed=seed, **options)


def _live(data, options):
    """`options` with their start, if any, on live parameters. ValueError for one of another length."""
    if "start" not in options:
        return data, options
    start = options["start"]
    if start.shape != (data.size,):
        raise ValueError(
            f"start of shape {tuple(start.shape)}: the model has {data.size} parameters, one entry for each"
        )
    return data, options | {"start": data.restrict(start.to(data.device, data.dtype))}


def _extended(data, result: Eigen) -> Eigen:
    """An eigenpair on live parameters as one on all of them, where 0 is an eigenvalue if there are more."""
    null = data.live.size < data.size
    if null and (result.eigenvalue < 0 or data.live.size == 0):
        noise = torch.randn(data.size, dtype=torch.float32, generator=generator(0, "null")).to(result.vector)
        noise = noise - data.extend(data.restrict(noise))
        return replace(result, value=0.0, eigenvalue=0.0, second=0.0, vector=noise / norm2(noise), residual=0.0)
    second = max(result.second, 0.0) if null else result.second
    return replace(result, vector=data.extend(result.vector), second=second)


def _root(result: Eigen, k: int) -> Eigen:
    return replace(result, value=math.copysign(abs(result.eigenvalue) ** (1 / k), result.eigenvalue))
