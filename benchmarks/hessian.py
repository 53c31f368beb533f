"""Side by side: `lib.hessian` and its peers at a perceptron with hidden layers [3000, 1000] on 1,000 MNIST images.

    python benchmarks/hessian.py [--epochs 20] [--samples 1000] [--hidden 3000 1000] [--repeats 3] [--float64]

Prints a table, then one line of JSON. The network is first trained on its samples for `--epochs` epochs, since spectra
are those of minima. Peers are optional and are not installed into the project's environment:

    pip install --target /tmp/peers --no-deps curvlinops-for-pytorch pyhessian backpack-for-pytorch einops einconv \
        unfoldnd linear_operator jaxtyping wadler_lindig
    PYTHONPATH=/tmp/peers python benchmarks/hessian.py

Times are medians of wall seconds in this process; on a shared machine read the ratios.
"""

import argparse
import importlib.util
import itertools
import json
import resource
import statistics
import sys
import time

import torch
from torch import nn

from lib import data, hessian, operators
from lib.paths import ROOT
from lib.seeds import generator

DEVICE = "cpu"


def images(samples: int):
    """Standardized images and labels, and their name: MNIST where it is, else scikit-learn's digits."""
    for root in (None, ROOT.parent / "shared" / "data"):
        try:
            found = data.load("mnist", "train", root=root)
            break
        except data.DataUnavailable:
            found = data.load("digits", "train")
    return data.standardize(found.x[:samples], found.name), found.y[:samples], found.name


def network(x, y, hidden, epochs):
    """A ReLU perceptron trained on (x, y) with ½‖f − y‖², as Figure 2: constant lr 0.1 on ‖f − y‖², no momentum."""
    torch.manual_seed(0)
    sizes = [x[0].numel(), *hidden, 10]
    layers = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += ([nn.ReLU()] if i else []) + [nn.Linear(a, b)]
    model, target = nn.Sequential(*layers), nn.functional.one_hot(y, 10).to(x.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for epoch in range(epochs):
        for i in torch.randperm(len(x), generator=generator(0, "order", epoch)).split(128):
            optimizer.zero_grad()
            mse(model(x[i]), target[i]).backward()
            optimizer.step()
    return model, target


def mse(f, target):
    return 0.5 * (f - target).square().sum() / len(f)


def seconds(call, repeats: int):
    """(median seconds of `call`, what it returned), after a first call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def autograd_product(model, x, target):
    """v ↦ Hv by double backward, the graph of the gradient built anew: what a plain HVP costs."""
    weights = list(model.parameters())

    def product(v):
        parts = [p.view_as(w) for p, w in zip(v.split([w.numel() for w in weights]), weights, strict=True)]
        gradient = torch.autograd.grad(mse(model(x), target), weights, create_graph=True)
        return torch.cat([h.flatten() for h in torch.autograd.grad(gradient, weights, parts)])

    return product


def vmapped_moment(model, x, target, k):
    """v ↦ M_k v by vmapped per-sample Hessian-vector products of torch.func, as one would write it at first."""
    named = {n: p.detach() for n, p in model.named_parameters()}

    def product(x, y, u):
        def gradient(w):
            return torch.func.grad(lambda w: mse(torch.func.functional_call(model, w, (x[None],)), y[None]))(w)

        return torch.func.jvp(gradient, (named,), (u,))[1]

    def moment(v):
        parts = v.split([p.numel() for p in named.values()])
        u = {n: part.view_as(p).expand(len(x), *p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}
        for _ in range(k):
            u = torch.func.vmap(product)(x, target, u)
        return torch.cat([t.mean(0).flatten() for t in u.values()])

    return moment


def eigsh(model, x, target, tol):
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh as solve

    # curvlinops asks the loss for its reduction, so it gets torch's: the mean over samples and outputs.
    weights, loss = list(model.parameters()), nn.MSELoss()
    op = HessianLinearOperator(model, loss, weights, [(x, target)], check_deterministic=False)
    value = solve(op.to_scipy(), k=1, which="LA", tol=tol, return_eigenvectors=False)[0]
    return float(value) * target.shape[1] / 2


def power_iteration(model, x, target, tol, steps):
    import pyhessian

    model.zero_grad()
    found = pyhessian.hessian(model, mse, data=(x, target), cuda=False).eigenvalues(maxIter=steps, tol=tol)[0][0]
    model.zero_grad()
    return found


def products(report, model, x, y, target, repeats):
    samples = hessian.samples(model, "mse", x, y)
    v = torch.randn(samples.size, generator=generator(0, "v"), dtype=x.dtype)
    h = operators.mean_hessian(samples)
    report("HVP, lib.hessian", hvp := seconds(lambda: h @ v, repeats)[0])
    plain = autograd_product(model, x, target)
    report("HVP, torch double backward", seconds(lambda: plain(v), repeats)[0], of=hvp)
    a = operators.central_moment(samples, 2)
    report("M_2 − H², lib.hessian", cost := seconds(lambda: a @ v, repeats)[0], of=hvp, unit="HVPs")
    few = min(8, len(x))  # eight copies of the parameters a sample: more would not fit in a small machine
    naive = vmapped_moment(model, x[:few], target[:few], 2)
    each = seconds(lambda: naive(v), 1)[0] * len(x) / few
    report(f"M_2, vmapped per-sample HVPs (measured on {few}, scaled)", each, of=cost, unit="× M_2 − H²")


def top(report, model, x, y, target, reference):
    def row(name, call, base=None):
        took, value = timed(call)
        report(name, took, of=base, error=abs(value / reference - 1))
        return took

    ours = row("λ_max, lib.hessian", lambda: hessian.sharpness(model, "mse", x, y).value)
    if importlib.util.find_spec("curvlinops"):
        for tol in (1e-2, 1e-5):
            row(f"λ_max, scipy eigsh on curvlinops, tol {tol:g}", lambda tol=tol: eigsh(model, x, target, tol), ours)
    else:
        report("λ_max, scipy eigsh on curvlinops: not installed", None)
    if importlib.util.find_spec("pyhessian"):
        for tol, steps in ((1e-3, 100), (1e-6, 200)):
            name = f"λ_max, PyHessian, tol {tol:g}, at most {steps} steps"
            row(name, lambda tol=tol, steps=steps: power_iteration(model, x, target, tol, steps), ours)
    else:
        report("λ_max, PyHessian: not installed", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--hidden", type=int, nargs="+", default=[3000, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--float64", action="store_true", help="also compare all four quantities with float64")
    options = parser.parse_args()
    x, y, name = images(options.samples)
    model, target = network(x, y, options.hidden, options.epochs)
    rows = []

    def report(label, took, *, of=None, unit="×", error=None):
        rows.append({"what": label, "seconds": took, "ratio": took / of if took and of else None, "error": error})
        text = "" if took is None else f"{took:9.3f} s"
        text += f"  {took / of:8.2f} {unit}" if took and of else ""
        print(f"{label:58}{text}" + (f"  error {error:.1e}" if error is not None else ""), flush=True)

    with torch.no_grad():
        loss = mse(model(x), target).item()
    print(f"{name}, {len(x)} samples, hidden {options.hidden}, {options.epochs} epochs, loss {loss:.2g}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {DEVICE}, {x.dtype}")

    quantities = {"a": lambda **o: hessian.sharpness(model, "mse", x, y, **o)}
    quantities |= {f"s{k}": lambda k=k, **o: hessian.nonuniformity(model, "mse", x, y, k, **o) for k in (2, 3, 4)}
    total, found = 0.0, {}
    for key, call in quantities.items():
        took, found[key] = timed(call)
        total += took
        report(f"{key} = {found[key].value:.7g}, {found[key].iterations} products", took)
    report("a, s2, s3, s4 together", total)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process so far: {peak:.2f} GiB")
    products(report, model, x, y, target, options.repeats)
    reference = hessian.sharpness(model, "mse", x, y, tol=1e-6).value
    top(report, model, x, y, target, reference)
    if options.float64:
        model.double()
        x = x.double()
        for key, call in quantities.items():
            took, exact = timed(call)
            report(f"{key} in float64", took, error=abs(found[key].value / exact.value - 1))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "peak_gib": peak, "rows": rows}))


if __name__ == "__main__":
    sys.exit(main())
