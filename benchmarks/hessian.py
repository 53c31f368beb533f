"""`lib.hessian.spectrum` beside its peers at a perceptron with hidden layers [3000, 1000] on 1,000 MNIST images,
float32.

    python -m benchmarks.hessian [--epochs 20] [--samples 1000] [--hidden 3000 1000] [--rounds 3] [--threads 2]

The network is first trained on its samples, since spectra are those of minima; `--epochs 0` leaves it at random.
Printed, with what is wanted and whether it was reached: products with one vector; λ_max by each library to 1e-5, in
rounds in which they take turns; a, s_2, s_3 and s_4 together, with `--float64` their errors. The floor is what a row
would take if only its matrix products took time, at the rate measured in the same round. benchmarks/hessian.json is
written by a run with all peers, `--float64` and the setting above; any other leaves it as it is. Peers are optional:

    .venv/bin/python -m pip install --editable ".[bench]"

Times are medians of wall seconds; of CPU seconds with `--threads 1`, for machines that are shared. Read the ratios.
"""

import argparse
import importlib.util
import itertools
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib import data, hessian
from lib.core.paths import ROOT
from lib.core.seeds import generator
from lib.hessian import operators
from lib.runs import records

CPU = torch.device("cpu")
ACCURACY = 1e-5
PEERS = {"curvlinops": "scipy eigsh on curvlinops", "pyhessian": "PyHessian"}
SETTING = {"data": "mnist", "samples": 1000, "hidden": [3000, 1000], "epochs": 20}
WANTED = {"λ_max": 2.5, "M_2 in HVPs": 3.5, "vmapped": 50, "together": 10.0, "peak GiB": 2.0, "error": ACCURACY}


def images(samples: int):
    """Standardized images and labels, and their name: MNIST where it is, else scikit-learn's digits."""
    for root in (None, ROOT.parent / "shared" / "data"):
        try:
            dataset = data.load("mnist", "train", root=root)
            break
        except data.DataUnavailable:
            dataset = data.load("digits", "train")
    return data.standardize(dataset.x[:samples], dataset.name), dataset.y[:samples], dataset.name


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


def timed(call):
    """(seconds, what `call` returned)."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = call()
    return clock() - start, result


def rate() -> float:
    """Floating-point operations of a matrix product a second, now."""
    a, b = torch.randn(1000, 784), torch.randn(784, 3000)
    a @ b
    return 2 * 1000 * 784 * 3000 / statistics.median(timed(lambda: a @ b)[0] for _ in range(9))


def operations(call) -> float:
    """Floating-point operations of the matrix products of `call`."""

    def in_place(self, a, b, *args, out_shape=None, **kwargs):
        return 2 * a[0] * a[1] * b[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        call()
    return counter.get_total_flops()


def compare(calls: dict, rounds: int) -> dict:
    """Median seconds of each of `calls`, which take turns, with the floor, and what they returned last."""
    times, floors, results = {name: [] for name in calls}, {name: [] for name in calls}, {}
    for turn in range(rounds + 1):
        speed = rate()
        for name, call in calls.items():
            took, results[name] = timed(call)
            if turn == 0:  # a first call that is not counted warms caches up; the operations are counted in it
                floors[name].append(operations(call))
            else:
                times[name].append(took)
                floors[name].append(floors[name][0] / speed)
    return {
        name: {"seconds": statistics.median(times[name]), "floor": statistics.median(floors[name][1:])}
        | {"result": results[name], "times": times[name]}
        for name in calls
    }


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


def products(model, x, y, target, rounds):
    """One product with H, with M_2 − H² and, on a few samples, with M_2 by vmap."""
    hessians = hessian.sample_hessians(model, "mse", x, y)
    v = torch.randn(hessians.size, generator=generator(0, "v"), dtype=x.dtype)
    h, central = operators.mean_hessian(hessians), operators.central_moment(hessians, 2)
    few = min(8, len(x))  # eight copies of the parameters a sample: more would not fit in a small machine
    plain, vmapped = autograd_product(model, x, target), vmapped_moment(model, x[:few], target[:few], 2)
    table = compare(
        {
            "HVP": lambda: h @ v,
            "HVP, torch double backward": lambda: plain(v),
            "M_2 − H²": lambda: central @ v,
            f"M_2, vmapped HVPs of {few} samples": lambda: vmapped(v),
        },
        rounds,
    )
    own, autograd, moment, vmap = (row["seconds"] for row in table.values())
    return table, {
        "double backward / HVP": autograd / own,
        "M_2 − H² in HVPs": moment / own,
        "vmapped M_2 of all samples / M_2 − H²": vmap * len(x) / few / moment,
        "live parameters": hessians.live.size / hessians.size,
    }


def absent(packages=PEERS) -> list[str]:
    """The packages that are not installed."""
    return [package for package in packages if not importlib.util.find_spec(package)]


def goals(rows: dict, ratios: dict) -> list[dict]:
    """What is wanted, what was measured, and whether that reaches it; nothing for what was not measured."""
    row = rows["a, s_2, s_3, s_4 together"]
    most = {"together": row["seconds"], "peak GiB": row["peak GiB"], "M_2 in HVPs": ratios["M_2 − H² in HVPs"]}
    if "errors" in row:
        most["error"] = max(row["errors"].values())
    least = {f"λ_max, {name}": ratio for name, ratio in ratios.items() if name.startswith(tuple(PEERS.values()))}
    least["vmapped"] = ratios["vmapped M_2 of all samples / M_2 − H²"]
    goals = [(name, value, WANTED[name], value <= WANTED[name]) for name, value in most.items()]
    for name, value in least.items():
        wanted = WANTED[name.split(",")[0]]
        goals.append((name, value, wanted, value >= wanted))
    return [dict(zip(("goal", "measured", "wanted", "reached"), row, strict=True)) for row in goals]


def eigsh(model, x, target, tol):
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh as solve

    # curvlinops asks the loss for its reduction, so it gets torch's: the mean over samples and outputs.
    weights, loss = list(model.parameters()), nn.MSELoss()
    op = HessianLinearOperator(model, loss, weights, [(x, target)], check_deterministic=False)
    value = solve(op.to_scipy(), k=1, which="LA", tol=tol, return_eigenvectors=False)[0]
    return float(value) * target.shape[1] / 2


def power_iteration(model, x, target, tol):
    import pyhessian

    model.zero_grad()
    largest = pyhessian.hessian(model, mse, data=(x, target), cuda=False).eigenvalues(maxIter=1000, tol=tol)[0][0]
    model.zero_grad()
    return largest


def largest(model, x, y, target, rounds):
    """λ_max by each library, with the loosest tolerance that gives 1e-5 here."""
    exact = hessian.sharpness(model, "mse", x, y, tol=1e-6).value
    calls = {"lib.hessian.spectrum": lambda: hessian.sharpness(model, "mse", x, y).value}
    for package, call in (("curvlinops", eigsh), ("pyhessian", power_iteration)):
        if package not in absent():
            for tol in (1e-1, 1e-3, 1e-5, 1e-6, 1e-7):
                if abs(call(model, x, target, tol) / exact - 1) <= ACCURACY:
                    break
            calls[f"{PEERS[package]}, tol {tol:g}"] = lambda call=call, tol=tol: call(model, x, target, tol)
    table = compare(calls, rounds)
    (_, own), *others = table.items()
    for row in table.values():
        row["error"] = abs(row.pop("result") / exact - 1)
    return table, {name: statistics.median(map(float.__truediv__, row["times"], own["times"])) for name, row in others}


def together(model, x, y, rounds, float64):
    """a, s_2, s_3, s_4 in one call; their errors against float64 if asked for."""
    table = compare({"a, s_2, s_3, s_4 together": lambda: hessian.moments(model, "mse", x, y)}, rounds)
    row = table["a, s_2, s_3, s_4 together"]
    eigen = row.pop("result")
    row["values"] = {key: e.value for key, e in eigen.items()}
    row["iterations"] = {key: e.iterations for key, e in eigen.items()}
    row["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if float64:
        exact = hessian.moments(model.double(), "mse", x.double(), y)
        model.float()
        row["errors"] = {key: abs(e.value / exact[key].value - 1) for key, e in eigen.items()}
    return table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--hidden", type=int, nargs="+", default=[3000, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--float64", action="store_true", help="also the errors of all four quantities")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for package in absent():
        print(f"*** {PEERS[package]} is not installed: no comparison with it ***", file=sys.stderr)
    x, y, name = images(options.samples)
    model, target = network(x, y, options.hidden, options.epochs)
    with torch.no_grad():
        loss = mse(model(x), target).item()
    setting = {"data": name, "samples": len(x), "hidden": options.hidden, "epochs": options.epochs, "loss": loss}
    print(setting, f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rate() / 1e9:.0f} GFLOP/s")
    rows, ratios = {}, {}
    for part in (
        lambda: (together(model, x, y, options.rounds, options.float64), {}),
        lambda: products(model, x, y, target, options.rounds),
        lambda: largest(model, x, y, target, options.rounds),
    ):
        table, part_ratios = part()
        for row in table.values():
            row.pop("result", None)
        rows, ratios = rows | table, ratios | part_ratios
        for label, row in table.items():
            extra = {k: v for k, v in row.items() if k not in ("seconds", "floor", "times")}
            print(f"{label:42}{row['seconds']:9.3f} s   floor {row['floor']:8.3f} s  {extra or ''}", flush=True)
        for label, ratio in part_ratios.items():
            print(f"{label:42}{ratio:9.2f}", flush=True)
    provenance = {**records.provenance(CPU), "cores": os.cpu_count(), "threads": options.threads}
    provenance["clock"] = "CPU" if options.threads == 1 else "wall"
    reached = goals(rows, ratios)
    for goal in reached:
        print(f"{goal['goal']:42}{goal['measured']:9.3g} wanted {goal['wanted']:g}: {verdict(goal)}")
    report = {"provenance": provenance, "setting": setting, "goals": reached, "rows": rows, "ratios": ratios}
    missing = [f"{PEERS[package]} is not installed" for package in absent()]
    missing += [] if options.float64 else ["no --float64"]
    missing += [f"{key} is not {value}" for key, value in SETTING.items() if setting[key] != value]
    if missing:
        print(f"*** INCOMPLETE, benchmarks/hessian.json is left as it was: {'; '.join(missing)} ***", file=sys.stderr)
    else:
        Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def verdict(goal: dict) -> str:
    return "reached" if goal["reached"] else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
