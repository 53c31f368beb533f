"""cifar10-jpeg, the images of CIFAR-10 re-encoded, stands in for it where the original is not at hand.

At `lite` a grid asks for the original if it is there. Whoever has it would not see what was trained on the stand-in,
were it not asked for as well.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lib.runs import Measurement, Run, records
from lib.sweep import groups

Grid = list[Run] | list[Measurement]


def stand_in(grid: Sequence[Run] | Sequence[Measurement]) -> Grid:
    """A grid with cifar10-jpeg in place of cifar10."""
    return [
        dataclasses.replace(what, run=_stand_in(what.run)) if isinstance(what, Measurement) else _stand_in(what)
        for what in grid
    ]


def _stand_in(run: Run) -> Run:
    return run.but(dataset="cifar10-jpeg") if run.dataset == "cifar10" else run


def recorded(
    *grids: Sequence[Run] | Sequence[Measurement], train: bool = False, store: str | Path | None = None
) -> list[Grid]:
    """The grids as they are or, where nothing in them has a record and something in their `stand_in` has, all of these.

    train: as they are, since they are going to have records. store: as for `sweep`.
    """
    others = [stand_in(grid) for grid in grids]
    if train or _any_record(grids, store) or not _any_record(others, store):
        return [list(grid) for grid in grids]
    return others


def _any_record(grids: Sequence[Grid], store: str | Path | None) -> bool:
    return any(records.read(groups.store_of(store, what), what, warn=False) for grid in grids for what in grid)
