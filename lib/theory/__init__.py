"""The rates and stability conditions of the paper's theorems, and simulations that they are checked by."""

from lib.theory.bounds import (
    LinearRate,
    StabilityBounds,
    fit_rate,
    kappa,
    lemma5_margin,
    lemma6_ratio,
    linear_rate,
    rho_max,
    sam_rate,
    sam_step_size,
    stability_bounds,
    truncated_residual,
)

__all__ = [
    "LinearRate",
    "StabilityBounds",
    "fit_rate",
    "kappa",
    "lemma5_margin",
    "lemma6_ratio",
    "linear_rate",
    "rho_max",
    "sam_rate",
    "sam_step_size",
    "stability_bounds",
    "truncated_residual",
]
