"""Which runs train together, and by which engine: a function of model, width, batch and device, never of a timing."""

import itertools
from collections.abc import Sequence

import torch

from lib import data
from lib.runs import Run, climbing, parameter_count
from lib.training.grouped import Grouped
from lib.training.loop import Loop, PlainLoop
from lib.training.stack import Stack

STACKABLE = ("linear2", "two_layer", "mlp")

# How many runs of one architecture are worth stacking, by the number of parameters of one. On a CPU the products of a
# small network leave time for little but launching them; beyond 600–200 they fill a core by themselves. On a
# GPU all that fits goes together. Convolutions of four filters gain from company on a CPU, most in pairs, whose eight
# channels fill its vectors; at width 8 channels last gives as much, and from 16 on they lose by it. All of it is
# measured by benchmarks/company.py, but not how convolutions do on a GPU, where they go alone.
CPU_MEMBERS = ((100_000, 9), (700_000, 3))
GPU_MEMBERS = 64
OWN = ("seed", "rho", "normalized", "sparsity", "pruner")  # fields in which those that train together may differ
CPU_GROUPED = {"resnet18": (4, 2)}  # up to this width, so many together


def members(run: Run, device: torch.device) -> int:
    """How many runs such as this one are trained together: a function of the model, its width and the device."""
    if not stackable(run):
        width, most = CPU_GROUPED.get(run.model, (0, 1))
        odd = data.streamed(run.dataset) or data.regression(run.dataset) or run.parts > 1 or climbing.special(run)
        groupable = device.type == "cpu" and run.linearize == "none" and not odd
        return most if groupable and run.width <= width else 1
    if device.type != "cpu":
        return GPU_MEMBERS
    return next((most for size, most in CPU_MEMBERS if parameter_count.parameters(run) <= size), 1)


def partition(runs: Sequence[Run], device: torch.device) -> list[list[Run]]:
    """The runs in groups that train together, each sorted as `Stack` needs it; a function of the arguments alone."""
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        own = OWN if run.switch else (*OWN, "optimizer")
        shared = tuple(value for name, value in run.as_dict().items() if name not in own)
        alike.setdefault(shared, []).append(run)
    groups = []
    for same in alike.values():
        most = members(same[0], device)
        count = -(-len(same) // most)
        # Those of one seed go together, as they share the batch, its Gram matrix, and products with it; where they must
        # part, each part gets its share of second passes.
        ordered = sorted(same, key=lambda run: (run.seed, run.rho, run.normalized, run.key))
        seeds = [list(runs) for _, runs in itertools.groupby(ordered, key=lambda run: run.seed)]
        dealt = [run for runs in seeds for i in range(count) for run in runs[i::count]]
        ends = [i * len(same) // count for i in range(count + 1)]
        parts = [dealt[start:end] for start, end in itertools.pairwise(ends)]
        groups += [sorted(part, key=lambda run: run.rho > 0) for part in parts]
    return groups


def engine(runs: Sequence[Run], device: torch.device, *, plain: bool = False):
    """The engine that trains these runs, a group made by `partition`; plain: a single one, by `PlainLoop`."""
    return (PlainLoop if plain else engine_class(runs))(runs, device)


def engine_class(runs: Sequence[Run]) -> type:
    """`Stack` for fully connected networks, `Grouped` for several others, `Loop` for one."""
    if stackable(runs[0]):
        return Stack
    return Grouped if len(runs) > 1 else Loop


def stackable(run: Run) -> bool:
    """Whether `Stack` can train the run: a fully connected network as it is, on data that is not augmented."""
    return run.model in STACKABLE and run.linearize == "none" and not data.augmented(run.dataset)
