"""A short GPU allocation, spent on what is worth most: does it compute what a CPU does, how fast, then records.

    python -m benchmarks.gpu --minutes 9 --out DIR [--pack FILE] [--parts checks,rates,train] [--toy]

DIR/log.jsonl has whatever was found at once, and DIR/records.tar.gz is written anew after every group that is trained,
so that an allocation that ends early loses only the group under way. What fails is logged, and the rest goes on. A
group is started only where it can end in time. PACK is a .tar.xz of data sets (`make gpu-pack`), unpacked into
SAM_DATA. SAM_COMMIT names the commit of a copy whose git does not know it. `--toy` makes a dry run at small sizes.
"""

import argparse
import functools
import json
import statistics
import tarfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from benchmarks.engine import TwoCallSAM
from lib import hessian, models
from lib.core import files, paths
from lib.core.ambient import ROUNDING, exactly
from lib.core.conditions import Condition
from lib.paper import experiments
from lib.runs import Measurement, Run, records
from lib.sweep import calibration, groups, measure, sweep
from lib.sweep.planning import run_of
from lib.training import cuda_graph, engines, fitting, loop
from lib.training.batches import Batches
from lib.training.stack import Stack

CPU = torch.device("cpu")
TOY = {"vit": 32}  # widths of a dry run are 4 or less, but for these
SPARE = 1.15  # of what a group is expected to take


class Lease:
    """A device, a deadline, and a log that survives."""

    def __init__(self, out: Path, minutes: float, device: torch.device):
        self.out, self.device, self.began, self.end = out, device, time.time(), time.time() + 60 * minutes
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        return self.end - time.time()

    def log(self, **entry):
        line = json.dumps({"at": round(time.time() - self.began, 1), **entry}, default=str)
        with open(self.out / "log.jsonl", "a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def attempt(self, name: str, call, *args):
        """Log what the call returns, and how long it took; or how it failed. What it returns, or None."""
        began = time.time()
        try:
            result = call(*args)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
            self.log(what=name, failed=f"{type(error).__name__}: {error}"[:600], where=where)
            return None
        self.log(what=name, seconds=round(time.time() - began, 2), result=result)
        return result


def timed(call, repeats: int, device: torch.device) -> float:
    """Median seconds of a call, after two that are not timed."""
    spans = []
    for _ in range(repeats + 2):
        _synchronize(device)
        began = time.perf_counter()
        call()
        _synchronize(device)
        spans.append(time.perf_counter() - began)
    return statistics.median(spans[2:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---------------------------------------------------------------------------------------------- checks


def ceilings(device: torch.device, n: int = 8192) -> dict:
    """TFLOP/s of a large product in each precision, TB/s of a large copy (bytes read and written)."""
    result = {}
    kinds = (("fp32", torch.float32, "ieee"), ("tf32", torch.float32, "tf32"), ("bf16", torch.bfloat16, "ieee"))
    for name, dtype, precision in kinds:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        with exactly(device):
            torch.backends.cuda.matmul.fp32_precision = precision
            result[name] = round(2 * n**3 / timed(lambda a=a, b=b: a @ b, 5, device) / 1e12, 2)
    x, y = (torch.empty(n * n * 8, device=device) for _ in range(2))
    result["copy"] = round(2 * x.numel() * 4 / timed(lambda: y.copy_(x), 5, device) / 1e12, 3)
    return result


def kinds() -> dict[str, list[Run]]:
    """A group for each engine, and for what engines do differently."""
    base = Run(
        dataset="digits", width=1.0, epochs=5, batch_size=128, momentum=0.9, weight_decay=1e-3, schedule="cosine"
    )
    sam = base.but(optimizer="sam", rho=0.05)
    small = dict(n_train=400, batch_size=128, epochs=3)
    lazy = dict(model="vgg11", width=8, loss="squared", lr=0.01, **small)
    matrices = [run for run in experiments.matrix_factorization("paper") if run.seed == 0 and run.width == 10]
    return {
        "stack": [base, base.but(seed=1), sam, sam.but(seed=1), sam.but(normalized=False)],
        "stack, SNIP": [run.but(sparsity=0.5, pruner="snip") for run in (base, sam)],
        "stack, squared": [run.but(loss="squared", lr=0.01, momentum=0) for run in (base, sam)],
        "factorization": [run.but(epochs=3) for run in matrices[:2]],
        "resnet18": [sam.but(model="resnet18", width=16, **small)],
        "vit": [sam.but(model="vit", width=64, **small)],
        "vgg11 centered": [sam.but(linearize="centered", **lazy)],
        "vgg11 tangent": [sam.but(linearize="tangent", **lazy)],
    }


def disagreement(runs: list[Run], device: torch.device) -> dict:
    """How far the losses on the device are from those on the CPU, relative, by epoch; whether a repeat gives the
    same."""

    def curves(where):
        with exactly(where):
            return [record["curves"]["train_loss"] for record in fitting.fit(engines.engine(runs, where))]

    here, there, again = curves(CPU), curves(device), curves(device)
    pairs = [zip(one, other, strict=True) for one, other in zip(here, there, strict=True)]
    by_epoch = zip(*([abs(a - b) / abs(a) for a, b in pair] for pair in pairs), strict=True)
    return {"off": [float(f"{max(off):.1e}") for off in by_epoch], "repeats": there == again}


def eigenvalues(width: float, samples: int, device: torch.device) -> dict:
    """Per-sample Hessian moments on the CPU and on the device."""
    result = {}
    for where in dict.fromkeys((CPU, device)):
        with exactly(where):
            batches = Batches(Run(dataset="digits", width=width, loss="squared"), where)
            net = batches.network(batches.run)[0].eval()
            began = time.time()
            moments = hessian.moments(net, "squared", *batches.balanced(samples))
        result[where.type] = {name: eigen.value for name, eigen in moments.items()}
        result[where.type]["seconds"] = round(time.time() - began, 2)
    return result


def correction_error(device: torch.device, filters: int) -> dict:
    """How much of SAM's correction g(w + ε) − g(w) a precision keeps: ‖its − float64's‖ / ‖float64's‖, by ρ."""
    result = {}
    for name, width in (("mlp", 1.0), ("resnet18", filters)):
        shape = (1, 28, 28) if name == "mlp" else (3, 32, 32)
        x, y = torch.randn(128, *shape, device=device), torch.randint(10, (128,), device=device)
        exact = models.build(name, width=width, in_shape=shape, classes=10, seed=0).to(device, torch.float64).train()
        for rho in (0.0005, 0.005, 0.05, 0.2):
            reference = _correction(exact, x.double(), y, rho)
            row = {}
            for precision in ("float32", "tf32", "bf16"):
                with exactly(device):
                    for backend in ROUNDING:
                        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
                    net = models.build(name, width=width, in_shape=shape, classes=10, seed=0).to(device).train()
                    kept = _correction(net, x, y, rho, bf16=precision == "bf16")
                row[precision] = float(f"{(kept.double() - reference).norm() / reference.norm():.2g}")
            result[f"{name}, rho {rho}"] = row
    return result


def _correction(net: nn.Module, x, y, rho: float, bf16: bool = False) -> torch.Tensor:
    parameters = list(net.parameters())

    def gradient():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            output = net(x)
        loss = nn.functional.cross_entropy(output.to(parameters[0].dtype), y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    before = gradient()
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    nn.utils.vector_to_parameters(flat + rho * before / before.norm(), parameters)
    after = gradient()
    nn.utils.vector_to_parameters(flat, parameters)
    return after - before


# ---------------------------------------------------------------------------------------------- rates


def stack_rate(runs: list[Run], steps: int, device: torch.device) -> dict:
    """Steps a second of a stack, all its runs together, beside the usual loop and an ensemble of torch.func."""
    runs = sorted(runs, key=lambda run: run.rho > 0)
    with exactly(device):
        stack = Stack(runs, device)
        x, y = next(stack.batches(0))
        stacked = timed(lambda: [stack.step(0, x, y) for _ in range(steps)], 3, device) / steps
        eager = timed(lambda: [stack._step(x, y) for _ in range(steps)], 3, device) / steps
        nets = [stack.network(i) for i in range(len(runs))]
        usual = timed(lambda: _usual(nets[0], x[0], y[0], steps), 3, device) / steps
        ensemble = timed(_ensemble(nets, x[0], y[0], steps), 3, device) / steps
    per_second = {"stack, graph": len(runs) / stacked, "stack, eager": len(runs) / eager}
    per_second |= {"usual loop": 1 / usual, "torch.func ensemble": len(runs) / ensemble}
    return {name: round(value) for name, value in per_second.items()}


def _usual(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Steps of SAM by two calls of the eager loop."""
    optimizer = TwoCallSAM(net.parameters(), 0.05, lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(steps):
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.first_step()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.second_step()


def _ensemble(nets: list[nn.Module], x: torch.Tensor, y: torch.Tensor, steps: int) -> Callable[[], None]:
    """Steps of SAM for all networks at once, whose gradients `torch.func` takes with vmap."""
    weights, buffers = torch.func.stack_module_state(nets)
    weights = {name: value.detach() for name, value in weights.items()}
    momentum = {name: torch.zeros_like(value) for name, value in weights.items()}

    def loss(w, b):
        return nn.functional.cross_entropy(torch.func.functional_call(nets[0], (w, b), (x,)), y)

    gradient = torch.func.vmap(torch.func.grad(loss))

    def train():
        for _ in range(steps):
            g = gradient(weights, buffers)
            norm = sum(value.flatten(1).square().sum(1) for value in g.values()).sqrt()
            climbed = {k: w + (0.05 / norm).view(-1, *[1] * (w.dim() - 1)) * g[k] for k, w in weights.items()}
            g = gradient(climbed, buffers)
            for name, w in weights.items():
                momentum[name].mul_(0.9).add_(g[name]).add_(w, alpha=1e-4)
                w.sub_(momentum[name], alpha=0.1)

    return train


class Variant(loop.Loop):
    """A loop in other precisions and memory formats, with and without a graph. What autocast casts is not kept: it
    would be, within `exactly`, from the pass at w to that at w + ε."""

    def __init__(self, run: Run, device, *, channels_last=False, bf16=False, graph=True):
        super().__init__([run], device)
        self.bf16 = bf16
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.format)
        replayed = graph and device.type == "cuda"
        self.advance = cuda_graph.Replayed(self._step) if replayed else self._step

    def _step(self, x, y):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            super()._step(x.contiguous(memory_format=self.format), y)


VARIANTS = {
    "eager": dict(graph=False),
    "graph": {},
    "graph, channels last": dict(channels_last=True),
    "graph, tf32": {},
    "graph, channels last, tf32": dict(channels_last=True),
    "graph, channels last, bf16": dict(channels_last=True, bf16=True),
}


def loop_rate(model: str, width: int, name: str, steps: int, device: torch.device) -> int:
    """Images a second of SAM."""
    run = Run(dataset="digits", model=model, width=width, optimizer="sam", rho=0.05, momentum=0.9, n_train=256)
    with exactly(device):
        for backend in ROUNDING:
            backend.fp32_precision = "tf32" if name.endswith("tf32") else "ieee"
        engine = Variant(run, device, **VARIANTS[name])
        x, y = torch.randn(128, 1, 32, 32, device=device), torch.randint(10, (128,), device=device)
        engine.model.train()
        for _ in range(cuda_graph.WARM_UP + 2):
            engine.step(0, x, y)
        return round(128 * steps / timed(lambda: [engine.step(0, x, y) for _ in range(steps)], 3, device))


# ---------------------------------------------------------------------------------------------- records


QUEUE = [*experiments.DECIDING, "mnist_mlp", "mnist_mlp_twice", "mnist_flatness"]


def queue(names: Iterable[str], preset: str) -> list[list[Run | Measurement]]:
    """What to train, in this order: experiments, or items of the data that decide, each whole or "NAME: CONDITION"."""
    grids = experiments.EXPERIMENTS | {name: item.runs for name, item in experiments.DECIDING.items()}
    parts = []
    for name, _, where in (text.partition(":") for text in names):
        fulfilled = Condition(where) if where else lambda values: True
        parts += _by_width([what for what in grids[name.strip()](preset) if fulfilled(run_of(what).as_dict())])
    return parts


def _by_width(grid: list) -> Iterable[list]:
    """A grid in parts: networks of one kind of run, of a few seeds where they are large."""
    widths = dict.fromkeys((run_of(what).width, run_of(what).epochs) for what in grid)
    for width, epochs in widths:
        part = [what for what in grid if (run_of(what).width, run_of(what).epochs) == (width, epochs)]
        size = {"vgg11": 6, "mlp": 64 if width < 5 else 9}.get(run_of(part[0]).model, 1)
        part.sort(key=lambda what: run_of(what).seed)
        yield from (part[i : i + size] for i in range(0, len(part), size))


def expected(runs: list[Run], device: torch.device) -> float:
    """Seconds to train these runs."""
    total = 0.0
    for group in engines.partition(runs, device):
        rate, (n, m), run = _rate(calibration.alike(group), device), calibration.n_samples(group[0]), group[0]
        total += run.epochs * n * rate.train + (run.epochs // run.eval_every * m + n + m) * rate.evaluate
    return total


_rate = functools.cache(calibration.calibrate)


def harvest(lease: Lease) -> int:
    """Put all records of this allocation into one file; how many there are."""
    stores = {paths.records(dataset) for dataset in ("mnist", "digits")}
    new = [file for store in stores for file in store.glob("*.json") if file.stat().st_mtime >= lease.began]
    with files.replacing(lease.out / "records.tar.gz") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
        for file in new:
            archive.add(file, f"records/{file.name}")
    return len(new)


def train_all(lease: Lease, wanted: Iterable[list]) -> None:
    """Train, part by part, what has no record and can end in time."""
    fitting.CHECKPOINT_SECONDS = float("inf")  # the disk goes with the machine
    for part in wanted:
        missing = [what for what in part if groups.wanting(groups.store_of(None, what), what)]
        if not missing:
            continue
        runs = list(dict.fromkeys(map(run_of, missing)))
        name = f"{runs[0].model} {runs[0].width:g} on {runs[0].dataset}, {runs[0].epochs} epochs, {len(runs)} runs"
        seconds = lease.attempt(f"expect {name}", expected, runs, lease.device)
        if seconds is None or SPARE * seconds > lease.left:
            continue
        lease.attempt(f"train {name}", _trained, missing, lease.device)
        lease.log(what="records so far", result=harvest(lease))


def _trained(missing: list, device: torch.device) -> dict:
    table = (sweep if isinstance(missing[0], Run) else measure)(missing, device=device, progress=False)
    return table["status"].value_counts().to_dict()


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--parts", default="checks,rates,train", help="of these, separated by commas")
    parser.add_argument("--queue", nargs="+", default=QUEUE, metavar="NAME[: CONDITION]", help="what to train")
    parser.add_argument("--toy", action="store_true", help="a dry run at small sizes, on the CPU where there is no GPU")
    given = parser.parse_args(arguments)
    device = groups.choose_device(None)
    if device.type != "cuda" and not given.toy:
        parser.error("torch sees no GPU here; --toy makes a dry run on the CPU")
    lease = Lease(given.out, given.minutes, device)
    if given.pack:
        lease.attempt("unpack", unpack, given.pack)
    lease.attempt("machine", records.provenance, device)
    if "checks" in given.parts:
        lease.attempt("ceilings", ceilings, device, 256 if given.toy else 8192)
        for name, runs in kinds().items():
            shorter = (
                [run.but(width=min(run.width, TOY.get(run.model, 4)), epochs=1) for run in runs] if given.toy else runs
            )
            lease.attempt(f"off from a CPU: {name}", disagreement, shorter, device)
        lease.attempt("eigenvalues", eigenvalues, *((0.1, 20) if given.toy else (1.0, 1000)), device)
        lease.attempt("error of SAM's correction", correction_error, device, 2 if given.toy else 16)
    if "rates" in given.parts:
        grid = experiments.mnist_mlp("smoke" if given.toy else "lite")
        for width in dict.fromkeys(run.width for run in grid):
            runs, steps = [run for run in grid if run.width == width], 2 if given.toy else 30
            lease.attempt(f"steps a second, width {width:g}, {len(runs)} runs", stack_rate, runs, steps, device)
        for width in (4,) if given.toy else (4, 16, 64):
            for name in VARIANTS:
                what = f"images a second, resnet18 {width}, {name}"
                lease.attempt(what, loop_rate, "resnet18", width, name, 1 if given.toy else 10, device)
    if "train" in given.parts:
        toy = ["mnist_mlp: width == 0.05 and seed == 0"]
        train_all(lease, queue(toy, "smoke") if given.toy else queue(given.queue, "lite"))
    lease.log(what="end", left=round(lease.left))


def unpack(pack: Path) -> None:
    """Unpack data sets into SAM_DATA."""
    with tarfile.open(pack) as archive:
        archive.extractall(paths.data(), filter="data")


if __name__ == "__main__":
    main()
