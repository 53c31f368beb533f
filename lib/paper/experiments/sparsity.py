"""Section 6: large networks pruned at initialization to the size of a small dense one. (Figures 7, 8 and 14 to 16)"""

from collections.abc import Sequence

from lib.models import masking
from lib.paper.experiments.grids import RHOS, SEEDS, SMOKE_RHOS, with_sam
from lib.paper.experiments.width import cifar_resnet, mnist_mlp
from lib.runs import Run, parameter_count


def sparsified(dense: Run, widths: Sequence[float], rhos: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    """`dense`, and networks of `widths` brought to its parameter count by each unstructured method (Section 6), all
    trained by SGD and by SAM."""
    target = parameter_count.parameters(dense)
    runs = with_sam(dense, rhos, seeds)
    for width in widths:
        removed = masking.matching(parameter_count.outline(dense.but(width=width)), target)
        for pruner in masking.UNSTRUCTURED:
            runs += with_sam(dense.but(width=width, sparsity=removed, pruner=pruner), rhos, seeds)
    return runs


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
    for width, (pattern, (n, m)) in zip(widths, masking.PATTERNS.items(), strict=True):
        structured = base.but(width=width, sparsity=1 - n / m, pruner=pattern)
        matched = masking.matching(parameter_count.outline(structured), parameter_count.remaining(structured))
        others = [structured.but(sparsity=matched, pruner=pruner) for pruner in masking.UNSTRUCTURED]
        runs += [run for one in (structured, *others) for run in with_sam(one, rhos)]
    return runs


def budgets(grid: Sequence[Run]) -> dict[int, list[Run]]:
    """The runs of a grid of Section 6 by the number of parameters that they share, which is that of a dense network.
    (Random masks round in each layer, so theirs are off by a few.)"""
    left = {run: parameter_count.remaining(run) for run in grid}
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
