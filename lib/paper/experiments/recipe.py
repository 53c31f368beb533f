"""What the experiments of "Towards Understanding SAM" (Andriushchenko and Flammarion 2022) share at each preset.

| | smoke | lite | paper |
|---|---|---|---|
| images | 320 digits | 6,000 of MNIST | CIFAR-10 without 5,000 for validation |
| networks | MLP, two widths | MLP, two widths | pre-activation ResNet-18, widths 64 and 16 |
| SAM's options | the main paper's | the main paper's | weight decay in both gradients, norms move in both passes |

At smoke and lite the subset makes networks overparameterized, as theirs is: 10 and 44 parameters an image at lite, 220
at paper. At paper inputs are not standardized, as in their code.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lib.paper.experiments.grids import check_preset
from lib.runs import Run

MNIST_SUBSET = 6000
RELEASED = dict(decay_in_ascent=True, batch_norm_passes="all")  # of SAM, in the code of that paper


class Recipe(NamedTuple):
    """bases: the networks, trained by SGD; rhos, seeds: of SAM's search; climb: SAM's options."""

    bases: tuple[Run, ...]
    rhos: tuple[float, ...]
    seeds: tuple[int, ...]
    climb: dict

    def sgd(self, **changes) -> list[Run]:
        """Every network by SGD with these fields changed, for each seed."""
        return [base.but(seed=seed, **changes) for base in self.bases for seed in self.seeds]

    def sam(self, *, rhos: Sequence[float] | None = None, optimizer: str = "sam", **changes) -> list[Run]:
        """Every network by SAM with these fields changed, at each ρ, for each seed."""
        fields = self.climb | dict(optimizer=optimizer) | changes
        at = [base.but(rho=rho, **fields) for base in self.bases for rho in rhos or self.rhos]
        return [run.but(seed=seed) for run in at for seed in self.seeds]

    def but(self, **changes) -> "Recipe":
        """The same with fields of all networks changed."""
        return self._replace(bases=tuple(base.but(**changes) for base in self.bases))


def recipe(preset: str, *, norm: str = "batch", long: bool = False) -> Recipe:
    """The recipe at a preset. norm: "batch" or "group", at paper; long: as many epochs as their sections 4.3 and 5.2
    have, 1,000 instead of 200 at paper."""
    if check_preset(preset) == "smoke":
        base = Run(dataset="digits", n_train=320, schedule="step", momentum=0.9, weight_decay=1e-4, batch_size=32)
        return Recipe(_widths(base.but(epochs=20 if long else 15), (0.2, 0.5)), (0.05, 0.1), (0, 1, 2), {})
    if preset == "lite":
        base = Run(dataset="mnist", n_train=MNIST_SUBSET, schedule="step", momentum=0.9, weight_decay=1e-4)
        return Recipe(_widths(base, (0.25, 1.0)), (0.05, 0.1, 0.2), (0, 1, 2, 3, 4), {})
    base = Run(dataset="cifar10", model="preact_resnet18", width=64, norm=norm, schedule="step", momentum=0.9)
    base = base.but(weight_decay=5e-4, epochs=1000 if long else 200, n_validation=5000, standardize=False)
    climb = RELEASED if norm == "batch" else {"decay_in_ascent": True}
    return Recipe(_widths(base, (64, 16)), (0.025, 0.05, 0.1, 0.2, 0.3, 0.4), (0, 1, 2, 3, 4), climb)


def _widths(base: Run, widths: Sequence[float]) -> tuple[Run, ...]:
    return tuple(base.but(width=width) for width in widths)
