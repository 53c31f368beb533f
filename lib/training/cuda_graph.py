"""A training step recorded once as a CUDA graph and replayed for every batch of the same shape.

A stacked step of a small network is some fifty kernels of a few microseconds, so that launching them is most of the
time; a replay launches them all at once. What the step reads and writes besides its inputs must stay where it is.
"""

from collections.abc import Callable

import torch

WARM_UP = 3  # steps taken eagerly first, so that libraries are initialized and optimizer state is allocated


def cuda_capture(function: Callable[[], None]) -> Callable[[], None]:
    """Record the kernels that `function` launches, without running them; what is returned runs them."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class Replayed:
    """Calls `step(*inputs)`, tensors on a GPU: eagerly the first WARM_UP times for each shape, then as a graph."""

    def __init__(self, step: Callable[..., None], capture: Callable = cuda_capture):
        self._step, self._capture = step, capture
        self._calls: dict[tuple, int] = {}
        self._recorded: dict[tuple, tuple[list[torch.Tensor], Callable]] = {}

    def __call__(self, *inputs: torch.Tensor) -> None:
        shapes = tuple(tuple(x.shape) for x in inputs)
        self._calls[shapes] = self._calls.get(shapes, 0) + 1
        if self._calls[shapes] <= WARM_UP:
            self._step(*inputs)
            return
        if shapes not in self._recorded:
            kept = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
            self._recorded[shapes] = kept, self._capture(lambda: self._step(*kept))
        kept, replay = self._recorded[shapes]
        for own, x in zip(kept, inputs, strict=True):
            own.copy_(x)
        replay()
