"""Section 3: does a network that interpolates converge linearly under SAM? (Figure 1)"""

from lib.paper.experiments.grids import RHOS, SEEDS, check_preset
from lib.paper.experiments.width import cifar_resnet, mnist_mlp
from lib.runs import Run

FACTORIZATION_RHO = 0.05  # in the middle of Appendix A's search; the paper names none for Figure 1a


def matrix_factorization(preset: str) -> list[Run]:
    """Figure 1a: ranks 4 and 10 with SGD, unnormalized and normalized SAM. The same at every preset.

    The paper gives no batch size; at 10 the two ranks separate (see `factorization_batches`).
    """
    check_preset(preset)
    base = Run(
        dataset="factorization",
        model="linear2",
        loss="squared",
        lr=0.0005,
        epochs=100,
        batch_size=10,
        precision="float64",
    )
    sam = base.but(optimizer="sam", rho=FACTORIZATION_RHO)
    variants = (base, sam.but(normalized=False), sam)
    return [run.but(width=rank, seed=seed) for rank in (4, 10) for run in variants for seed in SEEDS]


def factorization_batches(preset: str) -> list[Run]:
    """Beside Figure 1a: rank 6, which interpolates as well, and batch sizes 1, 128 and all 1,000 samples, one seed."""
    sgd, unnormalized = (
        next(run for run in matrix_factorization(preset) if run.optimizer == name) for name in ("sgd", "sam")
    )
    sizes = [
        run.but(width=rank, batch_size=size, epochs=10 if size == 1 else 100)
        for size in (1, 128, 1000)
        for rank in (4, 10)
        for run in (sgd, unnormalized)
    ]
    return [run.but(width=6) for run in (sgd, unnormalized)] + sizes


def factorization_floors(preset: str) -> list[Run]:
    """Beside Figure 1a: normalized SAM at rank 10 for every ρ, to see what sets the floor at which it stalls."""
    base = next(run for run in matrix_factorization(preset) if run.rho > 0 and run.normalized and run.width == 10)
    return [base.but(rho=rho, seed=seed) for rho in RHOS for seed in SEEDS]


CONVERGENCE_RHO = 0.05  # Figure 1 shows one ρ and the paper does not say which


def mnist_convergence(preset: str) -> list[Run]:
    """Figure 1b: of `mnist_mlp`, SGD and SAM at one ρ, narrow against wide."""
    widths = (0.05, 1.0) if preset == "smoke" else (0.25, 1.0, 2.0)
    return [run for run in mnist_mlp(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]


def cifar_convergence(preset: str) -> list[Run]:
    """Figure 1c: of `cifar_resnet`, SGD and SAM at one ρ, narrow against wide."""
    widths = (4, 16) if preset == "smoke" else (4, 64)
    return [run for run in cifar_resnet(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]
