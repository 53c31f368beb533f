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
from torch.utils.flop_counter import FlopCounterMode

from lib import data
from lib.models import masking, pruning
from lib.paper.claims import Finding
from lib.runs import Run, parameter_count, records

# Sparse tensor cores take 2 of every 4 inputs at twice the dense rate in half precision and know no other pattern, so
# that 1:4 runs as 2:4, on inputs filled up to a multiple of four. Every other mask runs through the dense product.
EXECUTED, GROUP = 2, 4
MARGIN = 1.25  # ratios of times nearer to 1 than this tell nothing


def multiplications(model: nn.Module, in_shape: tuple[int, ...]) -> dict[str, int]:
    """The multiplications of each Linear and convolution layer in a forward pass on one sample of C×H×W.

    Keys as in `masking.prunable`. A multiplication is half of what torch counts as a floating point operation. A model
    on the meta device will do. It is left in evaluation mode. Raises ValueError for a model that takes weights of a
    layer without calling it, as attention does, since torch counts by module, and for one without such a layer.

    >>> from lib import models
    >>> multiplications(models.outline("linear2", width=4, in_shape=(1, 2, 3), classes=5), (1, 2, 3))
    {'1.weight': 24, '2.weight': 20}
    """
    weights = masking.prunable(model)
    if not weights:
        raise ValueError("the model has no Linear or convolution layer whose multiplications could be counted")
    one = next(iter(weights.values()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *in_shape, device=one.device, dtype=one.dtype))
    names, counts = {id(weight): name for name, weight in weights.items()}, dict.fromkeys(weights, 0)
    for path, operations in counter.get_flop_counts().items():
        _, _, inside = path.partition(".")  # the first part is the model's class
        module = model.get_submodule(inside)
        if path != "Global" and isinstance(module, masking.PRUNABLE):
            counts[names[id(module.weight)]] += sum(operations.values()) // 2
    uncalled = [name for name, count in counts.items() if not count]
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

    >>> run = Run(dataset="digits", model="linear2", width=4)
    >>> table = pandas.DataFrame([run.as_dict() | {"status": "missing", "provenance": None}])
    >>> layers(table)[["name", "dense"]].values.tolist()  # 64 inputs, 4 units, 10 outputs
    [['1.weight', 256], ['2.weight', 40]]
    """
    rows = []
    shown = table.assign(kept=[(p or {}).get("kept") for p in table["provenance"]])
    shown = shown[shown["kept"].notna() | (shown["sparsity"] == 0)]
    for row in shown.drop_duplicates(["width", "sparsity", "pruner", "seed"]).itertuples():
        run = Run.of_row(row._asdict())
        network = {"width": run.width, "sparsity": run.sparsity, "pruner": run.pruner if run.sparsity else "dense"}
        network |= {"parameters": parameter_count.remaining(run), "seed": run.seed, "key": run.key}
        for i, (name, (shape, dense)) in enumerate(_layers(run).items()):
            weights, inputs = shape.numel(), shape[1]
            kept = row.kept[name] if run.sparsity else weights
            halved = run.sparsity and run.pruner in masking.PATTERNS
            executed = min(dense, dense // inputs * EXECUTED * math.ceil(inputs / GROUP)) if halved else dense
            layer = {"layer": i + 1, "name": name, "weights": weights, "kept": kept, "share": kept / weights}
            layer |= {"dense": dense, "counted": dense * kept // weights, "executed": executed}
            rows.append(network | layer)
    columns = ["width", "sparsity", "pruner", "parameters", "seed", "key", "layer", "name", "weights", "kept", "share"]
    return pandas.DataFrame(rows, columns=[*columns, "dense", "counted", "executed"])


def sparsest(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of `layers` for the sparsest networks that have records; network: their width and sparsity in words."""
    result = layers(table).query("sparsity > 0")
    result = result[result["sparsity"] == result["sparsity"].max()]
    width, removed = result["width"].max(), 100 * result["sparsity"].max()
    return result.assign(network=f"width {width:g}, {removed:.0f}% removed")


@functools.cache
def _layers(run: Run) -> dict[str, tuple[torch.Size, int]]:
    model = copy.deepcopy(parameter_count.outline(run))  # to count on
    products = multiplications(model, data.shapes(run.dataset)[1])
    return {layer: (weight.shape, products[layer]) for layer, weight in masking.prunable(model).items()}


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
            times = product_seconds(inputs, outputs, max(share, 1 / (inputs * outputs)))
            total += times[["dense", "sparse rows"] if removed else ["dense"]].min()
        rows.append({"width": width, "sparsity": removed, "pruner": pruner, "measured": total})
    return pandas.DataFrame(rows, columns=["width", "sparsity", "pruner", "measured"])


def relieves(times: pandas.DataFrame) -> Finding:
    """Whether a kernel for sparse rows takes less time than the dense parent's product at every sparsity, in words and
    whether it does; times: rows as of `seconds`, named by the network. Undecided within MARGIN, as such times differ
    from one moment to the next."""
    rows, small, masked = (
        times[kernel] / times[beside]
        for kernel, beside in (("sparse rows", "dense"), ("sparse rows", "small dense"), ("masked", "dense"))
    )
    processor = records.hardware(torch.device("cpu"))
    sentence = ", ".join(f"{ratio:.2g} at {name}" for name, ratio in rows.items())
    sentence = f"by sparse rows a product takes, in times of the dense parent's, {sentence}; of a small dense one's "
    sentence += f"{small.min():.2g} to {small.max():.2g}; by the dense kernel after masking {masked.min():.2g} to "
    sentence += f"{masked.max():.2g} of the parent's; timed while this was computed, on one core of {processor}"
    close = "the largest ratio is too close to 1" if 1 / MARGIN < rows.max() < MARGIN else ""
    return Finding(sentence, None if close else bool(rows.max() < 1), undecided=close)


def product_seconds(inputs: int, outputs: int, kept: float, *, batch: int = 128, repeats: int = 30) -> pandas.Series:
    """Seconds of one core for a product of a batch with an outputs×inputs matrix of which a share `kept` is not 0.

    By the dense kernel, by the dense kernel after masking, by a kernel for compressed sparse rows, and by the dense
    kernel on a matrix with as many numbers as are kept; of each the least of so many repeats.
    """
    layer = nn.Linear(inputs, outputs, bias=False)
    weight, x = layer.weight.detach(), torch.randn(batch, inputs, generator=torch.Generator().manual_seed(0))
    mask = pruning.random_mask(layer, 1 - kept, seed=0)["weight"]
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
