"""Sharpness during training: its values at every epoch, the training that it leaves alone, its way through a kill."""

import pandas
import pytest
import torch

from lib import hessian
from lib.runs import Measurement, Run, course, flatness, records
from lib.sweep import measure, rounds, sweep
from lib.training import fitting
from lib.training.loop import Loop
from lib.training.stack import Stack

RUN = Run(dataset="digits", width=0.03, epochs=4, n_train=64, batch_size=32, optimizer="sam", rho=0.05)
CENTERED = RUN.but(linearize="centered", loss="mse", alpha=2.0, epochs=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def serial(monkeypatch):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)


def measured(runs, store, **options):
    wanted = [Measurement(run, "course", {"samples": 20} | options) for run in runs]
    return measure(wanted, store=store, device="cpu", progress=False)


def test_the_values_are_those_of_the_networks_on_the_way(tmp_path):
    (row,) = measured([RUN], tmp_path, every=3).to_dict("records")
    assert row["status"] == "done" and row["epoch"] == [0, 3, 4]
    assert {name: row[name] for name in RUN.as_dict()} == RUN.as_dict()  # no value has the name of a field
    assert len(row["sample_loss"]) == 3
    engine = Stack([RUN], CPU)
    for epoch in range(4):
        if epoch in row["epoch"]:
            x, y = engine.data.balanced(20)
            expected = hessian.moments(engine.network(0).eval(), RUN.loss, x, y, ks=(2,))
            i = row["epoch"].index(epoch)
            assert (row["a"][i], row["s2"][i]) == (expected["a"].value, expected["s2"].value)
        engine.epoch(epoch)
    assert row["a_converged"] == row["s2_converged"] == [True] * 3 and min(row["gradient"]) > 0


@pytest.mark.parametrize("run", [RUN, CENTERED], ids=["stack", "loop"])
def test_training_is_as_it_would_be_alone(tmp_path, run):
    sweep([run], store=tmp_path / "alone", device="cpu", progress=False)
    measured([run], tmp_path / "watched")
    one, two = (records.read(tmp_path / name, run) for name in ("alone", "watched"))
    assert one["curves"] == two["curves"] and one["final"] == two["final"]


def test_a_run_that_has_a_record_is_trained_again_and_a_kill_loses_no_point(tmp_path, monkeypatch):
    expected = measured([RUN], tmp_path / "one")
    sweep([RUN], store=tmp_path / "two", device="cpu", progress=False)
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)
    epochs, original = [], Stack.epoch

    def epoch(self, number):
        epochs.append(number)
        if epochs.count(2) == 1 and number == 2:
            raise KeyboardInterrupt
        return original(self, number)

    monkeypatch.setattr(Stack, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        measured([RUN], tmp_path / "two")
    found = measured([RUN], tmp_path / "two")
    assert epochs == [0, 1, 2, 2, 3]
    pandas.testing.assert_frame_equal(*(table.drop(columns="provenance") for table in (found, expected)))
    assert measured([RUN], tmp_path / "two")["status"].tolist() == ["done"] and len(epochs) == 5  # from the record
    assert not list((tmp_path / "two").rglob("*.course"))


@pytest.mark.parametrize("text", ["", "[]", '{"epoch": [0]}', '{"key": "0123", "values": {"epoch": [0]}}'])
def test_what_was_measured_is_measured_again_where_its_file_is_damaged_or_of_another(tmp_path, monkeypatch, text):
    expected = measured([RUN], tmp_path / "one")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lib.sweep.worker.take", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        measured([RUN], tmp_path / "two")
    (file,) = (tmp_path / "two").rglob("*.course")
    file.write_text(text)
    with pytest.warns(UserWarning, match=rf"{file.name}: cannot be used .*; trained again"):
        found = measured([RUN], tmp_path / "two")
    pandas.testing.assert_frame_equal(*(table.drop(columns="provenance") for table in (found, expected)))


def test_a_checkpoint_without_the_measurement_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fitting, "_final", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        sweep([RUN], store=tmp_path, device="cpu", progress=False)
    with pytest.warns(UserWarning, match="what is measured during training is not in it.*start again from epoch 0"):
        table = measured([RUN], tmp_path)
    assert table["epoch"][0] == [0, 1, 2, 3, 4]


def test_what_is_not_finite_has_no_point_and_tangent_models_are_refused():
    engine = Loop([CENTERED.but(optimizer="sgd", rho=0.0)], CPU)
    model = engine.network(0)
    assert course.course(model, 1, engine.data, engine.run, every=5) is None
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    assert course.course(model, 0, engine.data, engine.run) is None and course.table([]) == {}
    with pytest.raises(ValueError, match="tangent model does not change"):
        course.course(model, 0, engine.data, RUN.but(linearize="tangent"))


def test_the_gradient_of_batches_is_the_mean_norm_over_draws():
    engine = Stack([RUN], CPU)
    model = engine.network(0)
    point = course.course(model, 0, engine.data, RUN, samples=20, batch=8)
    x, y = engine.data.balanced(20)
    norms = []
    for i in flatness.draw_batches(len(x), 8, course.DRAWS, RUN.seed):
        gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x[i]), y[i]), list(model.parameters()))
        norms.append(torch.cat([g.flatten() for g in gradient]).norm().item())
    assert point["batch_gradient"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert point["batch_gradient"] > point["gradient"]  # as norms are convex
    assert "batch_gradient" not in course.course(model, 0, engine.data, RUN, samples=20)
    with pytest.raises(ValueError, match="batch = -1: must be a number of samples, or 0"):
        course.course(model, 0, engine.data, RUN, batch=-1)
