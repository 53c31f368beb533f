"""A run in words, for who looks at its record."""

from lib.runs.run import Run


def sentence(run: Run) -> str:
    """What was trained, in words."""
    names = {"sam": f"SAM with ρ = {run.rho:g}", "sgd": "SGD"}
    first, second = names[run.optimizer], names["sgd" if run.optimizer == "sam" else "sam"]
    optimizer = f"{first}, after {run.switch:.0%} by {second}," if run.switch else first
    sparse = f", {run.sparsity:.0%} removed by {run.pruner}" if run.sparsity else ""
    return (
        f"{run.model} of width {run.width:g} on {run.dataset}{sparse}, by {optimizer} "
        f"for {run.epochs} epochs, seed {run.seed}"
    )
