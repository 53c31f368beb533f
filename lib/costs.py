"""What a sparse network costs: where its weights sit, what they would save, and what they save on this machine.

A weight of a linear layer is used once a sample, one of a convolution once at each position of its output, so a forward
pass on one sample takes Σ_layers positions · weights multiplications, of which a mask leaves Σ positions · kept. The
backward pass takes about twice as many, and SAM twice the whole. No kernel for dense products skips what is masked:
"counted" costs are what an ideal machine would take, "executed" ones what is done where `EXECUTED` says so.
"""

import functools
import time
import warnings
from collections.abc import Callable

import pandas
import torch
from torch import nn

from lib import benefit, data, models, sparsity

# The share of the dense products that is executed. A masked layer runs through the dense product; sparse tensor cores
# take 2:4 at twice the dense rate in half precision and know no other pattern, so that 1:4 runs as 2:4.
EXECUTED = {"random": 1.0, "snip": 1.0, "2:4": 0.5, "1:4": 0.5}


def multiplications(model: nn.Module, in_shape: tuple[int, ...]) -> dict[str, int]:
    """The multiplications of each Linear and convolution layer in a forward pass on one sample of C×H×W.

    Keys as in `sparsity.prunable`. A model on the meta device will do. It is left in evaluation mode.
    """
    counts, hooks = {}, []

    def count(name, weight):
        def hook(module, inputs, output):
            # One output number takes numel/outputs weights: all of a linear layer's row, a convolution's whole kernel.
            counts[name] = counts.get(name, 0) + output[0].numel() * weight.numel() // weight.shape[0]

        return hook

    weights = sparsity.prunable(model)
    modules = {id(module.weight): module for module in model.modules() if isinstance(module, sparsity.PRUNABLE)}
    try:
        for name, weight in weights.items():
            hooks.append(modules[id(weight)].register_forward_hook(count(name, weight)))
        with torch.no_grad():
            model.eval()(torch.zeros(1, *in_shape, device=next(iter(weights.values())).device))
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def layers(table: pandas.DataFrame) -> pandas.DataFrame:
    """Where the remaining weights sit, one row a network and layer, from the records of a table of `sweep`.

    Columns: width, sparsity, pruner, parameters, seed, layer (its number), name, weights, kept, share (kept/weights),
    dense (multiplications a sample), counted (those with kept weights).

    A mask is a function of the seed, not of the optimizer: there is one network a width, sparsity, pruner and seed. Of
    a sparse network without a record nothing is said.
    """
    rows = []
    shown = table.assign(kept=[(p or {}).get("kept") for p in table["provenance"]])
    shown = shown[shown["kept"].notna() | (shown["sparsity"] == 0)]
    for row in shown.drop_duplicates(["width", "sparsity", "pruner", "seed"]).itertuples():
        network = {name: getattr(row, name) for name in ("width", "sparsity", "pruner")}
        count = benefit.parameters(row)
        for i, (name, (weights, dense)) in enumerate(_sizes(row.dataset, row.model, row.width).items()):
            kept = row.kept[name] if row.sparsity else weights
            layer = {"layer": i + 1, "name": name, "weights": weights, "kept": kept, "share": kept / weights}
            layer |= {"dense": dense, "counted": dense * kept // weights}
            rows.append(network | {"parameters": count, "seed": row.seed} | layer)
    columns = ["width", "sparsity", "pruner", "parameters", "seed", "layer", "name", "weights", "kept", "share"]
    return pandas.DataFrame(rows, columns=[*columns, "dense", "counted"])


def sparsest(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of `layers` for the sparsest networks that have records; network: their width and sparsity in words."""
    found = layers(table).query("sparsity > 0")
    found = found[found["sparsity"] == found["sparsity"].max()]
    width, removed = found["width"].max(), 100 * found["sparsity"].max()
    return found.assign(network=f",\nwidth {width:g}, {removed:.0f}% removed")


@functools.cache
def _sizes(dataset: str, name: str, width: float) -> dict[str, tuple[int, int]]:
    classes, in_shape = data.shapes(dataset)
    model = models.outline(name, width=width, in_shape=in_shape, classes=classes)
    products = multiplications(model, in_shape)
    return {layer: (weight.numel(), products[layer]) for layer, weight in sparsity.prunable(model).items()}


def networks(table: pandas.DataFrame) -> pandas.DataFrame:
    """The multiplications of a forward pass on one sample, one row a width, sparsity and pruner: columns dense (of the
    parent), counted (with kept weights, mean over seeds) and executed (`EXECUTED`)."""
    cells = ["width", "sparsity", "pruner"]
    found = layers(table).groupby([*cells, "parameters", "seed"])[["dense", "counted"]].sum()
    found = found.groupby([*cells, "parameters"]).mean().reset_index()
    share = found["pruner"].map(EXECUTED).where(found["sparsity"] > 0, 1.0)
    return found.assign(executed=found["dense"] * share)


def seconds(inputs: int, outputs: int, kept: float, *, batch: int = 128, repeats: int = 30) -> pandas.Series:
    """CPU seconds of one product of a batch with an outputs×inputs matrix of which a share `kept` is not 0.

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
    return pandas.Series({name: min(_time(kernel) for _ in range(repeats)) for name, kernel in kernels.items()})


def _time(kernel: Callable[[], torch.Tensor]) -> float:
    began = time.thread_time()
    kernel()
    return time.thread_time() - began
