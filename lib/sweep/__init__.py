"""The one door to training: resumable grids of runs, on one machine or many."""

from lib.sweep.grid import COLUMNS, FINAL, measure, sweep
from lib.sweep.planning import plan
from lib.sweep.rounds import FailedWarning

__all__ = [
    "COLUMNS",
    "FINAL",
    "FailedWarning",
    "measure",
    "plan",
    "sweep",
]
