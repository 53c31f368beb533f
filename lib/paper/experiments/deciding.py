"""The data that decide: runs of preset lite in the order in which they are worth training, and what each adds.

`python -m lib.sweep deciding --preset lite` trains them one item after the other, from where it was stopped;
`--plan` gives the core-hours left of each.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lib.core.conditions import Condition
from lib.paper.experiments.linearization import vgg_rates
from lib.paper.experiments.stability import mnist_flatness
from lib.paper.experiments.width import (
    cifar_resnet,
    mnist_as_released,
    mnist_fixed_radius,
    mnist_mlp,
    mnist_mlp_twice,
)
from lib.runs import Measurement, Run

Grid = Callable[[str], Sequence[Run | Measurement]]
PRESET = "lite"


class Item(NamedTuple):
    """A part of an experiment, and what it adds to which verdict."""

    grid: Grid
    where: str
    adds: str

    def runs(self, preset: str) -> list[Run | Measurement]:
        """The runs, or the measurements on them, that fulfil the condition. Raises ValueError at another preset."""
        if preset != PRESET:
            raise ValueError(f"preset = {preset!r}: the data that decide are of {PRESET!r}")
        condition = Condition(self.where)
        whole = self.grid(preset)
        return [w for w in whole if condition((w.run if isinstance(w, Measurement) else w).as_dict())]


SEARCHED = "rho in (0, 0.05, 0.1)"
DECIDING: dict[str, Item] = {
    "deciding_1": Item(
        mnist_fixed_radius, "width in (0.25, 1)", "whether the gap at fixed ρ differs by 0.12 points between two widths"
    ),
    "deciding_2a": Item(mnist_fixed_radius, "width == 0.5", "a third width to the growth of the gap at fixed ρ"),
    "deciding_2b": Item(
        mnist_fixed_radius, "width == 4 and seed < 3", "1.43 million parameters, of the published axis, to Figure 3a"
    ),
    "deciding_2c": Item(mnist_fixed_radius, "width == 4 and seed >= 3", "seeds 3 to 13 to the same width"),
    "deciding_2d": Item(mnist_mlp, f"width == 10 and {SEARCHED}", "5.37 million parameters to Figure 3a"),
    "deciding_2e": Item(mnist_mlp_twice, "width == 2", "SGD with as many gradients as SAM at width 2"),
    "deciding_3": Item(mnist_as_released, "width > 0", "whether claims of Section 5 depend on the released settings"),
    "deciding_4": Item(
        mnist_flatness, "seed > 0 and rho in (0, 0.1)", "scatter over seeds to the claims of Section 4 (Figure 2)"
    ),
    "deciding_5": Item(vgg_rates, "alpha > 0", "lazy training at a learning rate at which SAM learns (Figure 17)"),
    "deciding_6a": Item(cifar_resnet, "width == 4 and seed > 0", "seeds 1 and 2 to ResNet-18 of width 4 (Figure 3b)"),
    "deciding_6b": Item(cifar_resnet, "width == 8 and seed == 0", "the missing ρ of ResNet-18 of width 8 (Figure 3b)"),
}
