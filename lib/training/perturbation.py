"""By what a run climbs that does not climb by the gradient of its own batch (`lib.runs.climbing`)."""

from collections.abc import Sequence

import torch

from lib.core.seeds import generator
from lib.runs import Run


def climbs_elsewhere(run: Run) -> bool:
    """Whether its perturbation is not of the batch that it descends by: the loss at w then takes a pass of its own."""
    return run.perturbation == "random" or run.ascent_batch == "other"


def steady(run: Run) -> bool:
    """Whether every step of the run does the same, but for its learning rate: only then may one be recorded."""
    return not climbs_elsewhere(run) and run.rho_schedule == "constant" and not run.switch


def draw(seed: int, step: int, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """N(0, I) for the step with number `step` of that seed, in the shapes of `like`, whatever trains beside it.

    >>> first, second = (draw(0, step, [torch.zeros(2, 3)])[0] for step in (0, 1))
    >>> first.shape, bool((first != second).all())
    (torch.Size([2, 3]), True)
    """
    sizes = [one.numel() for one in like]
    noise = torch.randn(sum(sizes), generator=generator(seed, "perturbation", step)).to(like[0])  # at once to a GPU
    return [part.view(one.shape) for part, one in zip(noise.split(sizes), like, strict=True)]
