"""The grids of Appendix A, one function a workload, and what each preset changes. A grid is a list of runs.

There is a file for each section of the paper. EXPERIMENTS has all by name; `table` and `presets` show what they vary.

| preset | images | what it is |
|---|---|---|
| smoke | scikit-learn's digits stand in for every image set | small widths, few epochs, seconds on a laptop |
| lite | MNIST; cifar10 if there, else cifar10-jpeg; ImageNet | as in Appendix A, but CIFAR-10 for 24 epochs (VGG 6) |
| paper | MNIST, cifar10, ImageNet | Appendix A to the letter |
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas

from lib.paper.experiments import changes
from lib.paper.experiments.benign import (
    benign_broken,
    benign_dimensions,
    benign_levels,
    benign_margins,
    benign_sam,
    benign_widths,
)
from lib.paper.experiments.bouncing import Edge, Quadratics, edge, random_quadratics
from lib.paper.experiments.convergence import (
    CONVERGENCE_RHO,
    FACTORIZATION_RHO,
    cifar_convergence,
    factorization_batches,
    factorization_floors,
    matrix_factorization,
    mnist_convergence,
)
from lib.paper.experiments.deciding import DECIDING
from lib.paper.experiments.grids import PRESETS, RHOS, check_preset
from lib.paper.experiments.linearization import (
    LINEARIZATION_RHO,
    vgg_learning_rate,
    vgg_linearization,
    vgg_rates,
    vgg_scaled_radius,
    vgg_tangent,
)
from lib.paper.experiments.perturbation import (
    ascent_steps,
    batch_sizes,
    lengths,
    m_sam,
    minima,
    perturbations,
    width_factors,
)
from lib.paper.experiments.regression import student_teacher
from lib.paper.experiments.sparsity import budgets, cifar_sparse, mnist_sparse, mnist_structured
from lib.paper.experiments.stability import mnist_course, mnist_flatness
from lib.paper.experiments.stages import objectives, radius_schedules, switching, unnormalized
from lib.paper.experiments.width import (
    cifar_resnet,
    cifar_resnet_twice,
    cifar_resnet_without_decay,
    cifar_vit,
    cifar_vit_twice,
    imagenet_resnet50,
    mnist_as_released,
    mnist_fixed_radius,
    mnist_mlp,
    mnist_mlp_twice,
)
from lib.runs import Measurement, Run
from lib.sweep.substitutes import stand_in

EXPERIMENTS: dict[str, Callable[[str], list[Run] | list[Measurement]]] = {
    grid.__name__: grid
    for grid in (
        matrix_factorization,
        factorization_batches,
        factorization_floors,
        mnist_convergence,
        cifar_convergence,
        mnist_mlp,
        mnist_mlp_twice,
        mnist_fixed_radius,
        mnist_as_released,
        student_teacher,
        cifar_resnet,
        cifar_resnet_twice,
        cifar_resnet_without_decay,
        cifar_vit,
        cifar_vit_twice,
        imagenet_resnet50,
        mnist_flatness,
        mnist_course,
        vgg_linearization,
        vgg_learning_rate,
        vgg_rates,
        vgg_scaled_radius,
        vgg_tangent,
        perturbations,
        m_sam,
        ascent_steps,
        batch_sizes,
        width_factors,
        minima,
        lengths,
        switching,
        radius_schedules,
        unnormalized,
        objectives,
        mnist_sparse,
        mnist_structured,
        cifar_sparse,  # these count the weights of networks of torchvision
    )
}

# All that a companion notebook trains, by its word: for the command `lib.sweep` alone.
TOGETHER: dict[str, tuple[Callable[[str], list[Run] | list[Measurement]], ...]] = {
    "m_sharpness": (perturbations, m_sam, ascent_steps, batch_sizes, width_factors, minima, lengths),
    "stages": (switching, radius_schedules, unnormalized, objectives),
}


def together(name: str, preset: str) -> list[Run | Measurement]:
    """The grids of TOGETHER[name], each run once.

    >>> len(together("stages", "smoke")) < sum(len(grid("smoke")) for grid in TOGETHER["stages"])
    True
    """
    return list(dict.fromkeys(what for grid in TOGETHER[name] for what in grid(preset)))


def table(grid: Sequence[Run | Measurement]) -> pandas.DataFrame:
    """What a grid, or that of the runs that are measured, varies: one row a combination of all fields but ρ and seed,
    which are listed; then how many runs. Fields that are the same in the whole grid are left out; the pruner of a
    network of which nothing is removed is "dense". Of a grid that is no preset's, what it changes is listed too."""
    runs = dict.fromkeys(what.run if isinstance(what, Measurement) else what for what in grid)
    frame = pandas.DataFrame([run.as_dict() for run in runs])
    frame["pruner"] = frame["pruner"].where(frame["sparsity"] > 0, "dense")
    varied = [name for name in frame if (frame[name] != frame[name].iloc[0]).any() and name not in ("rho", "seed")]
    if not _are_of_one(runs):
        fewest = min((changed(list(runs), preset) for preset in PRESETS), key=len)
        varied += [name for name in frame if f"{name} " in fewest and name not in (*varied, "rho", "seed")]
    frame["rho"] = frame["rho"].map("{:g}".format)
    groups = frame.groupby(varied, sort=False, dropna=False) if varied else frame.groupby(lambda _: 0)
    listed = groups.agg(
        rho=("rho", lambda s: ", ".join(dict.fromkeys(s))),
        seeds=("seed", lambda s: ", ".join(map(str, sorted(set(s))))),
        runs=("seed", "size"),
    )
    return listed.reset_index() if varied else listed.reset_index(drop=True)


def changed(runs: Sequence[Run], preset: str) -> str:
    """In words, what these runs change of the preset's experiments; empty where all of them are of it.

    >>> changed([run.but(batch_size=8) for run in mnist_mlp("paper")], "paper")
    'batch_size 8 instead of 128'
    """
    check_preset(preset)
    return changes.named(runs, _trained_in(preset)) if runs else ""


def changed_keys(texts: Iterable[str], preset: str) -> list[str]:
    """The keys in these texts that are of no run, and of no measurement, of the preset's experiments."""
    check_preset(preset)
    keys = changes.keys_in(texts)
    for name in EXPERIMENTS:
        if keys:
            keys -= _keys(name, preset)
    return sorted(keys)


def _are_of_one(runs: Iterable[Run]) -> bool:
    """Whether one preset's experiments have all of these runs. Experiment by experiment, as all of them are thousands
    of runs, and those at the end of EXPERIMENTS take seconds."""
    left = {preset: list(runs) for preset in PRESETS}
    for name in EXPERIMENTS:
        left = {preset: changes.foreign(rest, _trained(name, preset)) for preset, rest in left.items()}
        if not all(left.values()):
            return True
    return False


@functools.cache
def _trained(name: str, preset: str) -> Mapping[Run, None]:
    return changes.trained(EXPERIMENTS[name](preset))


@functools.cache
def _trained_in(preset: str) -> Mapping[Run, None]:
    return dict.fromkeys(run for name in EXPERIMENTS for run in _trained(name, preset))


@functools.cache
def _keys(name: str, preset: str) -> set[str]:
    result, grid = set(), EXPERIMENTS[name](preset)
    for what in (*grid, *stand_in(grid)):
        result |= {what.key, what.run.key} if isinstance(what, Measurement) else {what.key}
    return result


def presets(*names: str) -> pandas.DataFrame:
    """The settings of experiments together: one row a field of `Run` that is not the default everywhere, or that
    Appendix A names for each workload; one column a preset: the values of its runs, ascending; then their number."""
    default, columns = Run().as_dict(), {}
    for preset in PRESETS:
        runs = dict.fromkeys(run for name in names for run in EXPERIMENTS[name](preset))
        frame = pandas.DataFrame([run.as_dict() for run in runs])
        sentence = {field: ", ".join(_plain(value) for value in sorted(set(frame[field]))) for field in default}
        columns[preset] = sentence | {"runs": str(len(runs))}
    result = pandas.DataFrame(columns)
    plain = pandas.Series({field: _plain(value) for field, value in default.items()}).reindex(result.index)
    return result[result.ne(plain, axis=0).any(axis=1) | result.index.isin(["model", "lr", "weight_decay"])]


def _plain(value) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
