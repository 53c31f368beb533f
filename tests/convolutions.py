"""Every convolution of every grid, beside float64: `python tests/convolutions.py`, a command of its own as a faulty
kernel may end its process.

Each shape is computed forward and backward, in both memory formats. Prints what is off by more than TOLERANCE, and
exits with 1 if there is something. With ONEDNN_VERBOSE=1 the primitives that oneDNN takes are printed too.
"""

import argparse
import pickle
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from lib import data, models
from lib.models.resnet import PointwiseConv2d
from lib.paper import experiments
from lib.runs import Run
from lib.sweep.planning import run_of
from lib.training import engines
from lib.training.grouped import merge

TOLERANCE = 5e-5  # float32 sums of up to 10⁷ products; the faults that are known are off by 0.1 to 0.8
CPU = torch.device("cpu")
FORMATS = (torch.contiguous_format, torch.channels_last)


class Convolution(NamedTuple):
    """A layer and the shape of its input, N×C×H×W."""

    pointwise: bool
    channels: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    bias: bool
    shape: tuple[int, int, int, int]

    def build(self, guarded: bool = True) -> nn.Conv2d:
        kind = PointwiseConv2d if self.pointwise and guarded else nn.Conv2d
        return kind(*self.channels, self.kernel, self.stride, self.padding, groups=self.groups, bias=self.bias)

    def products(self) -> float:
        """Multiplications of one pass for one sample, about."""
        (a, b), (_, _, height, width) = self.channels, self.shape
        area = height * width * self.kernel[0] * self.kernel[1] / (self.stride[0] * self.stride[1])
        return a * b * area / self.groups


def networks() -> set[tuple[Run, int, frozenset[int]]]:
    """A run of each network of each grid, how many of its kind are trained as one network, and the sizes of batches."""
    result = set()
    for preset in experiments.PRESETS:
        for grid in experiments.EXPERIMENTS.values():
            runs = [run_of(what) for what in grid(preset)]
            runs = list(dict.fromkeys(run for run in runs if run.model not in engines.STACKABLE))
            for group in engines.partition(runs, CPU):
                run, sam = group[0], sum(run.rho > 0 for run in group)
                n = run.n_train or data.DATASETS[run.dataset].samples[0]
                shared = Run(dataset=run.dataset, model=run.model, width=run.width, **run.options)
                sizes = frozenset({run.batch_size, n % run.batch_size or run.batch_size})
                result |= {(shared, members, sizes) for members in (len(group), sam) if members}
    return result


def convolutions() -> list[Convolution]:
    """Those of all networks, each once."""
    result: dict[Convolution, None] = {}

    def note(layer, given, _):
        sizes = (layer.in_channels, layer.out_channels), layer.kernel_size, layer.stride, layer.padding
        shape = tuple(given[0].shape)
        result[Convolution(isinstance(layer, PointwiseConv2d), *sizes, layer.groups, layer.bias is not None, shape)] = (
            None
        )

    with torch.device("meta"):
        for run, members, batches in sorted(networks(), key=str):
            classes, in_shape = data.shapes(run.dataset)
            net = models.build(run.model, width=run.width, in_shape=in_shape, classes=classes, seed=0, **run.options)
            if members > 1:
                net = merge([net] * members)
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(note)
            for batch in batches:
                net(torch.empty(batch, members * in_shape[0], *in_shape[1:]))
    return list(result)


def smaller(conv: Convolution, most: float) -> Convolution:
    """The convolution on as many samples of its batch as keep a pass below `most` multiplications, at least two."""
    batch, *rest = conv.shape
    return conv._replace(shape=(min(batch, max(2, int(most // conv.products()))), *rest))


def disagreement(conv: Convolution, memory_format: torch.memory_format, guarded: bool) -> float:
    """‖g − g₆₄‖ / ‖g₆₄‖, the largest of the output and of the gradients in input and weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(conv.shape, generator=generator)
    layer = conv.build(guarded)
    exact = conv.build(False).double()
    exact.load_state_dict(layer.state_dict())
    results = []
    for module, dtype in ((layer.to(memory_format=memory_format), torch.float32), (exact, torch.float64)):
        given = x.to(dtype).contiguous(memory_format=memory_format).requires_grad_()
        out = module(given)
        signal = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        results.append([t.double() for t in (out, *torch.autograd.grad(out, [given, module.weight], signal))])
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(*results, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=float, default=float("inf"), help="multiplications; batches are cut to that")
    parser.add_argument("--shapes", type=Path, help="a pickled list of convolutions; by default those of all grids")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--unguarded", action="store_true", help="strided 1×1 convolutions as torch has them")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shapes = pickle.loads(given.shapes.read_bytes()) if given.shapes else convolutions()
    shapes = dict.fromkeys(smaller(conv, given.most) for conv in shapes)
    if given.unguarded:
        shapes = [conv for conv in shapes if conv.pointwise and max(conv.stride) > 1]
    wrong = 0
    for conv in shapes:
        for memory_format in FORMATS:
            off = disagreement(conv, memory_format, not given.unguarded)
            if not off < TOLERANCE:
                wrong += 1
                print(f"off by {off:.1e}: {conv}, {memory_format}", flush=True)
    print(f"{len(shapes)} shapes, {wrong} disagreements, {torch.backends.cpu.get_cpu_capability()}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
