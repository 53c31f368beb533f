"""Data sets by name, in memory or streamed, and their augmentation."""

from lib.data.dataset import Dataset
from lib.data.datasets import (
    DATASETS,
    NAMES,
    SPLITS,
    DatasetInfo,
    augmented,
    available,
    canonical,
    digest,
    in_folder,
    info,
    load,
    regression,
    sample_counts,
    shapes,
    streamed,
)
from lib.data.errors import DataUnavailable
from lib.data.label_noise import noisy
from lib.data.scaling import scale, standardize
from lib.data.sources import factorization_map

__all__ = [
    "DATASETS",
    "NAMES",
    "SPLITS",
    "DataUnavailable",
    "Dataset",
    "DatasetInfo",
    "augmented",
    "available",
    "canonical",
    "digest",
    "factorization_map",
    "in_folder",
    "info",
    "load",
    "noisy",
    "regression",
    "sample_counts",
    "scale",
    "shapes",
    "standardize",
    "streamed",
]
