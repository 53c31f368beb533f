"""From which grids each figure of the notebooks is drawn: what it takes to make one figure, or one notebook."""

import functools
from collections.abc import Callable, Sequence

from lib.paper import experiments as e
from lib.runs import Measurement, Run

Grid = Callable[[str], Sequence[Run | Measurement]]


def _landscapes(preset: str) -> list[Measurement]:
    return [measurement for measurement in e.mnist_flatness(preset) if measurement.kind == "landscape"]


def _hessians(preset: str) -> list[Measurement]:
    return [measurement for measurement in e.mnist_flatness(preset) if measurement.kind == "flatness"]


def _small_resnets(preset: str) -> list[Run]:
    small, _ = e.budgets(e.cifar_sparse(preset)).values()
    return small


def _large_resnets(preset: str) -> list[Run]:
    _, large = e.budgets(e.cifar_sparse(preset)).values()
    return large


_MLP = (e.mnist_mlp, e.mnist_mlp_twice)
_RESNET = (e.cifar_resnet, e.cifar_resnet_twice)
_VIT = (e.cifar_vit, e.cifar_vit_twice)
_WORKLOADS = (e.mnist_mlp, e.cifar_resnet, e.imagenet_resnet50)

# Those without a grid follow steps that the notebook computes itself, in seconds.
FIGURES: dict[str, dict[str, tuple[Grid, ...]]] = {
    "01_convergence": {
        "figD1": (),
        "figD2": (),
        "fig01a": (e.matrix_factorization, e.factorization_floors),
        "fig01a_variations": (e.matrix_factorization, e.factorization_batches),
        "fig01b": (e.mnist_convergence,),
        "fig01c": (e.cifar_convergence,),
    },
    "02_stability": {
        "figE1": (),
        "figE2": (),
        "fig02ab": (_landscapes,),
        "fig02c": (_hessians,),
        "fig02e": (e.mnist_course,),
        "fig02d": (_hessians,),
    },
    "03_width": {
        "fig03a": _MLP,
        "fig03b": _RESNET,
        "fig03c": (e.imagenet_resnet50,),
        "fig04a": _VIT,
        "fig04b": (e.cifar_resnet_without_decay,),
        "fig09a": _MLP,
        "fig09b": _RESNET,
        "fig09c": (e.imagenet_resnet50,),
        "fig10a": _VIT,
        "fig10b": (e.cifar_resnet_without_decay,),
        "fig06": (e.cifar_resnet,),
        "fig11": (e.mnist_mlp,),
        "fig12": (e.cifar_resnet,),
        "fig13": (e.imagenet_resnet50,),
        "fig05": _WORKLOADS,
        "fig03_selection": _WORKLOADS,
        "fig03_fixed": (e.mnist_fixed_radius,),
        "fig03_released": (e.mnist_fixed_radius, e.mnist_as_released),
        "fig03_teacher": (e.student_teacher,),
    },
    "04_sparsity": {
        "fig07": (_large_resnets,),
        "fig14": (_small_resnets,),
        "fig15": (e.mnist_sparse,),
        "fig08": (e.cifar_sparse,),
        "fig16": (e.mnist_sparse,),
        "figS1": (e.mnist_sparse, e.cifar_sparse),
        "figS2": (e.mnist_sparse, e.mnist_structured),
        "figS3": (e.mnist_structured,),
    },
    "05_linearization": {
        "fig17_rate": (e.vgg_learning_rate,),
        "fig17a": (e.vgg_linearization,),
        "fig17b": (e.vgg_linearization,),
        "fig17_tangent": (e.vgg_linearization, e.vgg_tangent),
        "fig17_distance": (e.vgg_linearization,),
        "fig17_scaled": (e.vgg_linearization, e.vgg_tangent, e.vgg_scaled_radius),
        "fig17_rates": (e.vgg_rates, e.vgg_linearization),
    },
    "06_bouncing": {f"figB{number}": () for number in range(1, 12)},
    "07_benign_overfitting": {f"figO{number}": () for number in range(1, 8)},
    "08_implicit_bias": {
        "figI_potential": (),
        "figI_theorems": (),
        "figI_sizes": (),
        "figI_shares": (),
        "figI_bias": (),
        "figI_radius": (),
        "figI_stochastic": (),
        "figI_switch": (),
        "figI_line": (),
        "figI_relu": (),
        "figI_depth": (),
        "figI_width": (),
    },
    "09_m_sharpness": {
        "figP1": (e.perturbations,),
        "figP16": (e.m_sam,),
        "figP4": (e.ascent_steps,),
        "figP17": (e.batch_sizes,),
        "figP18": (e.width_factors,),
        "figP2": (e.minima,),
        "figP3": (e.minima,),
        "figP_linear": (),
        "figP19": (e.lengths,),
    },
    "10_stages": {
        "figP8": (e.switching,),
        "figP9": (e.switching,),
        "figP10": (),
        "figP11": (e.unnormalized,),
        "figP12": (e.unnormalized,),
        "figP20": (e.objectives,),
        "figP21": (e.radius_schedules,),
        "figP_bounds": (),
        "figP_resting": (),
    },
}
TOGETHER = "in all"


def grids(preset: str) -> dict[tuple[str, str], list[Run | Measurement]]:
    """What each figure is drawn from, by (notebook, figure), then what all of a notebook's are, as (notebook,
    TOGETHER)."""
    result, grid_of = {}, functools.cache(lambda grid: grid(preset))
    for notebook, parts in FIGURES.items():
        for figure, made in parts.items():
            result[notebook, figure] = [what for grid in made for what in grid_of(grid)]
        every = [what for figure in parts for what in result[notebook, figure]]
        result[notebook, TOGETHER] = list(dict.fromkeys(every))
    return result
