"""A run in words, for who looks at its record."""

from lib.runs.run import Run


def sentence(run: Run) -> str:
    """What was trained, in words."""
    optimizer = f"SAM with ρ = {run.rho:g}" if run.optimizer == "sam" else "SGD"
    sparse = f", {run.sparsity:.0%} removed by {run.pruner}" if run.sparsity else ""
    return (
        f"{run.model} of width {run.width:g} on {run.dataset}{sparse}, by {optimizer} "
        f"for {run.epochs} epochs, seed {run.seed}"
    )
