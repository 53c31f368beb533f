"""How many features a trained network uses: the rank of its hidden layers, the units that are on, their directions.

For each layer of ReLU units, on N samples, with A the N×d activations and w_j the incoming weights and bias of unit j:

    rank          principal components of A that hold 99% of its variance
    active        share of units × samples that are on; live: share of units that are on for some sample
    directions    groups of live units whose w_j/‖w_j‖ point the same way: linked by a cosine of at least 0.99

SAM is said to lower the rank by switching units off ("Sharpness-Aware Minimization Leads to Low-Rank Features").
"""

import contextlib

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from lib.core import interruption

VARIANCE, COSINE = 0.99, 0.99


def check(run) -> None:
    """Raise ValueError for a linearized run."""
    if run.linearize != "none":
        raise ValueError(f"linearize = {run.linearize!r}: features are measured of networks as they are, 'none'")


def features(before: nn.Module, after: nn.Module, batches, run, *, samples: int = 1000) -> dict:
    """The quantities above after training, on the first `samples` training samples, as many of each class.

    layers: the names of the layers whose outputs the ReLUs take, in the order of the pass; all other values are lists
    in that order. units: their outputs, channels of a convolution, whose units are on wherever one of their positions
    is. Raises ValueError for a linearized run and for a network that calls no nn.ReLU.
    """
    check(run)
    x, _ = batches.balanced(samples)
    rows = layers(after, x)
    return {"samples": len(x)} | {name: [row[name] for row in rows] for name in rows[0]}


@torch.no_grad()
def layers(model: nn.Module, x: torch.Tensor) -> list[dict]:
    """A row for each nn.ReLU that the pass of x (N×…) calls: layers (its name), units, rank, active, live, directions.

    >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    >>> _ = nn.init.constant_(model[0].weight, 1.0)  # two units alike
    >>> layers(model, torch.tensor([[1.0], [-1.0]]))
    [{'layers': '0', 'units': 2, 'rank': 1, 'active': 0.5, 'live': 1.0, 'directions': 1}]
    """
    names = {module: name for name, module in model.named_modules()}
    rows, last = [], []

    def before_relu(module, inputs, output):
        interruption.check()
        a = output.flatten(2) if output.dim() > 2 else output[:, :, None]
        on = a > 0
        live, unit = on.any(2).any(0), last[-1] if last else None
        if unit is None or len(unit.weight) != a.shape[1]:
            raise ValueError(f"nn.ReLU {names[module]!r}: takes the output of no Linear or Conv layer directly")
        rows.append(
            {
                "layers": names[unit],
                "units": a.shape[1],
                "rank": rank(a.flatten(1)),
                "active": on.double().mean().item(),
                "live": live.double().mean().item(),
                "directions": directions(unit, live),
            }
        )

    with contextlib.ExitStack() as hooks:
        for module in names:
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                hooks.callback(module.register_forward_hook(lambda m, *_: last.append(m)).remove)
            elif isinstance(module, nn.ReLU):
                hooks.callback(module.register_forward_hook(before_relu).remove)
        model(x)
    if not rows:
        raise ValueError("the network calls no nn.ReLU: there are no units to count")
    return rows


def rank(a: torch.Tensor) -> int:
    """Principal components of the rows of a (N×d) that hold VARIANCE of their variance; 0 where they are all alike.

    >>> rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]))
    1
    """
    a = a.double() - a.double().mean(0)
    values = torch.linalg.eigvalsh(a @ a.T if len(a) < a.shape[1] else a.T @ a).flip(0).clamp(min=0)
    total = values.sum()
    if total <= len(a) * torch.finfo(torch.float32).eps ** 2 * a.square().max():
        return 0
    return int((values.cumsum(0) < VARIANCE * total).sum()) + 1


def directions(layer: nn.Module, live: torch.Tensor) -> int:
    """Groups of the live units of a Linear or Conv layer that point the same way, biases included."""
    w = layer.weight.flatten(1)[live].double()
    if layer.bias is not None:
        w = torch.cat([w, layer.bias[live].double()[:, None]], 1)
    w = w[w.norm(dim=1) > 0]
    w = w / w.norm(dim=1, keepdim=True)
    return int(connected_components(csr_array((w @ w.T >= COSINE).cpu().numpy()), directed=False)[0]) if len(w) else 0
