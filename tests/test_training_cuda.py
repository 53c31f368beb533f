"""The path of a GPU, on the pretended one of `pretended_cuda`: engines, Hessian, sweeps and their resumption."""

import contextlib
import time
import traceback
import weakref

import pytest
import torch
from pretended_cuda import CPU, CUDA, PretendCUDA, Refused, _key
from torch import nn

from lib import hessian
from lib.core import ambient
from lib.hessian import lanczos
from lib.runs import Measurement, Run
from lib.sweep import calibration, measure, sweep
from lib.training import engines, fitting
from lib.training.batches import Batches

BASE = Run(dataset="digits", width=0.2, epochs=6, batch_size=300, momentum=0.9, weight_decay=1e-3, schedule="cosine")
SAM = BASE.but(optimizer="sam", rho=0.05)
SMALL = dict(n_train=80, batch_size=32, epochs=2)  # a last batch of 16
LAZY = dict(model="vgg11", width=2, loss="squared", lr=0.01, weight_decay=0, **SMALL)
FLOAT64 = dict(
    dataset="factorization", model="linear2", width=4, loss="squared", precision="float64", lr=5e-4, epochs=1
)
GROUPS = {
    "stack": [BASE, BASE.but(seed=1), SAM, SAM.but(seed=1), SAM.but(normalized=False)],
    "stack without SGD": [SAM, SAM.but(seed=1)],
    "squared stack": [run.but(loss="squared", lr=0.01, momentum=0) for run in (BASE, SAM)],
    "stack with masks": [run.but(sparsity=0.5, pruner="snip") for run in (BASE, SAM)],
    "stack in parts": [SAM.but(parts=4, seed=seed) for seed in (0, 1)],
    "stack in long steps": [SAM.but(ascent_steps=2, ascent_step=0.04, decay_in_ascent=True)],
    "stack by another batch": [SAM.but(ascent_batch="other")],
    "stack at random": [SAM.but(perturbation="random")],
    "stack that switches": [SAM.but(switch=0.5, rho_schedule="lr")],
    "resnet18 by another batch": [SAM.but(model="preact_resnet18", width=1, ascent_batch="other", parts=2, **SMALL)],
    "resnet18 at random": [SAM.but(model="preact_resnet18", width=1, perturbation="random", **SMALL)],
    "resnet18 in steps": [SAM.but(model="preact_resnet18", width=1, ascent_steps=2, batch_norm_passes="all", **SMALL)],
    "resnet18": [SAM.but(model="resnet18", width=2, **SMALL)],
    "resnet18 with a mask": [SAM.but(model="resnet18", width=2, sparsity=0.5, **SMALL)],
    "vit": [SAM.but(model="vit", width=32, **SMALL)],
    "centered": [SAM.but(linearize="centered", alpha=10, **LAZY)],
    "tangent": [SAM.but(linearize="tangent", **LAZY)],
    "factorization": [Run(**FLOAT64), Run(optimizer="sam", rho=0.05, **FLOAT64)],
}


@pytest.fixture
def cuda():
    with PretendCUDA() as pretended:
        yield pretended


@pytest.mark.parametrize("name", GROUPS)
def test_an_engine_trains_on_a_gpu_as_on_a_cpu_and_no_step_waits(name):
    runs = GROUPS[name]
    expected = fitting.fit(engines.engine(runs, CPU))
    with PretendCUDA() as cuda:
        engine = engines.engine(runs, CUDA)
        batch = next(iter(engine.batches(0)))
        cuda.events.clear()
        engine.step(0, *batch)
        random = "random" in name  # numbers drawn on the CPU, one copy a seed and step
        assert sum(cuda.events.values()) == random
        result = fitting.fit(engines.engine(runs, CUDA))
    for one, other in zip(result, expected, strict=True):
        assert one["curves"]["train_loss"] == pytest.approx(other["curves"]["train_loss"], rel=1e-5)
        assert one["final"]["test_loss"] == pytest.approx(other["final"]["test_loss"], rel=1e-5)


def test_a_stack_is_replayed_at_fixed_addresses_and_touches_nothing_but_its_own(cuda):
    runs = GROUPS["stack"]
    stack = engines.Stack(runs, CUDA)
    buffers = [stack.weights, stack.gradients, stack.momentum, stack.perturbed]
    kept = [b.flat for b in buffers] + [stack.total, stack.hits, stack.rate, stack.rho, stack.normalized]
    kept += [p.seed_of_member for p in (stack.at_w, stack.at_perturbed)]
    before = [t.data_ptr() for t in kept]
    for epoch in range(5):
        stack.epoch(epoch)
    assert [t.data_ptr() for t in kept] == before
    recorded = stack.advance._recorded
    assert len(recorded) == 2  # whole batches and the last one
    for inputs, replay in recorded.values():
        assert replay.__self__.outside.keys() <= {_key(t) for t in [*kept, *inputs]}


def test_eigenvalues_on_a_gpu_are_those_on_a_cpu():
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 10))
    for model, loss in (("mlp", "cross_entropy"), (conv, "squared")):

        def moments(device, model=model, loss=loss):
            batches = Batches(BASE.but(width=0.1), device)
            net = batches.network(batches.run)[0] if model == "mlp" else model.to(device)
            result = hessian.moments(net, loss, *batches.balanced(20), (2,))
            model if model == "mlp" else model.to(CPU)
            return [e.value for e in result.values()]

        expected = moments(CPU)
        with PretendCUDA():
            assert moments(CUDA) == pytest.approx(expected, rel=1e-4)


def test_a_sweep_goes_on_from_a_checkpoint_on_a_gpu(cuda, tmp_path):
    runs = [BASE, SAM, SAM.but(model="resnet18", width=2, **SMALL)]
    whole = sweep(runs, store=tmp_path / "whole", device="cuda", progress=False)
    assert set(whole["status"]) == {"done"} and whole["provenance"][0]["device"] == "a pretended GPU"
    file = tmp_path / "stack.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(engines.engine(runs[:2], CUDA), checkpoint=file, stop=lambda epoch, _: epoch == 3)
    resumed = fitting.fit(engines.engine(runs[:2], CUDA), checkpoint=file)
    assert [record["curves"] for record in resumed] == list(whole["curves"][:2])


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_a_single_run_goes_on_from_a_checkpoint_on_a_gpu(name, cuda, tmp_path):
    runs = [run.but(epochs=4, schedule="cosine", momentum=0.9) for run in GROUPS[name]]
    (whole,) = fitting.fit(engines.engine(runs, CUDA))
    file = tmp_path / "loop.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(engines.engine(runs, CUDA), checkpoint=file, stop=lambda epoch, _: epoch == 2)
    (resumed,) = fitting.fit(engines.engine(runs, CUDA), checkpoint=file)
    assert resumed["curves"] == whole["curves"] and resumed["final"] == whole["final"]


def test_a_budget_is_used_though_the_first_step_of_a_process_is_slow(cuda, tmp_path, monkeypatch):
    step, first = engines.Stack._step, [True]

    def slow(self, *batch):
        if first:
            first.clear()
            time.sleep(0.3)
        step(self, *batch)

    monkeypatch.setattr(engines.Stack, "_step", slow)
    monkeypatch.setattr(calibration, "n_samples", lambda run: (60_000, 10_000))  # as many as MNIST's
    rate = calibration.calibrate(calibration.alike([BASE.but(batch_size=128)]), CUDA)
    assert 60_000 * rate.train < 9 * 60


def test_what_a_gpu_refuses(cuda):
    a, b = torch.zeros(3, device="cuda"), torch.ones(3)
    assert a.device == CUDA and (a + 1).is_cuda and (a + 1).cpu().device == CPU
    with pytest.raises(Refused, match="same device"):
        a + b
    with pytest.raises(Refused, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(TypeError, match="numpy"):
        a.numpy()
    with pytest.raises(Refused, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        a.sum().item()
    graph, gone = torch.cuda.CUDAGraph(), torch.ones(3, device="cuda")
    with torch.cuda.graph(graph):
        a += 2 * gone
    assert a.tolist() == [0, 0, 0]  # capturing runs nothing
    gone.fill_(3)
    graph.replay()
    assert a.tolist() == [6, 6, 6]
    del gone
    with pytest.raises(Refused, match="gone"):
        graph.replay()


def test_measurements_on_a_gpu_are_those_on_a_cpu(cuda, tmp_path):
    squared = BASE.but(loss="squared", lr=0.01, momentum=0, weight_decay=0, width=0.1)
    wanted = [
        Measurement(squared, "flatness", {"samples": 20, "batch": 5}),
        Measurement(
            Run(**LAZY, dataset="digits", linearize="centered"), "laziness", dict(samples=10, hessian_samples=10)
        ),
    ]
    there = measure(wanted, store=tmp_path / "there", device="cuda", progress=False)
    here = measure(wanted, store=tmp_path / "here", device="cpu", progress=False)
    assert set(there["status"]) == {"done"}
    for name in set(there.columns) - {"provenance"}:
        for one, other in zip(there[name], here[name], strict=True):
            assert one == other or one == pytest.approx(other, rel=0.01, abs=1e-6, nan_ok=True), name


def test_a_group_that_fails_keeps_no_memory(cuda, tmp_path, monkeypatch):
    engines_made = weakref.WeakSet()
    make = engines.Stack.__init__

    def failing(self, *arguments):
        make(self, *arguments)
        engines_made.add(self)
        self.itself = self  # as an engine may refer to itself
        self._step = lambda *batch: 1 / 0
        self.advance = self._step

    monkeypatch.setattr(engines.Stack, "__init__", failing)
    monkeypatch.setattr("lib.sweep.selfcheck.passed", lambda *arguments: True)
    with pytest.raises(ZeroDivisionError) as caught:
        sweep([BASE], store=tmp_path, device="cuda", progress=False)
    assert not engines_made, "the stored error holds the engine"
    assert "_step" in "".join(traceback.format_tb(caught.tb)) or caught.traceback  # yet it says where


def test_the_device_that_is_asked_for_is_the_current_one_and_must_be_there(cuda, tmp_path, monkeypatch):
    current = []

    @contextlib.contextmanager
    def device(name):
        current.append(name)
        yield

    monkeypatch.setattr(torch.cuda, "device", device)
    with ambient.exactly(torch.device("cuda", 1)):
        assert current == [torch.device("cuda", 1)]
    with pytest.raises(ValueError, match=r"device = 'cuda:1': torch sees 1 here"):
        sweep([BASE], store=tmp_path, device="cuda:1", progress=False)


@pytest.mark.parametrize("entries", [5, 2**15, 2**15 + 1, 3 * 2**15 + 7])
def test_inner_products_on_a_gpu_are_those_on_a_cpu(entries):
    rows, v = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in ((3, entries), entries))
    with PretendCUDA():
        there = lanczos.inner(rows.cuda(), v.cuda()).cpu()
    allowed = 1e-5 * rows.norm(dim=1).double() * v.norm().double()  # a CPU's bmm adds up one by one
    assert ((there - rows.double() @ v.double()).abs() <= allowed).all()
    assert ((there - lanczos.inner(rows, v)).abs() <= allowed).all()
