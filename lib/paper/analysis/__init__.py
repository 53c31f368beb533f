"""From tables of runs to what is measured and judged, a file or more for each section of the paper."""

from lib.paper.analysis import (
    convergence,
    effects,
    fixed_rho,
    gap,
    linearization,
    rho_search,
    sparsity,
    sparsity_cost,
    sparsity_networks,
    sparsity_rho,
    stability,
    stability_checks,
    stability_tables,
    theorem_checks,
    trends,
    width,
)

__all__ = [
    "convergence",
    "effects",
    "fixed_rho",
    "gap",
    "linearization",
    "rho_search",
    "sparsity",
    "sparsity_cost",
    "sparsity_networks",
    "sparsity_rho",
    "stability",
    "stability_checks",
    "stability_tables",
    "theorem_checks",
    "trends",
    "width",
]
