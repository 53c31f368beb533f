"""From tables of runs to what is measured and judged, a file or more for each section of the paper."""

from lib.paper.analysis import (
    convergence,
    fixed_rho,
    gap,
    linearization,
    reported,
    rho_search,
    sparsity,
    sparsity_cost,
    sparsity_networks,
    sparsity_rho,
    stability,
    stability_checks,
    stability_tables,
    trends,
    width,
)

__all__ = [
    "convergence",
    "fixed_rho",
    "gap",
    "linearization",
    "reported",
    "rho_search",
    "sparsity",
    "sparsity_cost",
    "sparsity_networks",
    "sparsity_rho",
    "stability",
    "stability_checks",
    "stability_tables",
    "trends",
    "width",
]
