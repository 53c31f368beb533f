"""The operators of Section 4 on flat vectors in `parameters()` order, and the recursion behind them.

`samples` is a network with a loss at N samples, either the `Perceptron` below or `lib.hessian.General`: it applies
polynomials in the per-sample Hessians H_i, and the Jacobian of the outputs. In a perceptron every layer's block of
H_i^k v is p_l ā_{l−1}ᵀ + g_l q_{l−1}ᵀ, of rank two at most, with ā the activations with a 1 appended (where there is
a bias) and g = ∂ℓ/∂z the back-propagated signals, fixed per sample. So H_i^k v is carried as (p, q), never as a vector
of parameters. Applying H_i once more, with Q the loss Hessian at the output and ż the tangent of z:

    ż_l = F_l + W_l q'_{l−1}     q'_l = σ'(z_l) ż_l     p'_L = Q ż_L
    p'_l = σ'(z_l) (W_{l+1}ᵀ p'_{l+1} + B_{l+1}) + σ''(z_l) ż_l (W_{l+1}ᵀ g_{l+1})

A dense (V, v) enters as F_l = V_l a_{l−1} + v_l and B_l = V_lᵀ g_l; a pair (p, q), V_l = p_l a_{l−1}ᵀ + g_l q_{l−1}ᵀ
and v_l = p_l, as F_l = p_l ‖ā_{l−1}‖² + g_l (q_{l−1}·a_{l−1}) and B_l = a_{l−1} (p_l·g_l) + q_{l−1} ‖g_l‖².
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from lib.lanczos import Operator

Pair = tuple[list[torch.Tensor], list[torch.Tensor | None]]  # (p, q), one entry a layer, each N×width


def mean_polynomial(samples, coefficients: dict[int, float]) -> Operator:
    """mean_i Σ_k c_k H_i^k for `coefficients` {k: c_k}: {k: 1.0} is the moment M_k."""
    return _square(samples, samples.size, lambda v: samples.polynomials(v, [coefficients])[0])


def mean_hessian(samples) -> Operator:
    """H = mean_i H_i, the Hessian of the mean loss."""
    return mean_polynomial(samples, {1: 1.0})


def central_moment(samples, k: int) -> Operator:
    """M_k − H^k (Section 4), the first application of the H_i shared between its two terms."""

    def matvec(v):
        moment, h = samples.polynomials(v, [{k: 1.0}, {1: 1.0}])
        for _ in range(k - 1):
            h = samples.polynomials(h, [{1: 1.0}])[0]
        return moment.sub_(h)

    return _square(samples, samples.size, matvec)


def gauss_newton_root(samples) -> Operator:
    """R = SᵀJ/√n of N·outputs rows: RᵀR is the Gauss-Newton matrix.

    H = RᵀR + mean_i Σ_c g_ic ∇²f_c: exact where the loss gradients g_i at the outputs vanish, as at an interpolating
    minimum of a squared loss.
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
    """R Rᵀ, N·outputs square: its eigenvalues are those of the Gauss-Newton matrix, but for zeros."""
    root = gauss_newton_root(samples)
    return root @ root.T


def gauss_newton_moment(samples, k: int) -> Operator:
    """The Gauss-Newton part of M_k − H^k: Rᵀ(D^{k−1} − (RRᵀ)^{k−1})R for k ≥ 2, D the n-fold diagonal blocks of RRᵀ."""
    root = gauss_newton_root(samples)
    blocks = torch.linalg.matrix_power(samples.blocks(), k - 1)
    diagonal = _square(samples, root.shape[0], lambda u: (blocks @ u.view(samples.n, -1, 1)).flatten())
    return root.T @ (diagonal - (root @ root.T) ** (k - 1)) @ root


def _square(samples, size, matvec):
    return Operator((size, size), matvec, dtype=samples.dtype, device=samples.device)


class Loss:
    """A loss at the outputs f (N×K): its `gradient` there (N×K) and its Hessian Q_i = S_i S_iᵀ.

    "mse" ½‖f − y‖², "squared" ‖f − y‖² (y N×K), "cross_entropy" −log softmax(f)_y (y of N labels).
    """

    def __init__(self, name: str, f: torch.Tensor, y: torch.Tensor):
        self.factor = {"mse": 1.0, "squared": 2.0, "cross_entropy": 1.0}[name]
        self.softmax = functional.softmax(f, 1) if name == "cross_entropy" else None
        if self.softmax is None:
            self.gradient = self.factor * (f - y)
        else:
            self.gradient = self.softmax - functional.one_hot(y, f.shape[1])

    def curvature(self, u: torch.Tensor) -> torch.Tensor:
        """Q_i u_i, in u."""
        return self.root(self.root_t(u)) if self.softmax is not None else u.mul_(self.factor)

    # For the softmax π, Q = diag π − ππᵀ = SSᵀ with S = diag √π − π√πᵀ, for √π has length 1.
    def root(self, u: torch.Tensor) -> torch.Tensor:
        if self.softmax is None:
            return self.factor**0.5 * u
        v = self.softmax.sqrt() * u
        return v - self.softmax * v.sum(1, keepdim=True)

    def root_t(self, u: torch.Tensor) -> torch.Tensor:
        if self.softmax is None:
            return self.factor**0.5 * u
        return self.softmax.sqrt() * (u - (self.softmax * u).sum(1, keepdim=True))


class Perceptron:
    """Per-sample Hessians of a plain perceptron by the (p, q) recursion: O(samples × width) numbers beside v.

    layers: (weight, bias or None) from input to output; activations: "relu", "tanh" or "identity" between them;
    x: N×inputs; y as `Loss` takes it. Activations and signals are kept while they take at most `memory` bytes,
    else computed again, chunk by chunk, in every product.
    """

    def __init__(self, layers, activations: Sequence[str], loss: str, x, y, *, memory: int, chunk: int = 2048):
        self.layers, self.activations, self.loss, self.n = layers, activations, loss, len(x)
        self.dtype, self.device, self.outputs = x.dtype, x.device, len(layers[-1][0])
        self.shapes = [t.shape for pair in layers for t in pair if t is not None]
        self.size = sum(shape.numel() for shape in self.shapes)
        each = 5 * x.element_size() * (x.shape[1] + sum(len(weight) for weight, _ in layers))
        chunk = max(1, min(chunk, memory // each))
        self._data = list(zip(x.split(chunk), y.split(chunk), strict=True))
        self._kept = [Tape(self, *data) for data in self._data] if self.n * each <= memory else None

    def _tapes(self):
        return self._kept if self._kept is not None else (Tape(self, *data) for data in self._data)

    def views(self, v: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """v as (weight, bias) a layer."""
        parts = iter(v.split([s.numel() for s in self.shapes]))
        return [(next(parts).view_as(w), None if b is None else next(parts)) for w, b in self.layers]

    def polynomials(self, v, rows):
        sums = [torch.zeros_like(v) for _ in rows]
        into, dense = [self.views(s) for s in sums], self.views(v)
        for tape in self._tapes():
            pair, totals = tape.apply(dense), [None] * len(rows)
            for k in range(1, max(max(row) for row in rows) + 1):
                pair = tape.power(pair) if k > 1 else pair
                totals = [_accumulate(t, row[k], pair) if k in row else t for t, row in zip(totals, rows, strict=True)]
            for views, total in zip(into, totals, strict=True):
                tape.assemble(views, *total)
        return [s.div_(self.n) for s in sums]

    def jacobian(self, v):
        dense = self.views(v)
        return torch.cat([t.loss.root_t(t.forward(t.dense(dense))[0][-1]) for t in self._tapes()])

    def jacobian_t(self, u, power: int = 0):
        """Σ_i H_i^power J_iᵀ S_i u_i."""
        total, start = torch.zeros(self.size, dtype=self.dtype, device=self.device), 0
        for tape in self._tapes():
            signal = tape.loss.root(u[start : start + len(tape.a[0])])
            start += len(signal)
            pair = tape.backward(signal), [None] * len(self.layers)
            for _ in range(power):
                pair = tape.power(pair)
            tape.assemble(self.views(total), *pair)
        return total

    def blocks(self):
        return torch.cat([tape.blocks() for tape in self._tapes()])


def _accumulate(total: Pair | None, c: float, pair: Pair) -> Pair:
    if total is None:
        return pair if c == 1.0 else tuple([t if t is None else c * t for t in part] for part in pair)
    return tuple(
        [s if t is None else torch.add(s, t, alpha=c) for s, t in zip(*parts, strict=True)]
        for parts in zip(total, pair, strict=True)
    )


class Tape:
    """What a chunk of samples fixes: activations `a`, signals `g`, slopes σ', bends σ''·(Wᵀg), and the loss."""

    def __init__(self, net: Perceptron, x: torch.Tensor, y: torch.Tensor):
        self.layers, self.a, self.slopes, self.bends = net.layers, [x], [], []
        z = functional.linear(x, *self.layers[0])
        for name, layer in zip(net.activations, self.layers[1:], strict=True):
            a, slope, bend = _activate(name, z)
            self.a.append(a)
            self.slopes.append(slope)
            self.bends.append(bend)
            z = functional.linear(a, *layer)
        self.loss = Loss(net.loss, z, y)
        self.g = [self.loss.gradient]
        for layer in range(len(self.layers) - 1, 0, -1):
            back = self.g[0] @ self.layers[layer][0]
            slope, bend = self.slopes[layer - 1], self.bends[layer - 1]
            self.bends[layer - 1] = None if bend is None else bend * back
            self.g.insert(0, back if slope is None else slope * back)
        biases = (bias is not None for _, bias in self.layers)
        self.aa = [a.square().sum(1, keepdim=True) + b for a, b in zip(self.a, biases, strict=True)]
        self.gg = [g.square().sum(1, keepdim=True) for g in self.g]

    def dense(self, v) -> Callable:
        return lambda layer: functional.linear(self.a[layer], *v[layer])

    def apply(self, v) -> Pair:
        """(p, q) of H_i v for a dense v, given as `Perceptron.views`."""
        z, q = self.forward(self.dense(v))
        return self.backward(self.loss.curvature(z[-1]), z, lambda layer: self.g[layer] @ v[layer][0]), q

    def power(self, pair: Pair) -> Pair:
        """(p, q) of H_i times what (p, q) stands for."""
        p, q = pair
        z, new = self.forward(lambda layer: self._pair_forward(layer, p[layer], q[layer]))
        return (
            self.backward(self.loss.curvature(z[-1]), z, lambda layer: self._pair_backward(layer, p[layer], q[layer])),
            new,
        )

    def _pair_forward(self, layer, p, q):
        f = p * self.aa[layer]
        return f if q is None else f.addcmul_(self.g[layer], (q * self.a[layer]).sum(1, keepdim=True))

    def _pair_backward(self, layer, p, q):
        b = self.a[layer] * (p * self.g[layer]).sum(1, keepdim=True)
        return b if q is None else b.addcmul_(q, self.gg[layer])

    def forward(self, source: Callable) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """ż and q from the terms F_l = source(l)."""
        z, q = [source(0)], [None]
        for layer, slope in enumerate(self.slopes, 1):
            q.append(z[-1] if slope is None else z[-1] * slope)
            z.append(source(layer).addmm_(q[-1], self.layers[layer][0].T))
        return z, q

    def backward(self, p: torch.Tensor, z=None, source: Callable | None = None) -> list[torch.Tensor]:
        """All p from the last one; without `source` and ż the plain back-propagation Jᵀp."""
        signals = [p]
        for layer in range(len(self.layers) - 1, 0, -1):
            weight, slope, bend = self.layers[layer][0], self.slopes[layer - 1], self.bends[layer - 1]
            b = signals[0] @ weight if source is None else source(layer).addmm_(signals[0], weight)
            if slope is not None:
                b.mul_(slope)
            if bend is not None and z is not None:
                b.addcmul_(z[layer - 1], bend)
            signals.insert(0, b)
        return signals

    def assemble(self, views, p, q) -> None:
        """Add Σ_i (p ā ᵀ + g qᵀ) to the weights and biases of `views`."""
        for layer, (weight, bias) in enumerate(views):
            weight.addmm_(p[layer].T, self.a[layer])
            if q[layer] is not None:
                weight.addmm_(self.g[layer].T, q[layer])
            if bias is not None:
                bias += p[layer].sum(0)

    def blocks(self) -> torch.Tensor:
        """Sᵀ J Jᵀ S, N×K×K: for every output its back-propagated signals, all layers' Gram matrices summed."""
        n, k = self.loss.gradient.shape
        eye = torch.eye(k, dtype=self.g[0].dtype, device=self.g[0].device)
        rows = [self.backward(self.loss.root(e.expand(n, k).clone())) for e in eye]
        total = 0.0
        for layer, aa in enumerate(self.aa):
            signals = torch.stack([row[layer] for row in rows], 1)
            total = total + signals @ signals.mT * aa[:, :, None]
        return total


def _activate(name: str, z: torch.Tensor):
    """σ(z), σ'(z) and σ''(z); None stands for a slope of 1 and a bend of 0 (ReLU bends nowhere but at 0)."""
    if name == "relu":
        return z.relu(), (z > 0).to(z.dtype), None
    if name == "tanh":
        a = z.tanh()
        slope = 1 - a.square()
        return a, slope, -2 * a * slope
    return z, None, None
