"""λ_max of a ResNet-18 and a small transformer, by `lib.hessian` and beside it, and what one product costs.

    python -m benchmarks.hessian_networks [--samples 16] [--rounds 3] [--threads 2] [--compile]

Both are trained for a few steps on handwritten digits first. Peers take the loosest of their tolerances that gives
1e-5 here. Two need no more than torch and SciPy: eigsh, and power iteration as PyHessian has it, on double backward
with the graph of the gradient kept. Printed and written to benchmarks/hessian_networks.json: seconds, medians of rounds
in which all take turns; products; the error of λ_max and the residual ‖Hv − λv‖/λ, of a float64 Hessian.
`--compile` also times products by torch.compile. A package that is not installed is named and left out:

    .venv/bin/python -m pip install --editable ".[bench]"

Read the ratios. Times are of the CPU with `--threads 1`, for machines that are shared.
"""

import argparse
import copy
import itertools
import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from benchmarks.hessian import ACCURACY, CPU, absent, timed
from lib import data, hessian
from lib.core.seeds import generator
from lib.hessian import operators
from lib.hessian.autodiff import plain_attention
from lib.models import build
from lib.runs import records

TOLERANCES = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7)
STEPS = (8, 12, 16, 20, 24, 32, 48)  # of hessian-eigenthings, whose Lanczos takes their number instead of a tolerance
LIMIT = 300  # products of a peer
criterion = nn.functional.cross_entropy


class Transformer(nn.Module):
    """An encoder of two layers over the rows of an image."""

    def __init__(self, row: int, rows: int, width: int = 64, classes: int = 10):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.enter, self.at = nn.Linear(row, width), nn.Parameter(torch.zeros(rows, width))
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.encoder(self.enter(x) + self.at).mean(1))


def networks(samples: int):
    """(name, network in evaluation mode, inputs, labels): so many digits of 32 × 32 pixels in three channels, and eight
    times as many as rows of pixels."""
    digits = data.load("digits", "train")
    rows, y = data.standardize(digits.x, "digits"), digits.y
    images = nn.functional.interpolate(rows, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    torch.manual_seed(0)
    resnet = build("resnet18", width=16, in_shape=(3, 32, 32), classes=10, seed=0)
    for name, model, x in (("ResNet-18", resnet, images), ("transformer", Transformer(8, 8), rows[:, 0])):
        count = samples if model is resnet else 8 * samples
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for i in torch.randperm(len(x), generator=generator(0, "order"))[:640].split(32):
            optimizer.zero_grad()
            criterion(model(x[i]), y[i]).backward()
            optimizer.step()
        yield name, model.eval(), x[:count].contiguous(), y[:count]


class Plain:
    """v ↦ Hv by double backward with the graph of the gradient kept, and how many there were."""

    def __init__(self, model, x, y):
        self.weights, self.products = list(model.parameters()), 0
        with plain_attention():
            self.gradient = torch.autograd.grad(criterion(model(x), y), self.weights, create_graph=True)
        self.size = sum(w.numel() for w in self.weights)

    def __call__(self, v):
        self.products += 1
        parts = [p.view_as(w) for p, w in zip(v.split([w.numel() for w in self.weights]), self.weights, strict=True)]
        rows = torch.autograd.grad(self.gradient, self.weights, parts, retain_graph=True)
        return torch.cat([row.flatten() for row in rows])


def power_iteration(model, x, y, tol):
    """(value, vector, products), as PyHessian's `eigenvalues`: until the value changes by less than tol a product."""
    product, last = Plain(model, x, y), None
    v = torch.randn(product.size, generator=generator(0, "power"))
    v /= v.norm()
    while True:
        image = product(v)
        value = (image @ v).item()
        if product.products == LIMIT or (last is not None and abs(value - last) / (abs(last) + 1e-6) < tol):
            return value, v, product.products
        last, v = value, image / image.norm()


def plain_eigsh(model, x, y, tol):
    product = Plain(model, x, y)
    operator = LinearOperator((product.size,) * 2, lambda v: product(torch.from_numpy(v.ravel())).numpy(), dtype="f4")
    start = torch.randn(product.size, generator=generator(0, "eigsh")).numpy()
    values, vectors = eigsh(operator, k=1, which="LA", tol=tol, v0=start, ncv=20)
    return float(values[0]), torch.from_numpy(np.ascontiguousarray(vectors[:, 0])), product.products


@plain_attention()
def curvlinops(model, x, y, tol):
    from curvlinops import HessianLinearOperator

    weights = list(model.parameters())
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), weights, [(x, y)], check_deterministic=False)
    values, vectors = eigsh(operator.to_scipy(), k=1, which="LA", tol=tol)
    return float(values[0]), torch.from_numpy(np.ascontiguousarray(vectors[:, 0])), None


@plain_attention()
def pyhessian(model, x, y, tol):
    import pyhessian

    model.zero_grad()
    found = pyhessian.hessian(model, criterion, data=(x, y), cuda=False)
    values, vectors = found.eigenvalues(maxIter=LIMIT, tol=tol)
    model.zero_grad()
    return values[0], torch.cat([part.flatten() for part in vectors[0]]), None


@plain_attention()
def eigenthings(model, x, y, steps):
    from hessian_eigenthings import HessianOperator, lanczos

    operator = HessianOperator(model, [(x, y)], lambda model, batch: criterion(model(batch[0]), batch[1]))
    found = lanczos(operator, k=1, max_iter=steps, which="LA", seed=0)
    return found.eigenvalues[0].item(), found.eigenvectors[0].detach(), None


def ours(find):
    def call(model, x, y, tol):
        top = find(model, "cross_entropy", x, y)
        return top.value, top.vector, top.iterations

    return call


OWN = {"hessian.sharpness": ours(hessian.sharpness), "hessian.top": ours(lambda *given: hessian.top(*given)[0])}
OTHERS = {"eigsh, double backward": plain_eigsh, "power iteration, double backward": power_iteration}
# within `plain_attention`: torch's fused attention has no second derivatives, and all three fail at it
PACKAGES = {"curvlinops": curvlinops, "pyhessian": pyhessian, "hessian_eigenthings": eigenthings}


def largest(model, x, y, rounds: int) -> dict:
    """Of each method: seconds, its ratio to hessian.sharpness, products, error and residual; with PyHessian's own
    tolerance as well."""
    exact = hessian.sharpness(model.double(), "cross_entropy", x.double(), y, tol=1e-9).value
    reference = operators.mean_hessian(hessian.sample_hessians(copy.deepcopy(model), "cross_entropy", x.double(), y))
    model.float()
    others = OTHERS | {name: call for name, call in PACKAGES.items() if name not in absent(PACKAGES)}
    calls = {name: lambda call=call: call(model, x, y, None) for name, call in OWN.items()}
    for name, call in others.items():
        unit, settings = ("steps", STEPS) if call is eigenthings else ("tol", TOLERANCES)
        for setting in settings:
            if abs(call(model, x, y, setting)[0] / exact - 1) <= ACCURACY:
                break
        calls[f"{name}, {unit} {setting:g}"] = lambda call=call, setting=setting: call(model, x, y, setting)
    calls["power iteration, PyHessian's tol 0.001"] = lambda: power_iteration(model, x, y, 1e-3)
    times, results = {name: [] for name in calls}, {}
    for _, (name, call) in itertools.product(range(rounds), calls.items()):
        took, results[name] = timed(call)
        times[name].append(took)
    table = {}
    for name, (value, vector, products) in results.items():
        v = vector.double() / vector.double().norm()
        residual = (reference @ v - value * v).norm().item() / exact
        ratio = statistics.median(map(float.__truediv__, times[name], times["hessian.sharpness"]))
        row = {"seconds": statistics.median(times[name]), "over hessian.sharpness": ratio, "products": products}
        table[name] = row | {"error": abs(value / exact - 1), "residual": residual}
    return table


def products(model, x, y, rounds: int, compile: bool) -> dict:
    """Seconds of one product by each way, after a first one that is not counted; `setup` where that is long."""
    samples = hessian.sample_hessians(model, "cross_entropy", x, y)
    v, plain = torch.randn(samples.size, generator=generator(0, "v")), Plain(model, x, y)
    ways = {
        "lib.hessian": lambda: operators.mean_hessian(samples) @ v,
        "double backward, graph kept": lambda: plain(v),
        "double backward, anew": lambda: Plain(model, x, y)(v),
        "forward over reverse": lambda: samples._product(samples.data.x, samples.data.y, v) / samples.n,
    }
    if compile:
        # What is compiled is the whole product, forward over reverse: a kept graph is none that torch.compile sees.
        compiled = torch.compile(lambda x, y, v: samples._product(x, y, v))
        ways["forward over reverse, torch.compile"] = lambda: compiled(samples.data.x, samples.data.y, v) / samples.n
    table = {}
    for name, way in ways.items():
        try:
            table[name] = {"setup": timed(way)[0], "seconds": []}
        except Exception as failure:  # no compiler, or an operation that torch.compile does not take
            print(f"*** {name}: {type(failure).__name__}: {str(failure).splitlines()[0]} ***", file=sys.stderr)
    for _, name in itertools.product(range(rounds), table):
        table[name]["seconds"].append(timed(ways[name])[0])
    return {name: row | {"seconds": statistics.median(row["seconds"])} for name, row in table.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="also products by torch.compile")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for package in absent(PACKAGES):
        print(f"*** {package} is not installed: no comparison with it ***", file=sys.stderr)
    report = {"absent": absent(PACKAGES)}
    for name, model, x, y in networks(options.samples):
        print(f"{name}, {sum(p.numel() for p in model.parameters())} parameters, {len(x)} samples")
        report[name] = {"samples": len(x), "λ_max": largest(model, x, y, options.rounds)}
        report[name]["a product"] = products(model, x, y, options.rounds, options.compile)
        for label, row in [*report[name]["λ_max"].items(), *report[name]["a product"].items()]:
            numbers = ", ".join(f"{key} {value:.3g}" for key, value in row.items() if value is not None)
            print(f"  {label:42}{numbers}", flush=True)
    provenance = {**records.provenance(CPU), "cores": os.cpu_count(), "threads": options.threads}
    provenance["clock"] = "CPU" if options.threads == 1 else "wall"
    text = json.dumps({"provenance": provenance, **report}, indent=1, ensure_ascii=False)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
