"""`python -m lib.runs`: a record shown, runs found, a store verified."""

import json
import shutil
from pathlib import Path

import pytest

from lib.runs import Measurement, Run, records
from lib.runs import __main__ as command
from lib.sweep import measure

RUN = Run(dataset="digits", width=0.03, epochs=3, n_train=64, batch_size=32, optimizer="sam", rho=0.05)
FLAT = Measurement(RUN, "landscape", {"points": 3, "samples": 20})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    measure([FLAT], store=folder, device="cpu")
    return folder


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def test_a_record_is_shown_with_what_uses_it(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path / "figures"))
    (tmp_path / "figures" / "lite").mkdir(parents=True)
    (tmp_path / "figures" / "lite" / "fig1.csv").write_text(f"x,key\n1,{RUN.key}\n")
    claims = {"01": {"a-claim": {"keys": [RUN.key]}, "another": {"keys": ["0"]}}}
    (tmp_path / "figures" / "lite" / "claims.json").write_text(json.dumps(claims))
    assert command.main(["show", RUN.key, "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert f"{RUN.key}: mlp of width 0.03 on digits, by SAM with ρ = 0.05 for 3 epochs, seed 0" in text
    assert '"rho": 0.05' in text and '"seed"' not in text
    assert "used by: lite/fig1, lite/claim a-claim" in text and "done: train_loss" in text and "█" in text
    assert command.main(["show", FLAT.key, "--store", str(store)]) == 0
    assert "landscape of mlp of width 0.03 on digits, by SAM with ρ = 0.05" in capsys.readouterr().out
    assert command.main(["show", "0123", "--store", str(store)]) == 1
    assert "0123: no such record in" in capsys.readouterr().err


def test_runs_are_found(store, capsys):
    assert command.main(["find", "rho > 0 and model == 'mlp'", "--store", str(store)]) == 0
    assert capsys.readouterr().out.startswith(f"{RUN.key} mlp of width 0.03")
    assert command.main(["find", "rho > 1", "--store", str(store)]) == 1
    assert command.main(["find", "import os", "--store", str(store)]) == 1
    assert "invalid syntax" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["none", "a number", "another name", "no JSON", "nothing there"])
def test_a_store_is_verified(store, monkeypatch, capsys, damage):
    monkeypatch.setattr(command, "twice", lambda: (2, 0))
    file = records.path(store, RUN)
    if damage == "a number":
        file.write_text(file.read_text().replace('"train_loss": 0', '"train_loss": 1', 1).replace("[2.", "[1.", 1))
    elif damage == "another name":
        file.rename(file.with_name("0123456789abcdef.json"))
    elif damage == "no JSON":
        file.write_text("{")
    elif damage == "nothing there":
        for each in store.glob("*.json"):
            each.unlink()
    assert command.main(["verify", "--store", str(store)]) == (damage != "none")
    assert ("0 wrong" in capsys.readouterr().out) == (damage in ("none", "nothing there"))


def test_training_twice_is_compared(monkeypatch):
    monkeypatch.setattr(command.experiments, "mnist_mlp", lambda preset: [RUN, RUN.but(seed=1)])
    monkeypatch.setattr(command, "SAMPLE", 1)
    assert command.twice() == (2, 0)
    kept, calls = command.sweep, []

    def other(runs, **options):  # the second time with another rate, filed under the same keys
        calls.append(1)
        kept(runs, **options)
        if len(calls) == 2:
            file = records.path(Path(options["store"]), runs[0])
            record = json.loads(file.read_text())
            record["final"]["test_loss"] += 1e-9
            del record["provenance"]["checksum"]
            file.write_text(json.dumps(record))

    monkeypatch.setattr(command, "sweep", other)
    assert command.twice() == (2, 1)


def test_a_commit_with_changes_on_top_cannot_be_checked_out():
    assert not command.in_repository("41729f7c4742+") and not command.in_repository(None)
    assert not command.in_repository("0" * 12)
