"""The grids of Appendix A, one function a workload, and what each preset changes. A grid is a list of runs.

| preset | images | what it is |
|---|---|---|
| smoke | scikit-learn's digits stand in for every image set | small widths, few epochs, seconds on a laptop |
| lite | MNIST; cifar10 if it is there, else cifar10-jpeg | MNIST as in Appendix A; the rest for 24 epochs |
| paper | MNIST, cifar10 | Appendix A to the letter |
"""

from collections.abc import Callable, Sequence

import pandas

from lib import data
from lib.runs import Run

PRESETS = ("smoke", "lite", "paper")
RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)  # Appendix A's search
SEEDS = (0, 1, 2)


def check_preset(preset: str) -> str:
    """`preset` itself, or a ValueError that lists what there is."""
    if preset not in PRESETS:
        raise ValueError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    return preset


def with_sam(base: Run, rhos: Sequence[float] = RHOS, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """`base` trained by SGD and by SAM at each ρ, for each seed."""
    optimizers = [base, *(base.but(optimizer="sam", rho=rho) for rho in rhos)]
    return [run.but(seed=seed) for run in optimizers for seed in seeds]


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


MNIST_WIDTHS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


def mnist_mlp(preset: str) -> list[Run]:
    """MNIST and the 3-layer MLP: every width with SGD and SAM at five ρ (Sections 3 and 5)."""
    if check_preset(preset) == "smoke":
        base = Run(
            dataset="digits",
            schedule="step",
            momentum=0.9,
            weight_decay=1e-4,
            epochs=30,
            batch_size=32,
        )
        return [run for width in (0.05, 1.0) for run in with_sam(base.but(width=width), rhos=(0.02, 0.05, 0.1))]
    base = Run(dataset="mnist", schedule="step", momentum=0.9, weight_decay=1e-4, epochs=100, batch_size=128)
    return [run for width in MNIST_WIDTHS for run in with_sam(base.but(width=width))]


RESNET_WIDTHS = (4, 8, 16, 32, 64, 128, 256)


def cifar_resnet(preset: str) -> list[Run]:
    """CIFAR-10 and ResNet-18: every width with SGD and SAM at five ρ (Sections 3 and 5)."""
    base = Run(model="resnet18", schedule="step", momentum=0.9, weight_decay=5e-4, batch_size=128)
    if check_preset(preset) == "smoke":
        base = base.but(dataset="digits", epochs=5, batch_size=64)
        return [run for width in (4, 16) for run in with_sam(base.but(width=width), rhos=(0.05,), seeds=(0, 1))]
    if preset == "lite":
        base = base.but(dataset="cifar10" if data.available("cifar10") else "cifar10-jpeg", epochs=24)
    else:
        base = base.but(dataset="cifar10", epochs=200)
    return [run for width in RESNET_WIDTHS for run in with_sam(base.but(width=width))]


CONVERGENCE_RHO = 0.05  # Figure 1 shows one ρ and the paper does not say which


def mnist_convergence(preset: str) -> list[Run]:
    """Figure 1b: of `mnist_mlp`, SGD and SAM at one ρ, narrow against wide."""
    widths = (0.05, 1.0) if preset == "smoke" else (0.25, 1.0, 2.0)
    return [run for run in mnist_mlp(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]


def cifar_convergence(preset: str) -> list[Run]:
    """Figure 1c: of `cifar_resnet`, SGD and SAM at one ρ, narrow against wide."""
    widths = (4, 16) if preset == "smoke" else (4, 64)
    return [run for run in cifar_resnet(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]


EXPERIMENTS: dict[str, Callable[[str], list[Run]]] = {
    grid.__name__: grid
    for grid in (
        matrix_factorization,
        factorization_batches,
        factorization_floors,
        mnist_convergence,
        cifar_convergence,
        mnist_mlp,
        cifar_resnet,
    )
}


def table(grid: Sequence[Run]) -> pandas.DataFrame:
    """What a grid varies, one row a combination of all fields but ρ and seed, which are listed; then how many runs.

    Fields that are the same in the whole grid are left out; they are in the table's `attrs["common"]`.
    """
    frame = pandas.DataFrame([run.as_dict() for run in grid])
    varied = [name for name in frame if (frame[name] != frame[name].iloc[0]).any() and name not in ("rho", "seed")]
    frame["rho"] = frame["rho"].map("{:g}".format)
    groups = frame.groupby(varied, sort=False, dropna=False) if varied else frame.groupby(lambda _: 0)
    listed = groups.agg(
        rho=("rho", lambda s: ", ".join(dict.fromkeys(s))),
        seeds=("seed", lambda s: ", ".join(map(str, sorted(set(s))))),
        runs=("seed", "size"),
    )
    listed = listed.reset_index() if varied else listed.reset_index(drop=True)
    fixed = [name for name in frame if name not in (*varied, "rho", "seed", "recipe")]
    listed.attrs["common"] = {name: frame[name].iloc[0] for name in fixed}
    return listed
