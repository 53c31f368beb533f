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
from dataclasses import replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib import losses, operators
from lib.lanczos import TOLERANCE, Density, Eigen, lanczos
from lib.lanczos import spectral_density as _density
from lib.operators import Perceptron, central_moment, mean_hessian, mean_polynomial
from lib.seeds import generator

MEMORY = 2**30
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Identity: "identity"}


def sharpness(model: nn.Module, loss: str, x, y, *, seed: int = 0, memory: int = MEMORY, **options) -> Eigen:
    """a = λ_max(H), the largest eigenvalue of the Hessian of the mean loss.

    x: inputs N×… in the parameters' dtype and device; y: N class indices, or for "mse" and "squared" also N×outputs
    targets (indices are made one-hot). `memory`: bytes for per-sample state. `options`: those of `lanczos`.
    Raises ValueError for data, weights or modules that have no per-sample Hessians (see `samples`).
    """
    data = samples(model, loss, x, y, memory=memory)
    return _solve(mean_hessian(data), data, 1, seed, options)


def nonuniformity(model: nn.Module, loss: str, x, y, k: int, *, seed=0, memory: int = MEMORY, **options) -> Eigen:
    """s_k = λ_max(M_k − H^k)^{1/k}: `eigenvalue` is λ, always the largest algebraic one, and `value`
    sign(λ)|λ|^{1/k}, since for odd k and indefinite H_i the largest may be negative. Arguments as `sharpness`.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k = {k!r}: the moment must be an integer, 1 or more")
    data = samples(model, loss, x, y, memory=memory)
    found = _solve(central_moment(data, k), data, k, seed, options)
    return replace(found, value=math.copysign(abs(found.eigenvalue) ** (1 / k), found.eigenvalue))


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
    data = samples(model, loss, x, y, memory=memory)
    found = _solve(theorem9(data, eta, rho), data, 1, seed, options)
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
    """The spectral density of H by stochastic Lanczos quadrature; `probes` and `steps` as in `lib.lanczos`."""
    return _density(mean_hessian(samples(model, loss, x, y, memory=memory)), probes=probes, steps=steps, seed=seed)


def _solve(operator, data, k, seed, options):
    if "start" not in options:
        # What RᵀR and k − 1 more powers of the H_i make of noise: the first product without its most costly part.
        noise = torch.randn(data.size, dtype=torch.float64, generator=generator(seed, "start"))
        signals = data.jacobian(noise.to(data.device, data.dtype))
        options = options | {"start": data.jacobian_t(signals, power=k - 1)}
    # A k-th root divides the relative error by k: this bounds the error of `value` alike for all k.
    return lanczos(operator, seed=seed, **{"tol": k * TOLERANCE[data.dtype]} | options)


class General:
    """Per-sample Hessians of any module without coupling between samples, by forward over reverse mode (torch.func).

    H_i u_i is vmapped over as many samples as `memory` holds vectors of parameters for; the mean Hessian needs none.
    """

    def __init__(self, model: nn.Module, loss: str, x, y, *, outputs: int, memory: int):
        self.weights = {name: p.detach() for name, p in model.named_parameters()}
        self.buffers = {name: b.detach() for name, b in model.named_buffers()}
        self.model, self.loss, self.x, self.y, self.outputs = model, loss, x, y, outputs
        self.n, self.dtype, self.device = len(x), x.dtype, x.device
        self.size = sum(p.numel() for p in self.weights.values())
        # Measured on convolutions: about eight copies of the parameters, and activations of a hundred inputs.
        sample = 100 * x[0].numel() * x.element_size()
        self.batch = max(1, memory // (2 * sample))
        self.chunk = max(1, memory // (8 * self.size * x.element_size() + sample))

    def _output(self, weights, x):
        with sdpa_kernel(SDPBackend.MATH):  # the only attention with second derivatives
            return torch.func.functional_call(self.model, (weights, self.buffers), (x,))

    def _named(self, v):
        parts = v.split([p.numel() for p in self.weights.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.weights.items(), parts, strict=True)}

    def _product(self, x, y, v):
        """Σ H_i v over the samples of x, flat."""

        def gradient(weights):
            return torch.func.grad(lambda w: losses.per_sample(self.loss, self._output(w, x), y).sum())(weights)

        tangent = torch.func.jvp(gradient, (self.weights,), (self._named(v),))[1]
        return torch.cat([tangent[name].flatten() for name in self.weights])

    def _batches(self, size):
        return zip(self.x.split(size), self.y.split(size), strict=True)

    def polynomials(self, v, rows):
        top = max(max(row) for row in rows)
        sums = [torch.zeros_like(v) for _ in rows]
        each = torch.func.vmap(lambda x, y, u: self._product(x[None], y[None], u), randomness="error")
        for x, y in self._batches(self.batch if top == 1 else self.chunk):
            if top == 1:
                u = [self._product(x, y, v)]
            else:
                u = v.expand(len(x), -1)
            for k in range(1, top + 1):
                u = u if top == 1 else each(x, y, u)
                for s, row in zip(sums, rows, strict=True):
                    if k in row:
                        s.add_(u[0] if top == 1 else u.sum(0), alpha=row[k])
        return [s.div_(self.n) for s in sums]

    def _roots(self, x, y):
        return operators.Loss(self.loss, self._output(self.weights, x), y)

    def jacobian(self, v):
        def rows(x, y):
            out = torch.func.jvp(lambda w: self._output(w, x), (self.weights,), (self._named(v),))[1]
            return self._roots(x, y).root_t(out)

        return torch.cat([rows(x, y) for x, y in self._batches(self.batch)])

    def jacobian_t(self, u, power: int = 0):
        """Σ_i J_iᵀ S_i u_i; `power` is ignored, one more application of H_i costing as much as anything here."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for (x, y), part in zip(self._batches(self.batch), u.split(self.batch), strict=True):
            pull = torch.func.vjp(lambda w, x=x: self._output(w, x), self.weights)[1]
            found = pull(self._roots(x, y).root(part))[0]
            total += torch.cat([found[name].flatten() for name in self.weights])
        return total

    def blocks(self):
        def block(x, y):
            loss, eye = self._roots(x, y), torch.eye(self.outputs, dtype=self.dtype, device=self.device)
            pull = torch.func.vjp(lambda w: self._output(w, x), self.weights)[1]
            rows = [pull(loss.root(e[None]))[0] for e in eye]
            j = torch.stack([torch.cat([row[name].flatten() for name in self.weights]) for row in rows])
            return j @ j.T

        return torch.stack([block(x, y) for x, y in self._batches(1)])


def samples(model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor, *, memory: int = MEMORY):
    """The per-sample Hessians of `model` at (x, y), for the operators of `lib.operators`; `model` is left as it is.

    A `Sequential` of Flatten (at most), Linear and ReLU, Tanh or Identity gives a `Perceptron`, others `General`.
    Raises ValueError for an unknown loss, empty, misshapen or non-finite data, non-finite weights, dropout that is
    on, batch norm that uses the batch, and modules whose output for a sample depends on other samples or on chance.
    """
    losses.check(loss)
    weights = list(model.parameters())
    if not weights:
        raise ValueError("model has no parameters: there is no Hessian")
    like = weights[0]
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"model is in {like.dtype}: convert it with model.float() or model.double()")
    if not all(w.isfinite().all() for w in weights):
        raise ValueError("model has weights that are NaN or infinite: the run diverged; use an earlier checkpoint")
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y has {len(y)}: give as many of each, one or more")
    if x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, the model {like.dtype} on {like.device}: "
            "standardize x, then x.to(model's dtype and device)"
        )
    if not x.isfinite().all():
        raise ValueError("x has entries that are NaN or infinite: remove those samples")
    _check_modules(model)
    with torch.no_grad():
        outputs = _check_outputs(model, x)
    y = _targets(loss, y, len(x), outputs, like)
    layers, activations = _perceptron(model, x)
    if layers:
        return Perceptron(layers, activations, loss, x.detach().flatten(1), y, memory=memory)
    return General(model, loss, x.detach(), y, outputs=outputs, memory=memory)


def _check_modules(model):
    for name, m in model.named_modules():
        at = f"{type(m).__name__} {name!r}"
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.training or m.running_mean is None):
            raise ValueError(
                f"{at} normalizes by the statistics of the batch, so that no sample has a Hessian of its own: "
                "use evaluation-mode statistics: model.eval(), with track_running_stats=True"
            )
        rate = m.p if isinstance(m, nn.modules.dropout._DropoutNd) else getattr(m, "dropout", 0.0)
        if m.training and isinstance(rate, float) and rate > 0:
            raise ValueError(f"{at}: dropout is on, so that the loss is random; switch it off with model.eval()")


def _check_outputs(model, x):
    """Number of outputs, once two samples together give what each gives alone, twice."""
    try:
        together = model(x[:2])
        alone = torch.cat([model(s) for s in x[:2].split(1)])
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"model cannot take x of shape {tuple(x.shape)}: {error}") from error
    if not isinstance(together, torch.Tensor) or together.dim() != 2 or len(together) != len(x[:2]):
        shape = tuple(together.shape) if isinstance(together, torch.Tensor) else type(together).__name__
        raise ValueError(f"model gives {shape} for two samples: a Hessian needs one row of outputs for each")
    if not together.isfinite().all():
        raise ValueError("model's outputs are NaN or infinite: check weights, buffers and the scale of x")
    off = (together - alone).abs().max() / together.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    if off > 1e4 * torch.finfo(x.dtype).eps:
        raise ValueError("model's output for a sample depends on the other samples or on chance: try model.eval()")
    return together.shape[1]


def _targets(loss, y, n, outputs, like):
    if y.is_floating_point():
        if loss == "cross_entropy":
            raise ValueError(f"y is {y.dtype}: cross_entropy takes class indices, y.long()")
        if y.shape != (n, outputs):
            raise ValueError(f"y of shape {tuple(y.shape)}: {loss} takes targets of shape {(n, outputs)} or {n} labels")
        if not y.isfinite().all():
            raise ValueError("y has entries that are NaN or infinite: remove those samples")
        return y.to(like.device, like.dtype)
    if y.shape != (n,) or y.min() < 0 or y.max() >= outputs:
        raise ValueError(f"y of shape {tuple(y.shape)}: labels must be {n} numbers in 0..{outputs - 1}, one a sample")
    return losses.target(loss, y.to(like.device, torch.int64), outputs, like.dtype)


def _perceptron(model, x):
    """Layers and activations of a plain perceptron, else (None, None)."""
    modules = list(model) if type(model) is nn.Sequential else []
    if modules and type(modules[0]) is nn.Flatten and (modules[0].start_dim, modules[0].end_dim) == (1, -1):
        modules = modules[1:]
    elif x.dim() != 2:
        return None, None
    layers, activations, expected = [], [], False
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for m in modules:
        if type(m) is nn.Linear:
            activations += ["identity"] if expected else []
            layers.append((m.weight.detach(), None if m.bias is None else m.bias.detach()))
            expected = True
        elif type(m) in ACTIVATIONS and expected:
            activations.append(ACTIVATIONS[type(m)])
            expected = False
        else:
            return None, None
    own = sum(2 - (b is None) for _, b in layers)  # fewer parameters than that: layers are tied
    plain = expected and not hooks and own == len(list(model.parameters()))
    return (layers, activations) if plain else (None, None)
