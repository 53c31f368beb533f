"""Per-sample Hessians of any module without coupling between samples, exact, by forward over reverse mode.

Where that gives no Hessian, reverse over reverse mode is taken: recurrent layers in float32 have no forward mode, and
what `no_grad` holds back from the reverse mode passes the forward one. The mean Hessian is applied by a recorded
gradient (`recorded`) where that gives the same.
"""

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from lib.core import interruption, losses
from lib.core.seeds import generator
from lib.hessian.recorded import Recorded
from lib.hessian.samples import Batches, Samples, arguments, leaves, mapped


class _WeightNorm(TorchFunctionMode):
    """Weight norm by its formula, g v/‖v‖: torch's kernel has no forward mode, and its second derivatives are wrong."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch._weight_norm:
            v, g, *dim = args
            return v * (g / torch.norm_except_dim(v, 2, *dim))
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def plain_attention():
    """Within this context attention is computed in steps that have second derivatives, also in evaluation mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class General:
    """Per-sample Hessians of any module without coupling between samples, by forward over reverse mode (torch.func).

    H_i u_i is vmapped over as many samples as `memory` holds vectors of parameters for; the mean Hessian needs none.
    loss: a name of `lib.core.losses`, or a function of (outputs, targets) that gives a loss for each sample. data: what
    the model takes and what the loss compares with.
    frozen: whether parameters that require no gradient count. reverse: reverse over reverse mode. recorded: what
    applies the mean Hessian, if not that. rooted: whether `jacobian` is there, which needs a root of the loss' Hessian.
    """

    reverse, recorded = False, None

    def __init__(
        self,
        model: nn.Module,
        loss: str | Callable,
        data: Samples | Batches,
        *,
        outputs: int | None,
        memory: int,
        frozen: bool = True,
    ):
        self.weights = {name: p.detach() for name, p in model.named_parameters() if frozen or p.requires_grad}
        self.buffers = {name: b.detach() for name, b in model.named_buffers()}
        self.model, self.loss, self.data, self.outputs = model, loss, data, outputs
        like = next(iter(self.weights.values()))
        self.n, self.device, self.dtype, self.rooted = data.n, like.device, like.dtype, not callable(loss)
        self.size, self.memory = sum(p.numel() for p in self.weights.values()), memory
        # Measured on convolutions: about eight copies of the parameters, and activations of a hundred inputs.
        sample = 100 * sum(t[0].numel() * t.element_size() for t in leaves(data.first(1)[0]))
        self.batch = max(1, memory // (2 * sample))
        self.chunk = max(1, memory // (8 * self.size * like.element_size() + sample))

    @property
    def live(self):
        """All parameters are taken to be live."""
        return self

    def restrict(self, v):
        return v

    extend = restrict

    def _output(self, weights, x):
        with plain_attention(), _WeightNorm():
            return torch.func.functional_call(self.model, (weights, self.buffers), *arguments(x))

    def _losses(self, output, y):
        return self.loss(output, y) if callable(self.loss) else losses.per_sample(self.loss, output, y)

    def _named(self, v):
        parts = v.split([p.numel() for p in self.weights.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.weights.items(), parts, strict=True)}

    def _product(self, x, y, v):
        """Σ H_i v over the samples of x, flat."""

        def gradient(weights):
            return torch.func.grad(lambda w: self._at(w, x, y).sum())(weights)

        if self.reverse:
            tangent = torch.func.vjp(gradient, self.weights)[1](self._named(v))[0]
        else:
            tangent = torch.func.jvp(gradient, (self.weights,), (self._named(v),))[1]
        return torch.cat([tangent[name].flatten() for name in self.weights])

    def _batches(self, size):
        for batch in self.data.split(size):
            interruption.check()
            yield batch

    def _hessian(self, v):
        if self.recorded:
            return self.recorded.product(v).div_(self.n)
        return sum(self._product(x, y, v) for x, y in self._batches(self.batch)).div_(self.n)

    def _each(self, x, y, v, times):
        """H_i^times v of every sample of x, one row each."""
        n = len(leaves(x)[0])

        def looped(x, y, u):
            return torch.stack([self._one(*mapped(lambda t: t[i], (x, y)), u[i]) for i in range(n)])  # noqa: B023

        apply = torch.func.vmap(self._one, randomness="error") if self.vmapped else looped
        u = v.expand(n, -1)
        for _ in range(times):
            interruption.check()
            u = apply(x, y, u)
        return u

    def _one(self, x, y, u):
        return self._product(*mapped(lambda t: t[None], (x, y)), u)

    @functools.cached_property
    def vmapped(self):
        """Whether the H_i can be applied by vmap, in which some layers, such as recurrent ones, fail: else one by
        one."""
        x, y = self.data.first(2)
        ones = torch.ones(len(leaves(x)[0]), self.size, dtype=self.dtype, device=self.device)
        try:
            torch.func.vmap(self._one, randomness="error")(x, y, ones)
        except RuntimeError:
            return False
        return True

    def polynomial(self, v, coefficients):
        """mean_i Σ_k c_k H_i^k v."""
        if coefficients.keys() == {1}:
            return self._hessian(v).mul_(coefficients[1])
        total = torch.zeros_like(v)
        for x, y in self._batches(self.chunk):
            u, done = v.expand(len(leaves(x)[0]), -1), 0
            for k in sorted(coefficients):
                u, done = self._each(x, y, u, k - done), k
                total.add_(u.sum(0), alpha=coefficients[k] / self.n)
        return total

    def central(self, v, k):
        """mean_i H_i (H_i^{k−1} v − H^{k−1} v)."""
        total, power = torch.zeros_like(v), v
        if k == 1:
            return total
        for _ in range(k - 1):
            power = self._hessian(power)
        for x, y in self._batches(self.chunk):
            total.add_(self._each(x, y, self._each(x, y, v, k - 1) - power, 1).sum(0), alpha=1 / self.n)
        return total

    def is_symmetric(self):
        """Whether uᵀHv = vᵀHu for a random v and u = Hv, which no v makes small beside ‖u‖‖Hv‖."""
        v = torch.randn(self.size, dtype=torch.float32, generator=generator(0, "symmetry")).to(self.device, self.dtype)
        u = self._hessian(v)
        square, other = u.double().square().sum(), (v.double() * self._hessian(u).double()).sum()
        # The root of the precision: products of H agree to a small multiple of it.
        return bool((square - other).abs() <= 3 * torch.finfo(self.dtype).eps ** 0.5 * square)

    def record(self):
        """Take a recorded gradient for the mean Hessian, where that has the same products at the first samples."""
        try:
            recorded = Recorded(self.weights, self._at, self.data, memory=self.memory / 2)
            x, y = self.data.first(2)
            v = torch.randn(self.size, dtype=torch.float32, generator=generator(0, "recorded"))
            v = v.to(self.device, self.dtype)
            one, other = recorded.derivative(recorded.gradient(x, y), v), self._product(x, y, v)
        except RuntimeError:
            return
        if (one - other).norm() <= 3 * torch.finfo(self.dtype).eps ** 0.5 * other.norm():
            self.recorded = recorded

    def _at(self, weights, x, y):
        return self._losses(self._output(weights, x), y)

    def _curvature(self, x, y):
        return losses.Curvature(self.loss, self._output(self.weights, x), y)

    def _along(self, function, v):
        """function(w) and its derivative in the direction v."""
        if self.reverse:  # Jv is the derivative of u ↦ Jᵀu, which is linear, against v
            value, pull = torch.func.vjp(function, self.weights)
            zeros = mapped(torch.zeros_like, value)
            return value, torch.func.vjp(lambda u: pull(u)[0], zeros)[1](self._named(v))[0]
        return torch.func.jvp(function, (self.weights,), (self._named(v),))

    def _summed(self, parts):
        """Σ Jᵀu, flat, over (function of the weights, u) of batches."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for function, u in parts:
            pulled = torch.func.vjp(function, self.weights)[1](u)[0]
            total += torch.cat([pulled[name].flatten() for name in self.weights])
        return total

    def curved(self, output, y, u):
        """Q_i u_i with Q_i the Hessian of the loss at the outputs: trees as `output` is."""

        def gradient(f):
            return torch.func.grad(lambda f: self._losses(f, y).sum())(f)

        if self.reverse:
            return torch.func.vjp(gradient, output)[1](u)[0]
        return torch.func.jvp(gradient, (output,), (u,))[1]

    def gauss_newton(self, v):
        """mean_i J_iᵀ Q_i J_i v."""

        def parts():
            for x, y in self._batches(self.batch):
                function = lambda w, x=x: self._output(w, x)  # noqa: E731
                output, tangent = self._along(function, v)
                yield function, self.curved(output, y, tangent)

        return self._summed(parts()).div_(self.n)

    def empirical_fisher(self, v):
        """mean_i g_i g_iᵀ v with g_i the gradient of the loss of sample i."""

        def parts():
            for x, y in self._batches(self.batch):
                function = lambda w, x=x, y=y: self._at(w, x, y)  # noqa: E731
                yield function, self._along(function, v)[1]

        return self._summed(parts()).div_(self.n)

    def jacobian(self, v):
        def rows(x, y):
            return self._curvature(x, y).root_t(self._along(lambda w: self._output(w, x), v)[1])

        return torch.cat([rows(x, y) for x, y in self._batches(self.batch)])

    def jacobian_t(self, u, power: int = 0):
        """Σ_i J_iᵀ S_i u_i; `power` is ignored, one more application of H_i costing as much as anything here."""

        def parts():
            start = 0
            for x, y in self._batches(self.batch):
                curvature = self._curvature(x, y)
                part = u[start : (start := start + len(curvature.gradient))]
                yield lambda w, x=x: self._output(w, x), curvature.root(part)

        return self._summed(parts())

    def blocks(self):
        def block(x, y):
            loss, eye = self._curvature(x, y), torch.eye(self.outputs, dtype=self.dtype, device=self.device)
            pull = torch.func.vjp(lambda w: self._output(w, x), self.weights)[1]
            rows = [pull(loss.root(e[None]))[0] for e in eye]
            j = torch.stack([torch.cat([row[name].flatten() for name in self.weights]) for row in rows])
            return j @ j.T

        return torch.stack([block(x, y) for x, y in self._batches(1)])
