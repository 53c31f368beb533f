"""The forward and backward pass of a stack of fully connected networks, and SAM's step uphill between two of them.

With A_{l−1} the inputs of layer l and D_l the gradient in its outputs, both at w, SAM needs the gradient
G_l = D_lᵀA_{l−1} only for ε_l = sG_l, s = ρ/‖G‖. Of a batch of B samples it has rank B, so where the layer is large it
is never formed:

    ‖G_l‖² = Σ A_{l−1}A_{l−1}ᵀ ∘ D_lD_lᵀ
    forward at w + ε     A'W_lᵀ + (A'A_{l−1}ᵀ)(sD_l)
    backward             D'W_l + (D'(sD_l)ᵀ)A_{l−1}

In the first layer, the largest, A' and A_{l−1} are the batch X itself, so that its outputs at w + ε follow from those
at w: of the four large products of a SAM step two are left. A mask does away with all that, as it acts on G_l itself.

In m-SAM each part of the batch has an ε of its own, of which a sample sees only its part's. With E_ij = 1 where i and j
are of one part, and G_l of no layer formed, that is the same with E ∘ (A'A_{l−1}ᵀ + 1), E ∘ (D'(sD_l)ᵀ) and s a number
for each sample: the 1 is what the biases move. So the products with W_l stay those of a whole batch, whatever m.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch


def unformed(sizes: Sequence[int], batch: int, parts: int = 1) -> list[int]:
    """The layers whose gradient at w need not be formed, for numbers of units from input to output: where that takes
    fewer operations, of the first layer and of those between hidden ones; of m-SAM all."""
    if parts > 1:
        return list(range(len(sizes) - 1))
    hidden = range(1, len(sizes) - 2)
    large = [i for i in hidden if 2 * batch * (sizes[i] + sizes[i + 1]) <= sizes[i] * sizes[i + 1]]
    return [0] * (batch < sizes[0]) + large


class Pass:
    """The pass of the members `who` of a stack at some weights, on views that are made once.

    Members of one seed see the same batch in the first layer: they share one product. `descend`: those of the stack's
    members for which the gradients of the stack's `unformed` layers are formed.
    """

    def __init__(self, stack, weights: "Parameters", who: slice, *, descend: slice):
        self.stack, self.who = stack, who
        self.layers, self.gradients = self.own(weights), self.own(stack.gradients)
        self.masks = self.own(stack.masks) if stack.masks else []
        stride = 1 + stack.bias
        plain = self.own(stack.weights)[::stride]  # what is not formed is not perturbed
        self.w = [plain[i] if i in stack.unformed else w for i, w in enumerate(self.layers[::stride])]
        self.dw = self.gradients[::stride]
        self.b, self.db = (self.layers[1::2], self.gradients[1::2]) if stack.bias else ([], [])
        seeds = [stack.seeds.index(run.seed) for run in stack.runs[who]]
        self.seed_of_member = torch.tensor(seeds, device=stack.device)
        self.members, hidden = len(seeds), self.dw[0].shape[1]
        self.columns, self.descending = self.members * hidden, descend.stop - who.start
        # (seed, columns of the first layer of all members) of neighbours with one seed
        self.segments, self.formed = _segments(seeds, hidden), _segments(seeds[: self.descending], hidden)
        self.same = None  # E of m-SAM, B×B

    def own(self, parameters: "Parameters") -> list[torch.Tensor]:
        return [layer[self.who] for layer in parameters.layers]

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of the first layer before its activation, B×(r·units), for x (S×B×D)."""
        rows, z = self.w[0].flatten(0, 1), x.new_empty(x.shape[1], self.columns)
        for seed, part in self.segments:
            if self.b:
                torch.addmm(self.b[0].flatten()[part], x[seed], rows[part].T, out=z[:, part])
            else:
                torch.mm(x[seed], rows[part].T, out=z[:, part])
        return z

    def forward(self, z: torch.Tensor, climb: Mapping[int, tuple] = {}) -> list[torch.Tensor]:
        """The activations r×B×units of each layer, outputs last, from `first`."""
        activations = [self.split(z.relu() if self.stack.relu else z)]
        for i, w in enumerate(self.w[1:], 1):
            a = activations[-1]
            z = torch.baddbmm(self.b[i].unsqueeze(1), a, w.mT) if self.b else torch.bmm(a, w.mT)
            if i in climb:
                e, before = climb[i]
                z.baddbmm_(self.gram(a, before), e)
            activations.append(z.relu_() if self.stack.relu and i < len(self.w) - 1 else z)
        return activations

    def gram(self, a: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """A'Aᵀ, by which the perturbation of a layer moves its outputs; of m-SAM E ∘ (A'Aᵀ + 1), with the biases'."""
        gram = torch.bmm(a, before.mT)
        return gram if self.same is None else gram.add_(float(self.stack.bias)).mul_(self.same)

    def gradient(
        self, x: torch.Tensor, z: torch.Tensor, loss_gradient, climb: Mapping[int, tuple] = {}
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Fill the members' gradients of the mean loss over the batch, from what `first` gives at these weights.

        loss_gradient: gives the gradient of the mean loss in the outputs r×B×K. climb: of unformed layers but the
        first, (sD_l, A_{l−1}). Returns the activations, and the gradients in each layer's outputs, of the first as
        B×(r·units).
        """
        activations = self.forward(z, climb)
        signals = [loss_gradient(activations[-1])]
        for i in range(len(self.w) - 1, 0, -1):
            d, a = signals[0], activations[i - 1]
            if self.b:
                torch.sum(d, 1, out=self.db[i])
            some = slice(0, self.descending if i in self.stack.unformed else self.members)
            torch.bmm(d[some].mT, a[some], out=self.dw[i][some])
            back = torch.bmm(d, self.w[i])
            if i in climb:
                e, before = climb[i]
                gram = torch.bmm(d, e.mT)
                back.baddbmm_(gram if self.same is None else gram.mul_(self.same), before)
            if self.stack.relu and i > 1:
                back = torch.ops.aten.threshold_backward(back, a, 0)
            signals.insert(0, back)
        flat = torch.empty_like(z)
        if self.stack.relu:
            torch.ops.aten.threshold_backward.grad_input(signals[0], activations[0], 0, grad_input=self.split(flat))
        else:
            self.split(flat).copy_(signals[0])
        if self.b:
            torch.sum(flat, 0, out=self.db[0].flatten())
        rows = self.dw[0].flatten(0, 1)
        for seed, part in self.formed if 0 in self.stack.unformed else self.segments:
            torch.mm(flat[:, part].T, x[seed], out=rows[part])
        for gradient, mask in zip(self.gradients, self.masks, strict=bool(self.masks)):
            gradient.mul_(mask)
        return activations, [flat, *signals[1:]]

    def split(self, flat: torch.Tensor) -> torch.Tensor:
        """B×(r·units) as r×B×units, without a copy."""
        return flat.view(len(flat), self.members, -1).transpose(0, 1)


def _segments(seeds: Sequence[int], hidden: int) -> list[tuple[int, slice]]:
    segments, at = [], 0
    for seed, members in itertools.groupby(seeds):
        end = at + hidden * len(list(members))
        segments.append((seed, slice(at, end)))
        at = end
    return segments


class Parameters:
    """One buffer for all layers of all members: `flat` for elementwise work, `layers` as views of it.

    without: the numbers of tensors that are left empty.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device, without=()):
        shapes = [(shape[0], 0, *shape[2:]) if i in without else shape for i, shape in enumerate(shapes)]
        sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=device)
        self.layers = [part.view(shape) for part, shape in zip(self.flat.split(sizes), shapes, strict=True)]
