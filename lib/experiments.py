"""The grids of Appendix A, one function a workload, and what each preset changes. A grid is a list of runs.

| preset | images | what it is |
|---|---|---|
| smoke | scikit-learn's digits stand in for every image set | small widths, few epochs, seconds on a laptop |
| lite | MNIST; cifar10 if there, else cifar10-jpeg; ImageNet | as in Appendix A, but CIFAR-10 for 24 epochs (VGG 6) |
| paper | MNIST, cifar10, ImageNet | Appendix A to the letter |
"""

import functools
from collections.abc import Callable, Sequence

import pandas
from torch import nn

from lib import data, models, sparsity
from lib.measurement import Measurement
from lib.runs import Run

PRESETS = {  # and what they change
    "smoke": "scikit-learn's digits in place of every image set, small networks, few epochs",
    "lite": "Appendix A, but CIFAR-10 for 24 epochs instead of 200 (VGG-11 at width 8 for 6 instead of 100), on "
    "cifar10-jpeg where the original is not there",
    "paper": "Appendix A to the letter",
}
RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)  # Appendix A's search
SMOKE_RHOS = (0.02, 0.05, 0.1)
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


LANDSCAPE_RHO = 0.1  # Figure 2b shows one ρ and the paper does not say which

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
        return [run for width in (0.05, 0.2, 1.0) for run in with_sam(base.but(width=width), rhos=SMOKE_RHOS)]
    base = Run(dataset="mnist", schedule="step", momentum=0.9, weight_decay=1e-4, epochs=100, batch_size=128)
    return [run for width in MNIST_WIDTHS for run in with_sam(base.but(width=width))]


RESNET_WIDTHS = (4, 8, 16, 32, 64, 128, 256)
VIT_WIDTHS = (32, 64, 128, 256, 512, 1024)
CIFAR_EPOCHS = {"lite": 24, "paper": 200}


def cifar_resnet(preset: str) -> list[Run]:
    """CIFAR-10 and ResNet-18: every width with SGD and SAM at five ρ (Sections 3 and 5)."""
    base = Run(model="resnet18", schedule="step", momentum=0.9, weight_decay=5e-4, batch_size=128)
    return _convolutional(_cifar(base, preset), RESNET_WIDTHS, smoke=(4, 16))


def cifar_resnet_without_decay(preset: str) -> list[Run]:
    """The same without weight decay (Figures 4b and 10b)."""
    base = Run(model="resnet18", schedule="step", momentum=0.9, batch_size=128)
    return _convolutional(_cifar(base, preset), RESNET_WIDTHS, smoke=(4, 8))


def cifar_vit(preset: str) -> list[Run]:
    """CIFAR-10 and vision transformers: every hidden dimension (Figures 4a and 10a)."""
    base = Run(model="vit", width=VIT_WIDTHS[0], schedule="cosine", momentum=0.9, weight_decay=1e-4, batch_size=128)
    return _convolutional(_cifar(base, preset), VIT_WIDTHS, smoke=(32, 64))


IMAGENET_WIDTHS = (16, 32, 48, 64, 80)
IMAGENET_SMALL_RHO = 0.0005  # which Appendix A adds for the two smallest


def imagenet_resnet50(preset: str) -> list[Run]:
    """ImageNet and ResNet-50: every width with SGD and SAM at five ρ, the two smallest at six; at lite the same."""
    base = Run(model="resnet50", schedule="warmup_cosine", momentum=0.9, weight_decay=1e-4)
    if check_preset(preset) == "smoke":
        base = base.but(**SMOKE_IMAGES, warmup_steps=5, epochs=4, lr=0.02)
        return _convolutional(base, (), smoke=(4, 8))
    base = base.but(dataset="imagenet", warmup_steps=5000, epochs=90, batch_size=512)
    small = (IMAGENET_SMALL_RHO, *RHOS)
    return [run for width in IMAGENET_WIDTHS for run in with_sam(base.but(width=width), small if width <= 32 else RHOS)]


# Fewer digits, for networks that are not trained in stacks.
SMOKE_IMAGES = dict(dataset="digits", n_train=500, batch_size=64)


def _cifar(base: Run, preset: str) -> Run:
    if check_preset(preset) == "smoke":
        return base.but(**SMOKE_IMAGES, epochs=5)
    original = preset == "paper" or data.available("cifar10")
    return base.but(dataset="cifar10" if original else "cifar10-jpeg", epochs=CIFAR_EPOCHS[preset])


def _convolutional(base: Run, widths: Sequence[float], smoke: Sequence[float]) -> list[Run]:
    if base.dataset == "digits":
        return [run for width in smoke for run in with_sam(base.but(width=width), rhos=SMOKE_RHOS, seeds=(0, 1))]
    return [run for width in widths for run in with_sam(base.but(width=width))]


def stand_in(grid: Sequence[Run]) -> list[Run]:
    """A grid with cifar10-jpeg in place of cifar10, for lite where only the stand-in has records."""
    return [run.but(dataset="cifar10-jpeg") if run.dataset == "cifar10" else run for run in grid]


def twice(grid: Sequence[Run]) -> list[Run]:
    """The SGD runs of a grid for twice the epochs: with as many gradients as SAM takes (compute-matched)."""
    return [run.but(epochs=2 * run.epochs) for run in grid if run.optimizer == "sgd"]


def mnist_mlp_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `mnist_mlp`."""
    return twice(mnist_mlp(preset))


def cifar_resnet_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `cifar_resnet`."""
    return twice(cifar_resnet(preset))


def cifar_vit_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `cifar_vit`."""
    return twice(cifar_vit(preset))


CONVERGENCE_RHO = 0.05  # Figure 1 shows one ρ and the paper does not say which


def mnist_convergence(preset: str) -> list[Run]:
    """Figure 1b: of `mnist_mlp`, SGD and SAM at one ρ, narrow against wide."""
    widths = (0.05, 1.0) if preset == "smoke" else (0.25, 1.0, 2.0)
    return [run for run in mnist_mlp(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]


def cifar_convergence(preset: str) -> list[Run]:
    """Figure 1c: of `cifar_resnet`, SGD and SAM at one ρ, narrow against wide."""
    widths = (4, 16) if preset == "smoke" else (4, 64)
    return [run for run in cifar_resnet(preset) if run.width in widths and run.rho in (0, CONVERGENCE_RHO)]


def sparsified(dense: Run, widths: Sequence[float], rhos: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    """`dense`, and networks of `widths` brought to its parameter count by each unstructured method (Section 6), all
    trained by SGD and by SAM."""
    target = models.count_parameters(_outline(dense))
    runs = with_sam(dense, rhos, seeds)
    for width in widths:
        removed = sparsity.matching(_outline(dense.but(width=width)), target)
        for pruner in sparsity.UNSTRUCTURED:
            runs += with_sam(dense.but(width=width, sparsity=removed, pruner=pruner), rhos, seeds)
    return runs


def _outline(run: Run) -> nn.Module:
    return _network(run.dataset, run.model, run.width, **run.options)


@functools.cache  # a grid has many runs of one network
def _network(dataset: str, model: str, width: float, **options: str | int) -> nn.Module:
    classes, in_shape = data.shapes(dataset)
    return models.outline(model, width=width, in_shape=in_shape, classes=classes, **options)


def mnist_sparse(preset: str) -> list[Run]:
    """Figures 15 and 16: the MLP of 61 thousand parameters against larger ones pruned to as many at initialization."""
    dense = mnist_mlp(preset)[0]
    if preset == "smoke":
        return sparsified(dense.but(width=0.1, epochs=10), (0.2, 0.4), SMOKE_RHOS, SEEDS)
    return sparsified(dense, (0.5, 1.0, 2.0), RHOS, SEEDS)


def mnist_structured(preset: str) -> list[Run]:
    """Beyond the paper: MLPs pruned to N:M patterns, and the same ones pruned by each unstructured method to as many
    parameters. The widths are those at which a pattern leaves nearly what the small network of `mnist_sparse` has:
    63,070 and 66,960 parameters against its 61,035, so that beside those networks the counts are not quite equal.

    A pattern and a random mask of one count differ in more than the pattern: a pattern keeps the largest |w| of each
    group, a random mask does not look at the weights."""
    base, widths, rhos = mnist_sparse(preset)[0], (0.5, 1.0), RHOS
    if preset == "smoke":
        widths, rhos = (0.2, 0.4), SMOKE_RHOS
    runs = []
    for width, (pattern, (n, m)) in zip(widths, sparsity.PATTERNS.items(), strict=True):
        structured = base.but(width=width, sparsity=1 - n / m, pruner=pattern)
        outline = _outline(structured)
        matched = sparsity.matching(outline, sparsity.remaining(outline, structured.sparsity, pattern))
        others = [structured.but(sparsity=matched, pruner=pruner) for pruner in sparsity.UNSTRUCTURED]
        runs += [run for one in (structured, *others) for run in with_sam(one, rhos)]
    return runs


def budgets(grid: Sequence[Run]) -> dict[int, list[Run]]:
    """The runs of a grid of Section 6 by the number of parameters that they share, which is that of a dense network.
    (Random masks round in each layer, so theirs are off by a few.)"""
    left = {run: sparsity.remaining(_outline(run), run.sparsity, run.pruner) for run in grid}
    counts = sorted({left[run] for run in grid if not run.sparsity})
    shared = {run: min(counts, key=lambda count: abs(count - left[run])) for run in grid}
    return {count: [run for run in grid if shared[run] == count] for count in counts}


# Widths of ResNet-18 with 45 and with 701 thousand parameters, and 2, 4 and 8 times those: pruned to as many parameters
# they are 75, 94 and over 98% sparse. The paper goes "up to 94%".
SPARSE_RESNETS = {4: (8, 16, 32), 16: (32, 64, 128)}


def cifar_sparse(preset: str) -> list[Run]:
    """Figures 7, 8 and 14: ResNet-18 at two widths, against wider ones pruned to as many parameters."""
    base = cifar_resnet(preset)[0]
    if preset == "smoke":
        base, families = base.but(n_train=160, batch_size=32), {2: (4, 8), 4: (6, 8)}
        search = {"rhos": SMOKE_RHOS, "seeds": (0, 1)}
    else:
        families, search = SPARSE_RESNETS, {"rhos": RHOS, "seeds": SEEDS}
    return [run for width, wider in families.items() for run in sparsified(base.but(width=width), wider, **search)]


def mnist_flatness(preset: str) -> list[Measurement]:
    """Figure 2: an MLP with hidden layers of 3,000 and 1,000, squared loss, constant step size, neither momentum nor
    weight decay. Its Hessian for every run, its loss landscape for seed 0 of SGD and of SAM at one ρ."""
    base = Run(dataset="mnist", width=10, loss="squared", epochs=100, batch_size=128, eval_every=5)
    if check_preset(preset) == "smoke":
        base = base.but(dataset="digits", width=0.5, batch_size=32)
    rhos = (0.05, 0.1, 0.2) if preset == "smoke" else RHOS
    options = {"samples": 200, "batch": 32} if preset == "smoke" else {}
    runs = with_sam(base, rhos)
    shown = [run for run in runs if run.seed == 0 and run.rho in (0, LANDSCAPE_RHO)]
    return [Measurement(run, "flatness", options) for run in runs] + [
        Measurement(run, "landscape", {"samples": options.get("samples", 1000)}) for run in shown
    ]


LINEARIZATION_RHO = 0.01  # at α = 1 of the series in which ρ falls as 1/α


def _vgg(preset: str) -> tuple[Run, tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """The run that Appendix C scales, and its α, ρ and seeds; the schedule is that of Chizat et al.

    The learning rate is the same at every α (`lib.linearize` says why) and for SAM: `vgg_learning_rate` is the search.
    """
    base = Run(
        dataset="cifar10",
        model="vgg11",
        width=64,
        loss="squared",
        lr=0.03,
        schedule="inverse",
        momentum=0.9,
        epochs=100,
        batch_size=128,
        linearize="centered",
    )
    if check_preset(preset) == "smoke":
        base = base.but(dataset="digits", width=8, lr=0.02, epochs=5, batch_size=32, n_train=192, eval_every=5)
        return base, (1, 30, 1000), (0.001, 0.1), (0, 1)
    if preset == "lite":
        base = base.but(dataset="cifar10" if data.available("cifar10") else "cifar10-jpeg", width=8, epochs=6)
        return base, (1, 30, 1000), (0.001, 0.1), (0,)
    return base, (1, 3, 10, 30, 100, 300, 1000), (0.001, 0.01, 0.1), SEEDS


def _lazy(preset: str, runs: Sequence[Run]) -> list[Measurement]:
    options = {"samples": 100, "hessian_samples": 10} if preset == "smoke" else {}
    return [Measurement(run, "laziness", options) for run in runs]


def vgg_linearization(preset: str) -> list[Measurement]:
    """Figure 17: VGG-11, centered, with targets y/α, trained by SGD and by SAM at each ρ; and how lazily."""
    base, alphas, rhos, seeds = _vgg(preset)
    return _lazy(preset, [run for alpha in alphas for run in with_sam(base.but(alpha=alpha), rhos, seeds)])


def vgg_learning_rate(preset: str) -> list[Run]:
    """Beside Figure 17: the search for its learning rate, by SGD at α = 1."""
    base, _, _, seeds = _vgg(preset)
    rates = (0.005, 0.01, 0.02, 0.04) if preset == "smoke" else (0.003, 0.01, 0.03, 0.1)
    return [base.but(lr=lr, alpha=1, seed=seeds[0]) for lr in rates]


def vgg_scaled_radius(preset: str) -> list[Measurement]:
    """Beside Figure 17: SAM whose radius falls as 1/α, as the distance does that lazy training travels."""
    base, alphas, _, seeds = _vgg(preset)
    sam = base.but(optimizer="sam")
    return _lazy(preset, [sam.but(alpha=a, rho=LINEARIZATION_RHO / a, seed=seed) for a in alphas for seed in seeds])


def vgg_tangent(preset: str) -> list[Measurement]:
    """Beside Figure 17: the tangent model by SGD, which is the same at every α, and by SAM at the largest α and the
    smallest ρ of the figure, given at α = 1 with the radius that is equivalent to it, αρ."""
    base, alphas, rhos, seeds = _vgg(preset)
    tangent = base.but(linearize="tangent")
    return _lazy(preset, with_sam(tangent, (max(alphas) * min(rhos),), seeds))


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
        cifar_resnet,
        cifar_resnet_twice,
        cifar_resnet_without_decay,
        cifar_vit,
        cifar_vit_twice,
        imagenet_resnet50,
        mnist_sparse,
        mnist_structured,
        cifar_sparse,
        mnist_flatness,
        vgg_linearization,
        vgg_learning_rate,
        vgg_scaled_radius,
        vgg_tangent,
    )
}


def table(grid: Sequence[Run | Measurement]) -> pandas.DataFrame:
    """What a grid, or that of the runs that are measured, varies: one row a combination of all fields but ρ and seed,
    which are listed; then how many runs. Fields that are the same in the whole grid are left out."""
    runs = dict.fromkeys(what.run if isinstance(what, Measurement) else what for what in grid)
    frame = pandas.DataFrame([run.as_dict() for run in runs])
    varied = [name for name in frame if (frame[name] != frame[name].iloc[0]).any() and name not in ("rho", "seed")]
    frame["rho"] = frame["rho"].map("{:g}".format)
    groups = frame.groupby(varied, sort=False, dropna=False) if varied else frame.groupby(lambda _: 0)
    listed = groups.agg(
        rho=("rho", lambda s: ", ".join(dict.fromkeys(s))),
        seeds=("seed", lambda s: ", ".join(map(str, sorted(set(s))))),
        runs=("seed", "size"),
    )
    return listed.reset_index() if varied else listed.reset_index(drop=True)


def presets(*names: str) -> pandas.DataFrame:
    """The settings of experiments together: one row a field of `Run` that is not the default everywhere, or that
    Appendix A names for each workload; one column a preset: the values of its runs, ascending; then their number."""
    default, columns = Run().as_dict(), {}
    for preset in PRESETS:
        runs = dict.fromkeys(run for name in names for run in EXPERIMENTS[name](preset))
        frame = pandas.DataFrame([run.as_dict() for run in runs])
        told = {field: ", ".join(_plain(value) for value in sorted(set(frame[field]))) for field in default}
        columns[preset] = told | {"runs": str(len(runs))}
    found = pandas.DataFrame(columns)
    plain = pandas.Series({field: _plain(value) for field, value in default.items()}).reindex(found.index)
    return found[found.ne(plain, axis=0).any(axis=1) | found.index.isin(["model", "lr", "weight_decay"])]


def _plain(value) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
