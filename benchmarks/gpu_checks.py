"""What `benchmarks.gpu` finds out about a GPU: does it compute what a CPU does, which precision keeps SAM's correction,
and how fast are the engines."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.engine import TwoCallSAM
from lib import hessian, models
from lib.core.ambient import ROUNDING, exactly
from lib.paper import experiments
from lib.runs import Run
from lib.training import cuda_graph, engines, fitting, loop
from lib.training.batches import Batches
from lib.training.stack import Stack

CPU = torch.device("cpu")


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
    before = gradient(net, x, y, bf16)
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    nn.utils.vector_to_parameters(flat + rho * before / before.norm(), parameters)
    after = gradient(net, x, y, bf16)
    nn.utils.vector_to_parameters(flat, parameters)
    return after - before


def gradient(net: nn.Module, x, y, bf16: bool = False) -> torch.Tensor:
    """That of the cross-entropy in all parameters; bf16: by autocast, which keeps no weight that it has cast."""
    parameters = list(net.parameters())
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        output = net(x)
    loss = nn.functional.cross_entropy(output.to(parameters[0].dtype), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


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
