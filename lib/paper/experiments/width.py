"""Section 5: SGD and SAM over the widths of four architectures. (Figures 3 to 6 and 9 to 13)"""

from collections.abc import Sequence

from lib.paper.experiments.grids import RHOS, SEEDS, SMOKE_RHOS, check_preset, cifar10, with_sam
from lib.runs import Run

PUBLISHED_WIDTHS = (0.25, 0.5, 1.0, 4.0, 10.0)  # 0.06, 0.13, 0.27, 1.43 and 5.37 million parameters, as in Figure 3a
MNIST_WIDTHS = tuple(sorted((*PUBLISHED_WIDTHS, 2.0, 5.0)))  # two more of ours


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
    return base.but(dataset=cifar10(preset), epochs=CIFAR_EPOCHS[preset])


def _convolutional(base: Run, widths: Sequence[float], smoke: Sequence[float]) -> list[Run]:
    if base.dataset == "digits":
        return [run for width in smoke for run in with_sam(base.but(width=width), rhos=SMOKE_RHOS, seeds=(0, 1))]
    return [run for width in widths for run in with_sam(base.but(width=width))]


def twice(grid: Sequence[Run]) -> list[Run]:
    """The SGD runs of a grid for twice the epochs: with as many gradients as SAM takes (compute-matched)."""
    return [run.but(epochs=2 * run.epochs) for run in grid if run.optimizer == "sgd"]


def mnist_mlp_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `mnist_mlp`."""
    return twice(mnist_mlp(preset))


FIXED_WIDTHS = (0.25, 0.5, 1.0, 4.0)
FIXED_RHOS = (0.05, 0.1)
FIXED_SEEDS = range(14)


def mnist_fixed_radius(preset: str) -> list[Run]:
    """The MLP at four widths, with SGD and SAM at two ρ that are not chosen, for many seeds: a gap without a search."""
    grid = mnist_mlp(preset)
    if preset == "smoke":  # the runs that the search has, all but the smallest width
        return [run for run in grid if run.width > 0.1 and run.rho in (0, *FIXED_RHOS)]
    sgd = [run for run in grid if run.width in FIXED_WIDTHS and run.optimizer == "sgd" and run.seed == SEEDS[0]]
    return [run for base in sgd for run in with_sam(base, rhos=FIXED_RHOS, seeds=FIXED_SEEDS)]


RELEASED = dict(schedule="three_steps", standardize=False, initialization="lecun", strict_threshold=True)
RELEASED_SEEDS = range(10)


def mnist_as_released(preset: str) -> list[Run]:
    """`mnist_mlp` as the paper's released code trains it, where that departs from Appendix A, on one device.

    Two widths, SGD and SAM at two ρ, ten seeds; at smoke the two largest widths and three seeds, at paper the published
    widths in full. The accuracy that the code reports is the best of all epochs (`lib.paper.analysis.reported`)."""
    grid = [run.but(**RELEASED) for run in mnist_mlp(preset)]
    if preset == "smoke":
        return [run for run in grid if run.width > 0.1 and run.rho in (0, *FIXED_RHOS)]
    if preset == "paper":
        return [run for run in grid if run.width in PUBLISHED_WIDTHS]
    sgd = [run for run in grid if run.width in (0.25, 1.0) and run.optimizer == "sgd" and run.seed == SEEDS[0]]
    return [run for base in sgd for run in with_sam(base, rhos=FIXED_RHOS, seeds=RELEASED_SEEDS)]


def cifar_resnet_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `cifar_resnet`."""
    return twice(cifar_resnet(preset))


def cifar_vit_twice(preset: str) -> list[Run]:
    """Compute-matched SGD for `cifar_vit`."""
    return twice(cifar_vit(preset))
