"""Per-sample Hessians of any module without coupling between samples, exact, by forward over reverse mode.

Where that gives no Hessian, reverse over reverse mode is taken: recurrent layers in float32 have no forward mode, and
what `no_grad` holds back from the reverse mode passes the forward one. It costs about as much.
"""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from lib.core import interruption, losses
from lib.core.seeds import generator


class _WeightNorm(TorchFunctionMode):
    """Weight norm by its formula, g v/‖v‖: torch's kernel has no forward mode, and its second derivatives are wrong."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch._weight_norm:
            v, g, *dim = args
            return v * (g / torch.norm_except_dim(v, 2, *dim))
        return function(*args, **(kwargs or {}))


class General:
    """Per-sample Hessians of any module without coupling between samples, by forward over reverse mode (torch.func).

    H_i u_i is vmapped over as many samples as `memory` holds vectors of parameters for; the mean Hessian needs none.
    frozen: whether parameters that require no gradient count. reverse: reverse over reverse mode. vmapped: else H_i u_i
    is a loop over samples.
    """

    reverse, vmapped = False, True

    def __init__(self, model: nn.Module, loss: str, x, y, *, outputs: int, memory: int, frozen: bool = True):
        self.weights = {name: p.detach() for name, p in model.named_parameters() if frozen or p.requires_grad}
        self.buffers = {name: b.detach() for name, b in model.named_buffers()}
        self.model, self.loss, self.x, self.y, self.outputs = model, loss, x, y, outputs
        self.n, self.device, self.dtype = len(x), x.device, next(iter(self.weights.values())).dtype
        self.size = sum(p.numel() for p in self.weights.values())
        # Measured on convolutions: about eight copies of the parameters, and activations of a hundred inputs.
        sample = 100 * x[0].numel() * x.element_size()
        self.batch = max(1, memory // (2 * sample))
        self.chunk = max(1, memory // (8 * self.size * x.element_size() + sample))

    @property
    def live(self):
        """All parameters are taken to be live."""
        return self

    def restrict(self, v):
        return v

    extend = restrict

    def _output(self, weights, x):
        with sdpa_kernel(SDPBackend.MATH), _WeightNorm():  # the only attention with second derivatives
            return torch.func.functional_call(self.model, (weights, self.buffers), (x,))

    def _named(self, v):
        parts = v.split([p.numel() for p in self.weights.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.weights.items(), parts, strict=True)}

    def _product(self, x, y, v):
        """Σ H_i v over the samples of x, flat."""

        def gradient(weights):
            return torch.func.grad(lambda w: losses.per_sample(self.loss, self._output(w, x), y).sum())(weights)

        if self.reverse:
            tangent = torch.func.vjp(gradient, self.weights)[1](self._named(v))[0]
        else:
            tangent = torch.func.jvp(gradient, (self.weights,), (self._named(v),))[1]
        return torch.cat([tangent[name].flatten() for name in self.weights])

    def _batches(self, size):
        for batch in zip(self.x.split(size), self.y.split(size), strict=True):
            interruption.check()
            yield batch

    def _hessian(self, v):
        return sum(self._product(x, y, v) for x, y in self._batches(self.batch)).div_(self.n)

    def _each(self, x, y, v, times):
        """H_i^times v of every sample of x, one row each."""
        if self.vmapped:
            apply = torch.func.vmap(lambda x, y, u: self._product(x[None], y[None], u), randomness="error")
        else:
            apply = lambda *parts: torch.stack(  # noqa: E731
                [self._product(x[None], y[None], u) for x, y, u in zip(*parts, strict=True)]
            )
        u = v.expand(len(x), -1)
        for _ in range(times):
            interruption.check()
            u = apply(x, y, u)
        return u

    def polynomial(self, v, coefficients):
        """mean_i Σ_k c_k H_i^k v."""
        if coefficients.keys() == {1}:
            return self._hessian(v).mul_(coefficients[1])
        total = torch.zeros_like(v)
        for x, y in self._batches(self.chunk):
            u, done = v.expand(len(x), -1), 0
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

    def each_is_vmapped(self):
        """Whether the H_i of one chunk can be applied by vmap, in which some layers, such as recurrent ones, fail."""
        x, y = self.x[: self.chunk], self.y[: self.chunk]
        try:
            self._each(x, y, torch.ones(self.size, dtype=self.dtype, device=self.device), 1)
        except RuntimeError:
            return False
        return True

    def _curvature(self, x, y):
        return losses.Curvature(self.loss, self._output(self.weights, x), y)

    def jacobian(self, v):
        def rows(x, y):
            def output(w):
                return self._output(w, x)

            if self.reverse:  # Jv is the derivative of u ↦ Jᵀu, which is linear, against v
                out, pull = torch.func.vjp(output, self.weights)
                out = torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(out))[1](self._named(v))[0]
            else:
                out = torch.func.jvp(output, (self.weights,), (self._named(v),))[1]
            return self._curvature(x, y).root_t(out)

        return torch.cat([rows(x, y) for x, y in self._batches(self.batch)])

    def jacobian_t(self, u, power: int = 0):
        """Σ_i J_iᵀ S_i u_i; `power` is ignored, one more application of H_i costing as much as anything here."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for (x, y), part in zip(self._batches(self.batch), u.split(self.batch), strict=True):
            pull = torch.func.vjp(lambda w, x=x: self._output(w, x), self.weights)[1]
            result = pull(self._curvature(x, y).root(part))[0]
            total += torch.cat([result[name].flatten() for name in self.weights])
        return total

    def blocks(self):
        def block(x, y):
            loss, eye = self._curvature(x, y), torch.eye(self.outputs, dtype=self.dtype, device=self.device)
            pull = torch.func.vjp(lambda w: self._output(w, x), self.weights)[1]
            rows = [pull(loss.root(e[None]))[0] for e in eye]
            j = torch.stack([torch.cat([row[name].flatten() for name in self.weights]) for row in rows])
            return j @ j.T

        return torch.stack([block(x, y) for x, y in self._batches(1)])
