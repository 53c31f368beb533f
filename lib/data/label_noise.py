"""Label noise: wrong labels for a share of the training samples, the same ones for every run."""

import torch

from lib.core.seeds import generator


def noisy(y: torch.Tensor, share: float, classes: int) -> torch.Tensor:
    """`y` with round(share · N) entries replaced: labels (int64, N) by another class, each of the others as likely;
    targets (N×K) by those of other noisy samples, so that they keep their distribution.

    Which ones, and by what, is a function of N, share and classes alone. A single noisy target stays, as there is none
    to trade with. Raises ValueError for a share outside [0, 1].

    >>> int((noisy(torch.zeros(10, dtype=torch.int64), 0.3, 4) > 0).sum())
    3
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share!r}: must be in [0, 1]")
    drawn = generator(0, "label noise")
    changed = torch.randperm(len(y), generator=drawn)[: round(share * len(y))]
    result = y.clone()
    if y.is_floating_point():
        result[changed] = y[changed.roll(1)]  # a random cycle: nobody keeps their own
    else:
        result[changed] = (y[changed] + torch.randint(1, classes, (len(changed),), generator=drawn)) % classes
    return result
