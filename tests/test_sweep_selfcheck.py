"""The self-check: right engines pass it, wrong ones do not, and what it finds is remembered and acted on."""

import faulthandler
import signal
import subprocess
import sys

import pytest
import torch

from lib import sweep
from lib.runs import Run
from lib.sweep import groups, rounds, selfcheck
from lib.training import engines
from lib.training.grouped import Grouped
from lib.training.loop import Loop, PlainLoop

CPU = torch.device("cpu")
RUN = Run(dataset="digits", width=0.03, epochs=1, n_train=64, batch_size=32)
ENGINES = [(engines.Stack, "linear2"), (engines.Stack, "two_layer"), (engines.Stack, "mlp"), (Grouped, "resnet18")]
ENGINES += [(Loop, model) for model in selfcheck.WIDTHS]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    """Nothing is remembered from another test."""
    monkeypatch.setattr(selfcheck, "_passed", {})
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)


@pytest.mark.parametrize(("engine", "model"), ENGINES)
def test_every_engine_passes(engine, model):
    assert min(selfcheck.disagreement(engine, model, CPU, seed) for seed in range(selfcheck.SEEDS)) < 0.2


class Wrong(Loop):
    """Errs in one small tensor, as the fault of oneDNN does with two threads."""

    def step(self, step, x, y):
        before = [p.detach().clone() for p in self.model.parameters()]
        super().step(step, x, y)
        p, start = list(self.model.parameters())[-1], before[-1]
        with torch.no_grad():
            p[0] += 0.1 * (p - start).norm()


class Nowhere(Loop):
    def step(self, step, x, y):
        super().step(step, x, y)
        with torch.no_grad():
            next(self.model.parameters()).fill_(float("nan"))


def test_a_wrong_engine_does_not():
    assert min(selfcheck.disagreement(Wrong, "resnet18", CPU, seed) for seed in range(selfcheck.SEEDS)) > 2
    assert selfcheck.disagreement(Nowhere, "mlp", CPU) == float("inf")


def test_what_is_found_is_remembered_for_this_machine_alone(tmp_path, monkeypatch):
    result = iter([2.0, 0.5, 3.0, 4.0])
    monkeypatch.setattr(selfcheck, "disagreement", lambda *_: next(result))
    assert selfcheck.passed([RUN], CPU, tmp_path)  # the least of three
    monkeypatch.setattr(selfcheck, "_passed", {})
    assert selfcheck.passed([RUN], CPU, tmp_path) and next(result) == 4.0  # by the file
    monkeypatch.setattr(selfcheck, "machine", lambda device: "another")
    with pytest.raises(RuntimeError, match="StopIteration"):
        selfcheck.passed([RUN], CPU, tmp_path)


@pytest.mark.parametrize(("name", "passes"), [("SIGSEGV", False), ("SIGABRT", False), ("SIGKILL", True)])
def test_a_crash_in_it_is_a_failure_and_being_killed_is_none(tmp_path, name, passes):
    script = (
        "import os, signal, sys, torch; from pathlib import Path;"
        "from lib.runs import Run; from lib.sweep import selfcheck;"
        f"selfcheck.disagreement = lambda *_: os.kill(os.getpid(), signal.{name});"
        "selfcheck.passed([Run(width=0.03)], torch.device('cpu'), Path(sys.argv[1]))"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert died.returncode == -signal.Signals[name], died.stderr
    assert selfcheck.passed([RUN], CPU, tmp_path) is passes
    assert len(selfcheck.failures(tmp_path, CPU)) == (not passes)
    assert (
        passes or "stack of mlp: the process crashed in it (Fatal Python error:" in selfcheck.failures(tmp_path, CPU)[0]
    )
    assert not list(tmp_path.glob("*.crash"))


def test_a_handler_of_crashes_that_was_there_is_there_again(tmp_path):
    before = faulthandler.is_enabled()
    selfcheck.passed([RUN], CPU, tmp_path)
    assert faulthandler.is_enabled() == before


def test_an_engine_that_fails_is_replaced_by_the_plainest_and_the_user_is_told(tmp_path, monkeypatch):
    runs = [RUN.but(seed=seed) for seed in range(2)]
    expected = sweep.sweep(runs, store=tmp_path / "right")
    monkeypatch.setattr(selfcheck, "_passed", {})
    monkeypatch.setattr(selfcheck, "disagreement", lambda *_: 4.0)
    with pytest.warns(UserWarning, match="self-check of this machine failed for stack of mlp: off by 12% from float64"):
        table = sweep.sweep(runs, store=tmp_path / "wrong")
    assert [p["engine"] for p in table["provenance"]] == [PlainLoop.name] * 2
    torch.testing.assert_close(
        *(torch.tensor(t["train_loss"].to_numpy()) for t in (table, expected)), rtol=1e-5, atol=0
    )
    left = {file.name.split(".", 1)[1] for file in groups.folder_of(tmp_path / "wrong").iterdir()}
    assert left == {"check", "check.lock"}
