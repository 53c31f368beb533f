"""The part of a perceptron's parameters that its samples can tell apart: the complement of a null space known at once.

A ReLU unit that is off for every sample has activation, slope and signal 0: its rows and columns are 0 in all H_i.
Inputs κ that are the same for every sample act, with the bias, as one input of size β = √(‖κ‖² + 1): in the plane of
a row (V_κ, v) the H_i see (V_κ·κ + v)/β and nothing else. So H_i = E H̃_i Eᵀ, with E an isometry (EᵀE = 1) and H̃_i the
Hessians of the perceptron of the live units alone: a fraction of the parameters and of the work at a trained minimum.
"""

import math

import torch
from torch.nn import functional

from lib.hessian.mlp import Layers, Perceptron, activate


class Live:
    """E for a perceptron at samples x: `restrict` is Eᵀ and `extend` is E, on flat vectors.

    layers: (weight, bias or None) from input to output. `layers` and `inputs` are those of the perceptron of the live
    units: the inputs that vary and, in one more column, β, so that its first layer has no bias of its own.
    """

    def __init__(self, layers: Layers, activations, x: torch.Tensor, chunk: int = 2048):
        self.shapes = [(w.shape, b is not None) for w, b in layers]
        self.size = sum(w.numel() + (0 if b is None else b.numel()) for w, b in layers)
        self.units = [_indices(mask) for mask in _alive(layers, activations, x.split(chunk))] + [None]
        constant = (x == x[:1]).all(0).nonzero()[:, 0]
        # Matrix products are up to 1.6 times as fast with rows of whole cache lines (MKL, 610 and 624 columns), so a
        # few constant inputs count as varying.
        self.constant = constant[(len(constant) - x.shape[1] - 1) % 16 :]
        self.varying = torch.ones_like(x[0], dtype=bool).index_fill_(0, self.constant, False).nonzero()[:, 0]
        self.kappa = x[0, self.constant]
        self.beta = math.sqrt(self.kappa.double().square().sum().item() + self.shapes[0][1])
        self.layers = self._restrict(layers)
        self.inputs = self._joined(x.index_select(1, self.varying), x.new_full((len(x),), self.beta))

    def restrict(self, v: torch.Tensor) -> torch.Tensor:
        """Eᵀv."""
        layers = self._restrict(self._views(v))
        return torch.cat([t.flatten() for layer in layers for t in layer if t is not None])

    def extend(self, v: torch.Tensor) -> torch.Tensor:
        """Ev."""
        whole, start = v.new_zeros(self.size), 0
        for layer, (weight, bias) in enumerate(self._views(whole)):
            rows, columns = self.units[layer], self.units[layer - 1] if layer else None
            rows = torch.arange(len(weight), device=v.device) if rows is None else rows
            shape = self.layers[layer][0].shape
            part = v[start : (start := start + shape.numel())].view(shape)
            if layer == 0:
                part, offset = self._unfold(part)
            elif bias is not None:
                offset = v[start : (start := start + len(part))]
            if columns is not None:
                part = part.new_zeros(len(part), weight.shape[1]).index_copy_(1, columns, part)
            weight.index_copy_(0, rows, part)
            if bias is not None:
                bias.index_copy_(0, rows, offset)
        return whole

    def _restrict(self, layers: Layers) -> Layers:
        live = []
        for layer, (weight, bias) in enumerate(layers):
            rows, columns = self.units[layer], self.units[layer - 1] if layer else None
            weight, bias = (t if t is None or rows is None else t[rows] for t in (weight, bias))
            if layer == 0:
                weight, bias = self._fold(weight, bias), None
            elif columns is not None:
                weight = weight.index_select(1, columns)
            live.append((weight, bias))
        return live

    def _fold(self, weight, bias):
        shared = weight.index_select(1, self.constant) @ self.kappa
        shared = (shared if bias is None else shared + bias) / (self.beta or 1.0)
        return self._joined(weight.index_select(1, self.varying), shared)

    def _unfold(self, weight):
        shared = weight[:, -1] / self.beta if self.beta else weight.new_zeros(len(weight))
        whole = weight.new_zeros(len(weight), self.shapes[0][0][1])
        whole.index_copy_(1, self.varying, weight[:, : len(self.varying)])
        return whole.index_copy_(1, self.constant, torch.outer(shared, self.kappa)), shared

    def _joined(self, varying, shared):
        return torch.cat([varying, shared[:, None]], 1) if self.beta else varying

    def _views(self, v):
        views, start = [], 0
        for shape, bias in self.shapes:
            weight = v[start : (start := start + shape.numel())].view(shape)
            views.append((weight, v[start : (start := start + shape[0])] if bias else None))
        return views


class Embedded:
    """Per-sample Hessians E H̃_i Eᵀ on vectors of all parameters; `live` has the H̃_i, on vectors of the live ones."""

    def __init__(self, isometry: Live, live: Perceptron):
        self.live, self.size, self.restrict, self.extend = live, isometry.size, isometry.restrict, isometry.extend
        self.n, self.outputs, self.dtype, self.device = live.n, live.outputs, live.dtype, live.device

    def polynomial(self, v, coefficients):
        return self.extend(self.live.polynomial(self.restrict(v), coefficients))

    def central(self, v, k):
        return self.extend(self.live.central(self.restrict(v), k))

    def jacobian(self, v):
        return self.live.jacobian(self.restrict(v))

    def jacobian_t(self, u, power: int = 0):
        return self.extend(self.live.jacobian_t(u, power))

    def gauss_newton(self, v):
        return self.extend(self.live.gauss_newton(self.restrict(v)))

    def empirical_fisher(self, v):
        return self.extend(self.live.empirical_fisher(self.restrict(v)))

    def blocks(self):
        return self.live.blocks()


def _alive(layers, activations, chunks):
    """For each hidden layer whether a unit is on for some sample; None where no unit can be off."""
    alive = [weight.new_zeros(len(weight), dtype=bool) for weight, _ in layers[:-1]]
    for x in chunks if "relu" in activations else ():
        for i, name in enumerate(activations):
            x = activate(name, functional.linear(x, *layers[i]))[0]
            alive[i] |= (x > 0).any(0)
    return [mask if name == "relu" else None for mask, name in zip(alive, activations, strict=True)]


def _indices(mask):
    return None if mask is None or mask.all() else mask.nonzero()[:, 0]
