"""The settings of notebook 07, the same at every preset: two-layer networks on noisy clusters, ten seeds each.

A setting is a dict for `analysis.benign.train_all`, which names its fields and their defaults.
"""

import itertools
from collections.abc import Iterable

BENIGN_SEEDS = range(10)


def _grid(**values) -> list[dict]:
    """Every combination of the values, each a single one or several."""
    several = {name: value if isinstance(value, Iterable) else [value] for name, value in values.items()}
    return [dict(zip(several, one, strict=True)) for one in itertools.product(*several.values())]


def benign_dimensions() -> list[dict]:
    """The theorem's setting, for three n and p from far below n³ on; 8,000 is 20³."""
    return _grid(n=(10, 20, 40), p=(50, 100, 200, 400, 1000, 8000), seed=BENIGN_SEEDS)


def benign_margins() -> list[dict]:
    """Cells with p ≥ n³, for the growth of the margin."""
    cells = [(4, p) for p in (125, 1000, 8000)] + [(7, p) for p in (500, 2000, 8000)] + [(20, 8000)]
    return [dict(n=n, p=p, seed=seed) for n, p in cells for seed in BENIGN_SEEDS]


def benign_widths() -> list[dict]:
    """One unit to 1,000, at a dimension so low that there is an error to compare."""
    return _grid(n=20, p=100, m=(1, 4, 16, 64, 256, 1000), seed=BENIGN_SEEDS)


def benign_broken() -> dict[str, list[dict]]:
    """Each assumption broken in turn at n = 20 and p = 1,000, by the name of what is varied."""
    base = dict(n=20, p=1000, seed=BENIGN_SEEDS)
    return {
        "exponent": _grid(**base, exponent=(0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5)),
        "flip": _grid(**base, flip=(0.0, 0.05, 0.15, 0.25, 0.35, 0.45)),
        "lazy": _grid(**base, lazy=(1.0, 10.0, 100.0, 1000.0, 10000.0)),
    }


def benign_levels() -> tuple[list[dict], list[float]]:
    """Runs that go on beyond fitting, and the losses at which they are measured."""
    return _grid(n=20, p=(100, 8000), seed=BENIGN_SEEDS), [0.025, 0.01, 0.005, 0.002]


def benign_sam() -> list[dict]:
    """SAM beside GD where overfitting is harmful and where it is less so; twenty seeds, for small differences."""
    return _grid(n=20, p=(50, 100, 400), rho=(0.0, 0.1, 0.3, 1.0), seed=range(20))
