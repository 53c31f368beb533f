"""What the grids of all sections share: presets, radii, seeds."""

from collections.abc import Sequence

from lib import data
from lib.runs import Run

PRESETS = {  # and what they change
    "smoke": "scikit-learn's digits in place of every image set, small networks, few epochs",
    "lite": "Appendix A, but CIFAR-10 for 24 epochs instead of 200 (VGG-11 at width 8 for 6 instead of 100), on "
    "cifar10-jpeg where the original is not there",
    "paper": "Appendix A to the letter",
}
RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)  # Appendix A's search
SMOKE_RHOS = (0.02, 0.05, 0.1)
SEEDS = (0, 1, 2)


def check_preset(preset: str) -> str:
    """`preset` itself, or a ValueError that lists what there is."""
    if preset not in PRESETS:
        raise ValueError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    return preset


def with_sam(base: Run, rhos: Sequence[float] = RHOS, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """`base` trained by SGD and by SAM at each ρ, for each seed."""
    optimizers = [base, *(base.but(optimizer="sam", rho=rho) for rho in rhos)]
    return [run.but(seed=seed) for run in optimizers for seed in seeds]


def cifar10(preset: str) -> str:
    """CIFAR-10, or at lite the re-encoded images where the original is not there. (At smoke there are digits.)"""
    return "cifar10" if preset == "paper" or data.available("cifar10") else "cifar10-jpeg"
