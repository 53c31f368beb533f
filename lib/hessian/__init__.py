"""Sharpness, non-uniformity and stability from per-sample Hessians, without forming them."""

from lib.hessian.lanczos import Eigen
from lib.hessian.per_sample import sample_hessians
from lib.hessian.spectrum import (
    is_stable,
    moments,
    nonuniformity,
    sharpness,
    spectral_density,
    stability,
    theorem9_operator,
)

__all__ = [
    "Eigen",
    "is_stable",
    "moments",
    "nonuniformity",
    "sample_hessians",
    "sharpness",
    "spectral_density",
    "stability",
    "theorem9_operator",
]
