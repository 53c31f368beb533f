"""The Hessian of a loss by a gradient that is recorded: reverse over reverse mode, whose first pass is taken once.

The gradient g of the loss is computed with its graph. Then Hv = ∂(gᵀv)/∂w is a pass back through that graph. Forward
over reverse mode repeats the loss and its gradient in every product instead.
"""

import functools
from collections.abc import Callable

import torch

from lib.core import interruption
from lib.hessian.samples import Batches, Samples


class Recorded:
    """Σ_i H_i v over all samples of `data`. The graph of the gradient is kept if it takes at most `memory` bytes; else
    gradients are recorded anew for every product, over batches that take no more.

    weights: tensors by name. losses: a function of (weights, x, y) that gives a loss for each sample.
    Raises RuntimeError where torch has no second derivatives, or the losses do not depend on the weights.

    >>> x, w = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])
    >>> cubes = Recorded({"w": w}, lambda weights, x, y: (x @ weights["w"]) ** 3, Samples(x, x), memory=2**20)
    >>> cubes.product(torch.ones(3)).tolist()  # the second derivative of w³ is 6w
    [6.0, 12.0, 18.0]
    """

    def __init__(self, weights: dict[str, torch.Tensor], losses: Callable, data: Samples | Batches, *, memory: float):
        self.weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
        self.losses, self.data, self._graph = losses, data, None
        sizes = [held(self.gradient(*data.first(count)), self.weights.values()) for count in (1, 2)]
        each = max(sizes[1] - sizes[0], 1) if data.n > 1 else max(sizes[0], 1)
        self.batch = max(1, int(memory / each))
        self.kept = isinstance(data, Samples) and data.n <= self.batch

    def gradient(self, x, y) -> tuple[torch.Tensor, ...]:
        """The gradient of the sum of the losses, with its graph."""
        with torch.enable_grad():
            total = self.losses(self.weights, x, y).sum()
            return torch.autograd.grad(total, list(self.weights.values()), create_graph=True, materialize_grads=True)

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """Σ_i H_i v, flat."""
        if not self.kept:
            return sum(self.derivative(self.gradient(x, y), v) for x, y in self.data.split(self.batch))
        if self._graph is None:
            self._graph = self.gradient(self.data.x, self.data.y)
        return self.derivative(self._graph, v)

    def derivative(self, gradient: tuple[torch.Tensor, ...], v: torch.Tensor) -> torch.Tensor:
        """∂(gᵀv)/∂w of a recorded gradient g, flat."""
        interruption.check()
        parts = zip(gradient, v.split([g.numel() for g in gradient]), strict=True)
        varying = [(g, part.view_as(g)) for g, part in parts if g.requires_grad]
        if not varying:
            return torch.zeros_like(v)
        outputs, directions = zip(*varying, strict=True)
        weights, options = list(self.weights.values()), {"retain_graph": self.kept, "materialize_grads": True}
        rows = torch.autograd.grad(outputs, weights, directions, **options)
        return torch.cat([row.flatten() for row in rows])


def held(tensors, free) -> int:
    """The bytes that the graph behind these tensors holds, beside those of the tensors in `free`."""
    storages, seen, left = {}, set(), [t.grad_fn for t in tensors]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for saved in (getattr(node, name) for name in _saved(type(node))):
            for t in saved if isinstance(saved, tuple | list) else [saved]:
                if isinstance(t, torch.Tensor):
                    storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        left += [following for following, _ in node.next_functions]
    for t in free:
        storages.pop(t.untyped_storage().data_ptr(), None)
    return sum(storages.values())


@functools.cache
def _saved(kind: type) -> list[str]:
    """Under which names a node of the graph has what it keeps."""
    return [name for name in dir(kind) if name.startswith("_saved_") or name == "saved_tensors"]
