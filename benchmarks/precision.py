"""How much of SAM's correction g(w + ε) − g(w) a precision keeps: ‖its − float64's‖ / ‖float64's‖, by width and ρ.

`python -m benchmarks.precision` measures it on a CPU, prints the table and writes the JSON. bf16 is autocast with
float32 weights, ε and norms. tf32, which no CPU has, is float32 with the factors of every product rounded to tf32's 10
bits; a GPU's own is in benchmarks/gpu.json.
"""

import json
from pathlib import Path

import pandas
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_checks import gradient
from lib import models
from lib.core.ambient import exactly
from lib.core.seeds import generator

RHOS = (0.0005, 0.005, 0.05, 0.2)
WIDTHS = {"mlp": (0.25, 1, 4), "resnet18": (4, 8)}
PRECISIONS = ("float32", "tf32", "bf16")
BATCH = 128
FILE = Path(__file__).with_suffix(".json")


class RoundedFactors(TorchDispatchMode):
    """Within this context matrix products and convolutions see their float32 factors rounded to tf32."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("mm", "addmm", "bmm", "convolution", "convolution_backward"):
            args = [rounded(a) if isinstance(a, torch.Tensor) else a for a in args]
        return function(*args, **(kwargs or {}))


def rounded(x: torch.Tensor) -> torch.Tensor:
    """x to the nearest number of 10 bits behind the point, ties away from 0."""
    if x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def errors(model: str, width: float) -> list[dict]:
    """One row for each ρ: the error in each precision, of a network at initialization, on random inputs."""
    shape = (1, 28, 28) if model == "mlp" else (3, 32, 32)
    draws = generator(0, "precision")
    x, y = torch.randn(BATCH, *shape, generator=draws), torch.randint(10, (BATCH,), generator=draws)
    kept = {}
    for precision in ("float64", *PRECISIONS):
        net = models.build(model, width=width, in_shape=shape, classes=10, seed=0).train()
        with exactly(torch.device("cpu")):
            kept[precision] = _corrections(net, x, y, precision)
    rows = []
    for i, rho in enumerate(RHOS):
        exact = kept["float64"][i]
        off = {name: (kept[name][i].double() - exact).norm() / exact.norm() for name in PRECISIONS}
        rows.append({"network": f"{model} {width:g}", "rho": rho} | {k: float(f"{v:.2g}") for k, v in off.items()})
    return rows


def _corrections(net: nn.Module, x, y, precision: str) -> list[torch.Tensor]:
    """The correction for each of the RHOS."""
    if precision == "float64":
        net, x = net.double(), x.double()
    parameters = list(net.parameters())
    w = nn.utils.parameters_to_vector(parameters).detach()

    def at(point):
        nn.utils.vector_to_parameters(point, parameters)
        if precision == "tf32":
            with RoundedFactors():
                return gradient(net, x, y)
        return gradient(net, x, y, bf16=precision == "bf16")

    g = at(w)
    return [at(w + rho * g / g.norm()) - g for rho in RHOS]


def main() -> None:
    """Print the table and write it beside this file."""
    rows = [row for model, widths in WIDTHS.items() for width in widths for row in errors(model, width)]
    print(pandas.DataFrame(rows).to_string(index=False))
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
