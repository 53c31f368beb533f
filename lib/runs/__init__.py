"""What a training run is, what is measured on it, and their records."""

from lib.runs.measurement import Measurement
from lib.runs.run import UNRECORDED, Run

__all__ = [
    "UNRECORDED",
    "Measurement",
    "Run",
]
