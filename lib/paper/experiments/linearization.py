"""Appendix C: VGG-11 trained ever more lazily. (Figure 17)"""

from collections.abc import Sequence

from lib.paper.experiments.grids import SEEDS, check_preset, cifar10, with_sam
from lib.runs import Measurement, Run

LINEARIZATION_RHO = 0.01  # at α = 1 of the series in which ρ falls as 1/α


def _vgg(preset: str) -> tuple[Run, tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """The run that Appendix C scales, and its α, ρ and seeds; the schedule is that of Chizat et al.

    The learning rate is the same at every α (`lib.models.linearize` says why) and for SAM: `vgg_learning_rate` is the
    search.
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
        base = base.but(dataset=cifar10(preset), width=8, epochs=6)
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


def vgg_rates(preset: str) -> list[Measurement]:
    """Beside Figure 17: a learning rate for each α, as Chizat et al. search it, among those at which SAM learns too; by
    SGD and by SAM at the smallest ρ."""
    base, alphas, rhos, seeds = _vgg(preset)
    rates, seeds = ((0.01, 0.02), seeds[:1]) if preset == "smoke" else ((0.001, 0.003), SEEDS)
    runs = [base.but(alpha=alpha, lr=lr) for alpha in alphas for lr in rates]
    return _lazy(preset, [run for one in runs for run in with_sam(one, (min(rhos),), seeds)])


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
