"""A user's network and data set through runs, records and the sweep, by names that say where they are."""

import concurrent.futures
import dataclasses
import importlib
import os
import signal
import sys
import threading
import time

import pandas
import pytest
import torch
from torch import nn

from lib import data, models, sweep
from lib.core import own, paths
from lib.runs import Measurement, Run, meaning, records
from lib.runs import __main__ as runs_command
from lib.sweep import groups, pool, rounds
from lib.training import fitting
from lib.training.loop import Loop

CPU = torch.device("cpu")


@pytest.fixture
def own_cnn(monkeypatch):
    """The example, importable as it is from its own folder."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "examples"))
    data.datasets._load.cache_clear()
    data.datasets._digest.cache_clear()
    meaning._network.cache_clear()
    yield importlib.import_module("own_cnn")
    sys.modules.pop("own_cnn")


@pytest.fixture
def serial(monkeypatch):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)


def same(one: pandas.DataFrame, other: pandas.DataFrame) -> None:
    pandas.testing.assert_frame_equal(one.drop(columns="provenance"), other.drop(columns="provenance"))


def test_a_name_has_the_version_and_with_it_the_key(own_cnn, monkeypatch):
    run = Run(dataset="own_cnn:stripes", model="own_cnn:cnn", width=2)
    assert (run.dataset, run.model) == ("own_cnn:stripes@1", "own_cnn:cnn@1")
    assert Run.from_dict(run.as_dict()) == run == run.but(model="own_cnn:cnn@1")
    monkeypatch.setattr(own_cnn, "cnn", models.OwnModel(own_cnn.build, version=2))
    assert run.but(model="own_cnn:cnn").key != run.key
    with pytest.raises(ValueError, match="model = 'own_cnn:cnn@1': its version is 2 now"):
        Run.from_dict(run.as_dict())


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("model", "__main__:cnn", "workers cannot import __main__; define it in a file of its own"),
        ("model", "nowhere_at_all:cnn", r"nowhere_at_all cannot be imported \(No module named"),
        ("model", "own_cnn:stripes", "stripes of own_cnn is no OwnModel"),
        ("dataset", "own_cnn:absent", "absent of own_cnn is no DatasetInfo"),
        ("model", "resnet", "must be one of linear2, .*, or MODULE:ENTRY of your own"),
    ],
)
def test_a_name_of_nothing_is_refused(own_cnn, field, name, message):
    with pytest.raises(ValueError, match=f"{field} = {name!r}: {message}"):
        Run(**{field: name})


def test_what_a_user_s_model_cannot_be_told_is_refused(own_cnn):
    run = Run(dataset="own_cnn:stripes", model="own_cnn:cnn", width=2)
    for changes, message in (
        (dict(norm="group"), "norm = 'group': a own_cnn:cnn@1 has no norm to choose"),
        (dict(width=-1), "width = -1.0: own_cnn:cnn@1 needs a finite number above 0"),
        (dict(linearize="tangent"), "of the built-in networks only"),
        (dict(n_train=97), "own_cnn:stripes@1 has 96 training samples"),
    ):
        with pytest.raises(ValueError, match=message):
            run.but(**changes)


def test_weights_are_of_the_seed_and_data_as_the_entry_says(own_cnn, monkeypatch):
    def weights(seed):
        return models.build("own_cnn:cnn", width=2, in_shape=(1, 8, 8), classes=3, seed=seed)[0].weight

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))
    assert data.load("own_cnn:stripes", "test").x.shape == (48, 1, 8, 8) and data.shapes("own_cnn:stripes")[0] == 3
    entry = own_cnn.stripes
    for change, message in (
        (dict(samples=(90, 48)), r"x to train on is torch.uint8 of shape 96×1×8×8, must be .* 90×1×8×8"),
        (dict(outputs=2), "y to train on must be int64 in 0 to 1, 96"),
        (dict(regression=True), "y to train on must be float of 96×3"),
    ):
        monkeypatch.setattr(own_cnn, "stripes", dataclasses.replace(entry, **change, version=2))
        data.datasets._load.cache_clear()
        with pytest.raises(ValueError, match=message):
            data.load("own_cnn:stripes", "train")
    monkeypatch.setattr(own_cnn, "stripes", entry)
    monkeypatch.setattr(own_cnn, "cnn", models.OwnModel(lambda *_: nn.Conv2d(1, 3, 8)))
    with pytest.raises(ValueError, match=r"gives \(4, 3, 1, 1\) for 4 samples, must be \(4, 3\)"):
        meaning.meaning(Run(dataset="own_cnn:stripes", model="own_cnn:cnn"))


class Killed(BaseException):
    pass


def test_a_sweep_that_is_killed_goes_on_from_its_checkpoint(own_cnn, tmp_path, monkeypatch, serial):
    # given a CNN and tensors of a user, when the process dies in the third epoch of each run in turn, then the next
    # sweeps go on where it was, and the table is that of a sweep that nothing disturbed.
    runs = own_cnn.grid(epochs=3)[:2]
    expected = sweep.sweep(runs, store=tmp_path / "one", device="cpu")
    assert expected["status"].tolist() == ["done"] * 2 and expected["test_accuracy"].min() > 0.4
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)
    epochs, original = [], Loop.epoch

    def epoch(self, number):
        epochs.append(number)
        if number == 2 and epochs.count(2) % 2:
            raise Killed
        return original(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "epoch", epoch)
        for _ in runs:
            with pytest.raises(Killed):
                sweep.sweep(runs, store=tmp_path / "two", device="cpu")
        same(sweep.sweep(runs, store=tmp_path / "two", device="cpu"), expected)
    assert epochs == [0, 1, 2, 2, 0, 1, 2, 2]
    record = records.read(tmp_path / "two", runs[0])
    assert record["provenance"]["network"]["state"][0] == ["0.weight", [2, 1, 3, 3]]
    measured = sweep.measure([Measurement(runs[1], "landscape", {"samples": 12, "points": 3})], store=tmp_path / "two")
    assert measured["status"].tolist() == ["done"]


def test_a_worker_finds_the_entries_and_what_it_leaves_when_killed_is_gone_on_with(own_cnn, tmp_path, serial):
    runs = own_cnn.grid(epochs=2000)[:1]
    (group,) = groups.gather(runs, tmp_path, CPU)
    group.folder.mkdir()

    ended = threading.Event()

    def kill():
        progress = group.file("progress")
        while not (progress.exists() and progress.read_text().split()[:1] not in ([], ["0"])):
            if ended.wait(0.02):
                return
        os.kill(int(progress.read_text().split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (outcome,) = pool.run([group], [CPU], None)
    ended.set()
    killer.join()
    assert isinstance(outcome, pool.WorkerDied) and outcome.cause == "SIGKILL"
    assert sweep.sweep(own_cnn.grid(epochs=3)[:1], store=tmp_path, device="cpu")["status"].tolist() == ["done"]


def test_an_idle_worker_is_not_used_where_modules_come_from_elsewhere(own_cnn, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_idle", [])
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *_, **__: concurrent.futures.ThreadPoolExecutor(1))
    first = pool._take(pool._surroundings())
    pool._idle.append((pool._surroundings(), time.monotonic(), first))
    assert pool._take(pool._surroundings()) is first
    pool._idle.append((pool._surroundings(), time.monotonic(), first))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert pool._take(pool._surroundings()) is not first


def test_the_same_name_for_something_else_is_refused(own_cnn, tmp_path, monkeypatch, serial):
    runs = own_cnn.grid(epochs=1)[:1]
    sweep.sweep(runs, store=tmp_path, device="cpu")
    other = own_cnn.grid(epochs=2)[:1]  # another run, without a record, of the same names

    def again(message, **entries):
        with monkeypatch.context() as patch:
            for name, entry in entries.items():
                patch.setattr(own_cnn, name, entry)
            for cached in (data.datasets._load, data.datasets._digest, meaning._network):
                cached.cache_clear()
            for grid in (runs, other):
                for train in (True, False):
                    with pytest.raises(ValueError, match=message):
                        sweep.sweep(grid, store=tmp_path, device="cpu", train=train)
        for cached in (data.datasets._load, data.datasets._digest, meaning._network):
            cached.cache_clear()

    def tanh(*given):
        model = own_cnn.build(*given)
        model[2] = nn.Tanh()
        return model

    def shuffled(split, folder):
        x, y = own_cnn.read(split, folder)
        return x.flip(0), y

    again(
        f"model = 'own_cnn:cnn@1': builds another network than in the record {runs[0].key}; raise the version",
        cnn=models.OwnModel(tanh),
    )
    again(
        f"dataset = 'own_cnn:stripes@1': holds other samples than in the record {runs[0].key}",
        stripes=dataclasses.replace(own_cnn.stripes, read=shuffled),
    )
    monkeypatch.setattr(own_cnn, "cnn", models.OwnModel(tanh, version=2))
    table = sweep.sweep([other[0].but(model="own_cnn:cnn")], store=tmp_path, device="cpu")
    assert table["status"].tolist() == ["done"] and table["model"].tolist() == ["own_cnn:cnn@2"]


def test_a_checkpoint_of_another_network_is_not_used(own_cnn, tmp_path, monkeypatch):
    run = own_cnn.grid(epochs=2)[0]
    file = tmp_path / "one.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(Loop([run], CPU), checkpoint=file, stop=lambda epoch, _: epoch == 1)
    monkeypatch.setattr(
        own_cnn, "cnn", models.OwnModel(lambda *given: nn.Sequential(*own_cnn.build(*given), nn.Tanh()))
    )
    meaning._network.cache_clear()
    with pytest.warns(UserWarning, match="its network is another one, though of the same name.*start again"):
        fitting.fit(Loop([run], CPU), checkpoint=file)


def test_records_of_an_older_version_do_not_hide_the_others(own_cnn, tmp_path, monkeypatch, serial, capsys):
    run = Run(dataset="digits", width=0.03, epochs=1, n_train=64)
    sweep.sweep([run, run.but(model="own_cnn:cnn", width=1)], store=tmp_path, progress=False)
    monkeypatch.setattr(own_cnn, "cnn", models.OwnModel(own_cnn.build, version=2))
    assert runs_command.main(["find", "epochs == 1", "--store", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert run.key in out and "1 records were left out: model = 'own_cnn:cnn@1': its version is 2 now" in err


def test_a_part_that_the_pass_does_not_call_is_left_alone(own_cnn, monkeypatch):
    class Idle(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.used, self.idle = nn.Linear(64, classes), nn.Linear(64, classes)

        def forward(self, x):
            return self.used(x.flatten(1))

    monkeypatch.setattr(own_cnn, "cnn", models.OwnModel(lambda width, in_shape, classes: Idle(classes)))
    run = Run(dataset="digits", model="own_cnn:cnn", optimizer="sam", rho=0.1, epochs=1, n_train=64)
    for way in (dict(decay_in_ascent=True, weight_decay=0.1), dict(sparsity=0.5), dict(batch_norm_passes="all")):
        engine = Loop([run.but(**way)], CPU)
        before = engine.model.idle.weight.clone()
        assert engine.epoch(0)[0][0] > 0 and torch.equal(engine.model.idle.weight, before)


def test_folders_are_no_own_names():
    assert not own.is_own("imagestream:somewhere") and not own.is_own("own_cnn") and own.is_own("a.b:c@2")
    assert not own.is_own("a:b@0") and not own.is_own("a b:c")
