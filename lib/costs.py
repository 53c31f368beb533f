"""What a sparse network costs: where its weights sit, what they would save, and what they save on this machine.

A weight of a linear layer is used once a sample, one of a convolution once at each position of its output, so a forward
pass on one sample takes Σ_layers positions · weights multiplications, of which a mask leaves Σ positions · kept. The
backward pass takes about twice as many, and SAM twice the whole. No kernel for dense products skips what is masked:
"counted" costs are what an ideal machine would take, "executed" ones what is done by units that know 2:4 patterns, and
measured ones what a core of this machine takes.
"""

import copy
import functools
import math
import time
import warnings
from collections.abc import Callable

import pandas
import torch
from torch import nn

from lib import data, records, sizes, sparsity
from lib.runs import Run

# Sparse tensor cores take 2 of every 4 inputs at twice the dense rate in half precision and know no other pattern, so
# that 1:4 runs as 2:4, on inputs filled up to a multiple of four. Every other mask runs through the dense product.
EXECUTED, GROUP = 2, 4
MARGIN = 1.25  # ratios of times nearer to 1 than this tell nothing


def multiplications(model: nn.Module, in_shape: tuple[int, ...]) -> dict[str, int]:
    """The multiplications of each Linear and convolution layer in a forward pass on one sample of C×H×W.

    Keys as in `sparsity.prunable`. A model on the meta device will do. It is left in evaluation mode. Raises ValueError
    for a model that takes weights of a layer without calling it, as attention does, since these would go uncounted, and
    for one without such a layer.
    """
    counts, hooks = {}, []

    def count(name, weight):
        def hook(module, inputs, output):
            # One output number takes numel/outputs weights: all of a linear layer's row, a convolution's whole kernel.
            counts[name] = counts.get(name, 0) + output[0].numel() * weight.numel() // weight.shape[0]

        return hook

    weights = sparsity.prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer whose multiplications could be counted")
    modules = [module for module in model.modules() if isinstance(module, sparsity.PRUNABLE)]
    try:
        for name, weight in weights.items():
            sharing = (module for module in modules if module.weight is weight)
            hooks += [module.register_forward_hook(count(name, weight)) for module in sharing]
        with torch.no_grad():
            one = next(iter(weights.values()))
            model.eval()(torch.zeros(1, *in_shape, device=one.device, dtype=one.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    uncalled = [name for name in weights if name not in counts]
    if uncalled:
        raise ValueError(f"{', '.join(uncalled)}: never called as a layer, so its multiplications are not known")
    return counts


def layers(table: pandas.DataFrame) -> pandas.DataFrame:
    """Where the remaining weights sit, one row a network and layer, from the records of a table of `sweep`.

    Columns: width, sparsity, pruner ("dense" at sparsity 0), parameters, seed, key (of one run that has this mask),
    layer (its number), name, weights, kept, share (kept/weights), dense (multiplications a sample), counted (those with
    kept weights), executed (those that are done, see EXECUTED).

    A mask is a function of the seed, not of the optimizer: there is one network a width, sparsity, pruner and seed. Of
    a sparse network without a record nothing is said.
    """
    rows = []
    shown = table.assign(kept=[(p or {}).get("kept") for p in table["provenance"]])
    shown = shown[shown["kept"].notna() | (shown["sparsity"] == 0)]
    for row in shown.drop_duplicates(["width", "sparsity", "pruner", "seed"]).itertuples():
        run = Run.of_row(row._asdict())
        network = {"width": run.width, "sparsity": run.sparsity, "pruner": run.pruner if run.sparsity else "dense"}
        network |= {"parameters": sizes.remaining(run), "seed": run.seed, "key": run.key}
        for i, (name, (shape, dense)) in enumerate(_layers(run).items()):
            weights, inputs = shape.numel(), shape[1]
            kept = row.kept[name] if run.sparsity else weights
            halved = run.sparsity and run.pruner in sparsity.PATTERNS
            executed = min(dense, dense // inputs * EXECUTED * math.ceil(inputs / GROUP)) if halved else dense
            layer = {"layer": i + 1, "name": name, "weights": weights, "kept": kept, "share": kept / weights}
            layer |= {"dense": dense, "counted": dense * kept // weights, "executed": executed}
            rows.append(network | layer)
    columns = ["width", "sparsity", "pruner", "parameters", "seed", "key", "layer", "name", "weights", "kept", "share"]
    return pandas.DataFrame(rows, columns=[*columns, "dense", "counted", "executed"])


def sparsest(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of `layers` for the sparsest networks that have records; network: their width and sparsity in words."""
    found = layers(table).query("sparsity > 0")
    found = found[found["sparsity"] == found["sparsity"].max()]
    width, removed = found["width"].max(), 100 * found["sparsity"].max()
    return found.assign(network=f"width {width:g}, {removed:.0f}% removed")


@functools.cache
def _layers(run: Run) -> dict[str, tuple[torch.Size, int]]:
    model = copy.deepcopy(sizes.outline(run))  # to count on
    products = multiplications(model, data.shapes(run.dataset)[1])
    return {layer: (weight.shape, products[layer]) for layer, weight in sparsity.prunable(model).items()}


def networks(table: pandas.DataFrame) -> pandas.DataFrame:
    """The multiplications of a forward pass on one sample, one row a width, sparsity and pruner: columns dense (of the
    parent), counted (with kept weights, mean over seeds) and executed."""
    cells, costs = ["width", "sparsity", "pruner", "parameters"], ["dense", "counted", "executed"]
    return layers(table).groupby([*cells, "seed"])[costs].sum().groupby(cells).mean().reset_index()


def measured(table: pandas.DataFrame) -> pandas.DataFrame:
    """CPU seconds of the products of a forward pass on a batch, one row a width, sparsity and pruner: column measured.

    Each layer by the faster of the dense kernel and that for sparse rows (`seconds`), with the share that it keeps on
    average over seeds. Raises ValueError for networks with convolutions, for which torch has no sparse kernel.
    """
    parents = {row.width: _layers(Run.of_row(row._asdict())) for row in table.drop_duplicates("width").itertuples()}
    if any(len(shape) > 2 for parent in parents.values() for shape, _ in parent.values()):
        raise ValueError(f"{table['model'].iloc[0]}: has convolutions, for which there is no sparse kernel to measure")
    rows = []
    for (width, removed, pruner), network in layers(table).groupby(["width", "sparsity", "pruner"]):
        total = 0.0
        for name, share in network.groupby("name")["share"].mean().items():
            (outputs, inputs), _ = parents[width][name]
            times = seconds(inputs, outputs, max(share, 1 / (inputs * outputs)))
            total += times[["dense", "sparse rows"] if removed else ["dense"]].min()
        rows.append({"width": width, "sparsity": removed, "pruner": pruner, "measured": total})
    return pandas.DataFrame(rows, columns=["width", "sparsity", "pruner", "measured"])


def relieves(times: pandas.DataFrame) -> tuple[str, bool | None]:
    """Whether a kernel for sparse rows takes less time than the dense parent's product at every sparsity, in words and
    as a verdict; times: rows as of `seconds`, named by the network. None where that is within MARGIN, as such times
    differ from one moment to the next."""
    rows, small, masked = (
        times[kernel] / times[beside]
        for kernel, beside in (("sparse rows", "dense"), ("sparse rows", "small dense"), ("masked", "dense"))
    )
    processor = records.hardware(torch.device("cpu"))
    told = ", ".join(f"{ratio:.2g} at {name}" for name, ratio in rows.items())
    told = f"by sparse rows a product takes, in times of the dense parent's, {told}; of a small dense one's "
    told += f"{small.min():.2g} to {small.max():.2g}; by the dense kernel after masking {masked.min():.2g} to "
    told += f"{masked.max():.2g} of the parent's; timed while this was computed, on one core of {processor}"
    return told, None if 1 / MARGIN < rows.max() < MARGIN else bool(rows.max() < 1)


def seconds(inputs: int, outputs: int, kept: float, *, batch: int = 128, repeats: int = 30) -> pandas.Series:
    """Seconds of one core for a product of a batch with an outputs×inputs matrix of which a share `kept` is not 0.

    By the dense kernel, by the dense kernel after masking, by a kernel for compressed sparse rows, and by the dense
    kernel on a matrix with as many numbers as are kept; of each the least of so many repeats.
    """
    layer = nn.Linear(inputs, outputs, bias=False)
    weight, x = layer.weight.detach(), torch.randn(batch, inputs, generator=torch.Generator().manual_seed(0))
    mask = sparsity.random_mask(layer, 1 - kept, seed=0)["weight"]
    small = weight[: max(1, round(kept * outputs))].contiguous()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch calls the format beta
        rows = (weight * mask).to_sparse_csr()
    kernels: dict[str, Callable[[], torch.Tensor]] = {
        "dense": lambda: x @ weight.T,
        "masked": lambda: x @ (weight * mask).T,
        "sparse rows": lambda: (rows @ x.T).T,
        "small dense": lambda: x @ small.T,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # time on other threads would not be counted, and not every kernel uses them
    try:
        return pandas.Series({name: min(_time(kernel) for _ in range(repeats)) for name, kernel in kernels.items()})
    finally:
        torch.set_num_threads(threads)


def _time(kernel: Callable[[], torch.Tensor]) -> float:
    began = time.thread_time()
    kernel()
    return time.thread_time() - began
