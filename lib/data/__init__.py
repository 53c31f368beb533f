"""Data sets by name, in memory or streamed, and their augmentation."""

from lib.data.dataset import Dataset
from lib.data.datasets import (
    DATASETS,
    NAMES,
    SPLITS,
    DatasetInfo,
    augmented,
    available,
    check_name,
    digest,
    in_folder,
    load,
    regression,
    sample_counts,
    scale,
    shapes,
    standardize,
    streamed,
)
from lib.data.errors import DataUnavailable
from lib.data.label_noise import noisy
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
    "check_name",
    "digest",
    "factorization_map",
    "in_folder",
    "load",
    "noisy",
    "regression",
    "sample_counts",
    "scale",
    "shapes",
    "standardize",
    "streamed",
]
