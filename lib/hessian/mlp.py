"""Per-sample Hessians of a plain perceptron by a recursion in two small vectors a layer (docs/hessian.md).

Every layer's block of H_i^k v is p_l ā_{l−1}ᵀ + g_l q_{l−1}ᵀ, of rank two at most, with ā the activations with a 1
appended (where there is a bias) and g = ∂ℓ/∂z the back-propagated signals, fixed per sample. So H_i^k v is carried as
(p, q), never as a vector of parameters. Applying H_i once more, with Q the loss Hessian at the output and ż the tangent
of z:

    ż_l = F_l + W_l q'_{l−1}     q'_l = σ'(z_l) ż_l     p'_L = Q ż_L
    p'_l = σ'(z_l) (W_{l+1}ᵀ p'_{l+1} + B_{l+1}) + σ''(z_l) ż_l (W_{l+1}ᵀ g_{l+1})

A dense (V, v) enters as F_l = V_l a_{l−1} + v_l and B_l = V_lᵀ g_l; a pair (p, q), V_l = p_l a_{l−1}ᵀ + g_l q_{l−1}ᵀ
and v_l = p_l, as F_l = p_l ‖ā_{l−1}‖² + g_l (q_{l−1}·a_{l−1}) and B_l = a_{l−1} (p_l·g_l) + q_{l−1} ‖g_l‖².
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from lib.core import interruption
from lib.core.losses import Curvature

Layers = list[tuple[torch.Tensor, torch.Tensor | None]]  # (weight, bias), from input to output
Pair = tuple[list[torch.Tensor], list[torch.Tensor | None]]  # (p, q), one entry a layer, each N×width


class Perceptron:
    """Per-sample Hessians at N samples, in O(N × width) numbers beside the vector.

    rooted: as `General`.
    layers: (weight, bias or None) from input to output; activations: "relu", "tanh" or "identity" between them;
    x: N×inputs; y as `Curvature` takes it. Activations and signals are kept while they take at most `memory` bytes,
    else computed again, chunk by chunk, in every product.
    """

    rooted = True

    def __init__(self, layers: Layers, activations: Sequence[str], loss: str, x, y, *, memory: int, chunk: int = 2048):
        self.layers, self.activations, self.loss, self.n = layers, activations, loss, len(x)
        self.dtype, self.device, self.outputs = x.dtype, x.device, len(layers[-1][0])
        self.size = sum(t.numel() for layer in layers for t in layer if t is not None)
        # Activations, signals and slopes are kept, and a pair (p, q) for each sample meanwhile.
        each = 7 * x.element_size() * (x.shape[1] + sum(len(weight) for weight, _ in layers))
        chunk = max(1, min(chunk, memory // each))
        self._data = list(zip(x.split(chunk), y.split(chunk), strict=True))
        self._kept = [Tape(self, *data) for data in self._data] if self.n * each <= memory else None

    def views(self, v: torch.Tensor) -> Layers:
        """v as (weight, bias) a layer."""
        parts = iter(v.split([t.numel() for layer in self.layers for t in layer if t is not None]))
        return [(next(parts).view_as(w), None if b is None else next(parts)) for w, b in self.layers]

    def _tapes(self):
        return self._kept if self._kept is not None else (Tape(self, *data) for data in self._data)

    def polynomial(self, v: torch.Tensor, coefficients: dict[int, float]) -> torch.Tensor:
        """mean_i Σ_k c_k H_i^k v."""
        dense = self.views(v)
        return self._mean((t, t.polynomial(t.apply(dense), coefficients)) for t in self._tapes())

    def central(self, v: torch.Tensor, k: int) -> torch.Tensor:
        """mean_i H_i (H_i^{k−1} v − H^{k−1} v)."""
        if k == 1:
            return torch.zeros_like(v)
        dense = self.views(v)
        first = None if self._kept is None else [tape.apply(dense) for tape in self._kept]

        def firsts():  # H_i v: kept if the tapes are
            return zip(self._kept, first, strict=True) if first else ((t, t.apply(dense)) for t in self._tapes())

        power = self.views(self._mean(firsts()))
        for _ in range(k - 2):
            power = self.views(self._mean((tape, tape.apply(power)) for tape in self._tapes()))
        return self._mean((t, t.power(t.polynomial(p, {k - 1: 1.0}), power)) for t, p in firsts())

    def jacobian(self, v: torch.Tensor) -> torch.Tensor:
        """S_iᵀ J_i v, N×outputs."""
        dense = self.views(v)
        return torch.cat([t.curvature.root_t(t.forward(dense)[0][-1]) for t in self._tapes()])

    def jacobian_t(self, u: torch.Tensor, power: int = 0) -> torch.Tensor:
        """Σ_i H_i^power J_iᵀ S_i u_i."""

        def pairs():
            start = 0
            for tape in self._tapes():
                part = u[start : start + len(tape.a[0])]
                start += len(part)
                pair = tape.backward(tape.curvature.root(part)), [None] * len(self.layers)
                for _ in range(power):
                    pair = tape.power(pair)
                yield tape, pair

        return self._mean(pairs()).mul_(self.n)

    def gauss_newton(self, v: torch.Tensor) -> torch.Tensor:
        """mean_i J_iᵀ Q_i J_i v."""
        return self.jacobian_t(self.jacobian(v)).div_(self.n)

    def empirical_fisher(self, v: torch.Tensor) -> torch.Tensor:
        """mean_i g_i g_iᵀ v with g_i the gradient of the loss of sample i."""
        dense = self.views(v)

        def pairs():
            for tape in self._tapes():
                signals = tape.curvature.gradient
                slope = (tape.forward(dense)[0][-1] * signals).sum(1, keepdim=True)
                yield tape, (tape.backward(slope * signals), [None] * len(self.layers))

        return self._mean(pairs())

    def blocks(self) -> torch.Tensor:
        """Sᵀ J Jᵀ S of every sample, N×outputs×outputs."""
        return torch.cat([tape.blocks() for tape in self._tapes()])

    def _mean(self, pairs) -> torch.Tensor:
        """mean_i (p āᵀ + g qᵀ) over the samples of all (tape, pair), flat."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        views = self.views(total)
        for tape, (p, q) in pairs:
            interruption.check()
            for layer, (weight, bias) in enumerate(views):
                weight.addmm_(p[layer].T, tape.a[layer], alpha=1 / self.n)
                if q[layer] is not None:
                    weight.addmm_(tape.g[layer].T, q[layer], alpha=1 / self.n)
                if bias is not None:
                    bias.add_(p[layer].sum(0), alpha=1 / self.n)
        return total


class Tape:
    """What a chunk of samples fixes: activations `a`, signals `g`, slopes σ', bends σ''·(Wᵀg), the loss' curvature."""

    def __init__(self, net: Perceptron, x: torch.Tensor, y: torch.Tensor):
        self.layers, self.a, self.slopes, self.bends = net.layers, [x], [], []
        z = functional.linear(x, *self.layers[0])
        for name, layer in zip(net.activations, self.layers[1:], strict=True):
            a, slope, bend = activate(name, z)
            self.a.append(a)
            self.slopes.append(slope)
            self.bends.append(bend)
            z = functional.linear(a, *layer)
        self.curvature = Curvature(net.loss, z, y)
        self.g = [self.curvature.gradient]
        for layer in range(len(self.layers) - 1, 0, -1):
            back = self.g[0] @ self.layers[layer][0]
            slope, bend = self.slopes[layer - 1], self.bends[layer - 1]
            self.bends[layer - 1] = None if bend is None else bend * back
            self.g.insert(0, back if slope is None else slope * back)
        biases = (bias is not None for _, bias in self.layers)
        self.aa = [a.square().sum(1, keepdim=True) + b for a, b in zip(self.a, biases, strict=True)]
        self.gg = [g.square().sum(1, keepdim=True) for g in self.g]

    def apply(self, dense: Layers) -> Pair:
        """(p, q) of H_i v for a dense v."""
        z, q = self.forward(dense)
        return self.backward(self.curvature.product(z[-1]), z, dense), q

    def power(self, pair: Pair, less: Layers | None = None) -> Pair:
        """(p, q) of H_i applied to what (p, q) stands for, less a dense vector."""
        z, q = self.forward(less, pair)
        return self.backward(self.curvature.product(z[-1]), z, less, pair), q

    def polynomial(self, pair: Pair, coefficients: dict[int, float]) -> Pair:
        """(p, q) of Σ_k c_k H_i^k v from that of H_i v."""
        total = None
        for k in range(1, max(coefficients) + 1):
            pair = self.power(pair) if k > 1 else pair
            if k in coefficients:
                total = _add(total, coefficients[k], pair)
        return total

    def forward(self, dense: Layers | None = None, pair: Pair | None = None):
        """ż and q of every layer: of a dense vector, of a pair, or of a pair less a dense vector."""
        z, q = [self._forward(0, dense, pair)], [None]
        for layer, slope in enumerate(self.slopes, 1):
            q.append(z[-1] if slope is None else z[-1] * slope)
            z.append(self._forward(layer, dense, pair).addmm_(q[-1], self.layers[layer][0].T))
        return z, q

    def backward(self, p, z=None, dense: Layers | None = None, pair: Pair | None = None) -> list[torch.Tensor]:
        """All p from the last one; without ż and a vector the plain back-propagation Jᵀp."""
        signals = [p]
        for layer in range(len(self.layers) - 1, 0, -1):
            weight, slope, bend = self.layers[layer][0], self.slopes[layer - 1], self.bends[layer - 1]
            b = self._backward(layer, dense, pair)
            b = signals[0] @ weight if b is None else b.addmm_(signals[0], weight)
            if slope is not None:
                b.mul_(slope)
            if bend is not None and z is not None:
                b.addcmul_(z[layer - 1], bend)
            signals.insert(0, b)
        return signals

    def _forward(self, layer, dense, pair):
        """F: what the vector itself adds to ż."""
        if pair is None:
            return functional.linear(self.a[layer], *dense[layer])
        p, q = pair[0][layer], pair[1][layer]
        f = p * self.aa[layer]
        if q is not None:
            f.addcmul_(self.g[layer], (q * self.a[layer]).sum(1, keepdim=True))
        if dense is not None:
            weight, bias = dense[layer]
            f.addmm_(self.a[layer], weight.T, alpha=-1)
            if bias is not None:
                f -= bias
        return f

    def _backward(self, layer, dense, pair):
        """B: what the vector itself adds to the signals."""
        if pair is None:
            return None if dense is None else self.g[layer] @ dense[layer][0]
        p, q = pair[0][layer], pair[1][layer]
        b = self.a[layer] * (p * self.g[layer]).sum(1, keepdim=True)
        if q is not None:
            b.addcmul_(q, self.gg[layer])
        return b if dense is None else b.addmm_(self.g[layer], dense[layer][0], alpha=-1)

    def blocks(self) -> torch.Tensor:
        """Sᵀ J Jᵀ S, N×K×K: for every output its back-propagated signals, all layers' Gram matrices summed."""
        n, k = self.curvature.gradient.shape
        eye = torch.eye(k, dtype=self.g[0].dtype, device=self.g[0].device)
        rows = [self.backward(self.curvature.root(e.expand(n, k))) for e in eye]
        total = 0.0
        for layer, aa in enumerate(self.aa):
            signals = torch.stack([row[layer] for row in rows], 1)
            total = total + signals @ signals.mT * aa[:, :, None]
        return total


def _add(total: Pair | None, c: float, pair: Pair) -> Pair:
    if total is None:
        return pair if c == 1.0 else tuple([t if t is None else c * t for t in part] for part in pair)
    return tuple(
        [s if t is None else torch.add(s, t, alpha=c) for s, t in zip(*parts, strict=True)]
        for parts in zip(total, pair, strict=True)
    )


def activate(name: str, z: torch.Tensor):
    """σ(z), σ'(z) and σ''(z); None stands for a slope of 1 and a bend of 0 (ReLU bends nowhere but at 0)."""
    if name == "relu":
        return z.relu(), (z > 0).to(z.dtype), None
    if name == "tanh":
        a = z.tanh()
        slope = 1 - a.square()
        return a, slope, -2 * a * slope
    return z, None, None
