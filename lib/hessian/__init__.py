"""Sharpness, non-uniformity and stability from per-sample Hessians, without forming them; the loss around weights."""

from lib.hessian.ascent import MSharpness, m_sharpness, m_sharpness_details
from lib.hessian.batch_norm import reestimate
from lib.hessian.eigenvalues import top, trace
from lib.hessian.hutchinson import Trace
from lib.hessian.lanczos import Eigen
from lib.hessian.line import Line, loss_on_line
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
    "Line",
    "MSharpness",
    "Trace",
    "is_stable",
    "loss_on_line",
    "m_sharpness",
    "m_sharpness_details",
    "moments",
    "nonuniformity",
    "reestimate",
    "sample_hessians",
    "sharpness",
    "spectral_density",
    "stability",
    "theorem9_operator",
    "top",
    "trace",
]
