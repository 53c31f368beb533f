"""Sharpness and non-uniformity of the Hessian at trained networks (Section 4), without a matrix.

With H_i the Hessian of the loss of sample i, H = mean_i H_i and M_k = mean_i H_i^k:

    sharpness         a = λ_max(H)
    non-uniformity    s_k = λ_max(M_k − H^k)^{1/k}
    stability         λ_max of the matrix in Theorem 9, in which all powers of H cancel: mean_i (I − ηH_i − ηρH_i²)²

Each is one `lanczos` on an operator of `lib.operators` over `samples(model, loss, x, y)`: the plain perceptron's
recursion where the module is one, else `General`. Losses, summed over outputs and averaged over samples: "mse"
½‖f(x) − y‖², "squared" without the ½, "cross_entropy". Vectors are flat, in `parameters()` order.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from lib.lanczos import TOLERANCE, Density, Eigen, lanczos, norm2
from lib.lanczos import spectral_density as _density
from lib.operators import central_moment, check_power, mean_hessian, mean_polynomial
from lib.samples import MEMORY, samples
from lib.seeds import generator


def sharpness(model: nn.Module, loss: str, x, y, *, seed: int = 0, memory: int = MEMORY, **options) -> Eigen:
    """a = λ_max(H), the largest eigenvalue of the Hessian of the mean loss.

    x: inputs N×… in the parameters' dtype and device; y: N class indices, or for "mse" and "squared" also N×outputs
    targets (indices are made one-hot). `memory`: bytes for per-sample state. `options`: those of `lanczos`.
    Where H is 0, as without biases where all hidden units are off, so is `value`, and `vector` a unit vector drawn at
    random, for every one is an eigenvector.
    Raises ValueError for data, weights or modules that have no per-sample Hessians (see `samples`).
    """
    data, options = _live(samples(model, loss, x, y, memory=memory), options)
    return _extended(data, _top(mean_hessian, data, 1, seed, options))


def nonuniformity(model: nn.Module, loss: str, x, y, k: int, *, seed=0, memory: int = MEMORY, **options) -> Eigen:
    """s_k = λ_max(M_k − H^k)^{1/k}: `eigenvalue` is λ, always the largest algebraic one, and `value`
    sign(λ)|λ|^{1/k}, since for odd k and indefinite H_i the largest may be negative. `iterations` counts products
    with M_k alone as well, which for even k > 2 find the start. Arguments as `sharpness`; ValueError also unless k ≥ 1.
    """
    check_power(k)
    data, options = _live(samples(model, loss, x, y, memory=memory), options)
    return _root(_extended(data, _central(data, k, seed, options)), k)


def moments(
    model: nn.Module, loss: str, x, y, ks=(2, 3, 4), *, seed=0, memory: int = MEMORY, **options
) -> dict[str, Eigen]:
    """a and s_k for every k of `ks`: {"a": …, "s2": …, …}. Faster than one call for each, for they share what samples
    fix, and each starts from the eigenvector of the one before. Arguments and errors as `nonuniformity`.
    """
    if not isinstance(ks, Iterable):
        raise ValueError(f"ks = {ks!r}: must be a sequence of powers, such as ({ks!r},)")
    check_power(*ks)
    data, options = _live(samples(model, loss, x, y, memory=memory), options)
    last = _top(mean_hessian, data, 1, seed, options)
    found = {"a": _extended(data, last)}
    for k in sorted(set(ks)):
        last = _central(data, k, seed, {"start": last.vector} | options)
        found[f"s{k}"] = _root(_extended(data, last), k)
    return found


def stability(
    model: nn.Module, loss: str, x, y, *, eta: float, rho: float, seed=0, memory: int = MEMORY, **options
) -> Eigen:
    """λ_max of the matrix T of Theorem 9 for batches of one and unnormalized SAM: at most 1 promises stability.

    Found on T − I = mean_i (−2ηH_i + η(η − 2ρ)H_i² + 2η²ρH_i³ + η²ρ²H_i⁴): `eigenvalue`, `residual` and `norm` are
    those of T − I, `value` is 1 + `eigenvalue`. Directions that no sample sees make λ_max(T − I) ≥ 0, so 0 is the
    best there is: ask `is_stable`. Arguments as `sharpness`; ValueError also unless η > 0 and ρ ≥ 0.
    """
    if not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"eta = {eta!r}: the step size must be a finite number above 0")
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: must be a finite number, 0 or more")
    data, options = _live(samples(model, loss, x, y, memory=memory), options)
    # Where T is stable its top is a small part of ‖T − I‖ and not where the curvature is: a start and a residual of its
    # own.
    options = {"tol": TOLERANCE[data.dtype] / 3} | options
    found = _extended(data, _solve(theorem9(data.live, eta, rho), seed, options))
    return replace(found, value=1 + found.eigenvalue)


def is_stable(found: Eigen, tolerance: float = 1e-5) -> bool:
    """Whether Theorem 9 promises stability: a converged λ_max(T − I) ≤ tolerance·‖T − I‖, for what `stability` gave."""
    return found.converged and found.eigenvalue <= tolerance * found.norm


def theorem9(data, eta: float, rho: float):
    """T − I of Theorem 9, (1 − ηh − ηρh²)² − 1 averaged over the samples' h = H_i."""
    c = {1: -2 * eta, 2: eta * (eta - 2 * rho), 3: 2 * eta**2 * rho, 4: eta**2 * rho**2}
    return mean_polynomial(data, {k: value for k, value in c.items() if value})


def spectral_density(
    model: nn.Module, loss: str, x, y, *, probes: int = 4, steps: int = 48, seed: int = 0, memory: int = MEMORY
) -> Density:
    """The spectral density of H by stochastic Lanczos quadrature; `probes` and `steps` as in `lib.lanczos`.

    What is known to be null space is one mass at 0. Arguments and errors as `sharpness`.
    """
    data = samples(model, loss, x, y, memory=memory)
    if data.live.size == 0:
        return Density(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = _density(mean_hessian(data.live), probes=probes, steps=steps, seed=seed)
    if data.live.size == data.size:
        return found
    share = data.live.size / data.size
    nodes, weights = torch.zeros(1, dtype=torch.float64), torch.tensor([1 - share], dtype=torch.float64)
    return Density(torch.cat([found.nodes, nodes]), torch.cat([share * found.weights, weights]))


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
    found = _top(lambda live: central_moment(live, k), data, k, seed, options)
    return replace(found, iterations=spent + found.iterations)


def _top(operator, data, k, seed, options):
    """The top of `operator(data.live)`, from noise unless there is a start, to an error of `value` alike for all k."""
    live = data.live
    if "start" not in options and live.size:
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


def _extended(data, found: Eigen) -> Eigen:
    """An eigenpair on live parameters as one on all of them, where 0 is an eigenvalue if there are more."""
    null = data.live.size < data.size
    if null and (found.eigenvalue < 0 or data.live.size == 0):
        noise = torch.randn(data.size, dtype=torch.float32, generator=generator(0, "null")).to(found.vector)
        noise = noise - data.extend(data.restrict(noise))
        return replace(found, value=0.0, eigenvalue=0.0, second=0.0, vector=noise / norm2(noise), residual=0.0)
    second = max(found.second, 0.0) if null else found.second
    return replace(found, vector=data.extend(found.vector), second=second)


def _root(found: Eigen, k: int) -> Eigen:
    return replace(found, value=math.copysign(abs(found.eigenvalue) ** (1 / k), found.eigenvalue))
