"""What is measured on trained networks: specified, taken in the call that trains, filed, and found again."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lib import sweep
from lib.core import interruption
from lib.runs import Measurement, Run, measurement, origin, records
from lib.sweep import planning, rounds, worker
from lib.training import fitting
from lib.training.loop import Loop

RUN = Run(dataset="digits", width=0.1, loss="squared", lr=0.02, epochs=2, batch_size=64, n_train=200)
SMALL = {"samples": 40, "points": 3}


@pytest.fixture
def weigh(monkeypatch):
    """A cheap kind of measurement beside the real ones: how far the weights have moved."""

    def weigh(before, after, batches, run, *, scale: float = 1.0):
        assert not before.training and not after.training
        moved = sum((a - b).square().sum() for a, b in zip(after.parameters(), before.parameters(), strict=True))
        return {"moved": scale * moved.sqrt().item(), "samples_seen": batches.n}

    monkeypatch.setitem(measurement.KINDS, "weigh", weigh)


# ---------------------------------------------------------------------------- the specification


def test_options_that_are_not_given_are_the_defaults_and_do_not_change_the_key():
    plain = Measurement(RUN, "landscape")
    assert plain.options == {"samples": 1000, "radius": 1.0, "points": 21}
    assert plain.key == Measurement(RUN, "landscape", {"points": 21}).key
    assert plain == Measurement(RUN, "landscape", {"samples": 1000})


def test_run_kind_and_options_make_the_key():
    some = [
        Measurement(RUN, "landscape"),
        Measurement(RUN, "flatness"),
        Measurement(RUN.but(seed=1), "landscape"),
        Measurement(RUN, "landscape", {"points": 5}),
    ]
    assert len({m.key for m in some} | {RUN.key}) == 5
    assert len(set(some)) == 4


def test_a_raised_recipe_changes_the_key_of_its_kind_alone_and_disowns_earlier_records(monkeypatch):
    monkeypatch.setattr(measurement, "RECIPES", {})
    first, other = Measurement(RUN, "landscape", SMALL), Measurement(RUN, "features")
    keys, stored = (first.key, other.key), {"measurement": first.as_dict()}
    assert stored["measurement"]["recipe"] == 1
    # The key as it was before there were recipes, and a record of that time.
    text = json.dumps(["landscape", RUN.key, SMALL], sort_keys=True, separators=(",", ":"))
    assert first.key == hashlib.sha256(text.encode()).hexdigest()[:16]
    before = {"measurement": {name: part for name, part in first.as_dict().items() if name != "recipe"}}
    assert Measurement.of_record(before) == Measurement.of_record(stored) == first

    monkeypatch.setattr(measurement, "RECIPES", {"landscape": 2})
    assert first.key != keys[0] and other.key == keys[1]
    assert Measurement.of_record({"measurement": first.as_dict()}) == first
    for earlier in (before, stored):
        with pytest.raises(ValueError, match="recipe = 1: landscape now has 2, which measures something else"):
            Measurement.of_record(earlier)


def test_flatness_is_measured_by_its_second_recipe():
    """Since it has the drawn estimate of s₂ of batches and four probes of the density."""
    assert Measurement(RUN, "flatness").recipe == 2 and Measurement(RUN, "landscape").recipe == 1


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sharpnes", {}, "kind = 'sharpnes': must be one of flatness, landscape"),
        ("landscape", {"pionts": 5}, "pionts = 5: landscape has no such option; it has samples, radius, points"),
        ("landscape", {"points": 5.0}, "points = 5.0: must be a int, such as 21"),
        ("landscape", {"points": 1}, "points = 1: must be a finite number, at least 2"),
        ("landscape", {"radius": float("nan")}, "radius = nan: must be a finite number, more than 0"),
        ("landscape", {"samples": -3}, "samples = -3: must be a finite number, at least 10"),
        ("features", {"samples": 9}, "samples = 9: must be a finite number, at least 10"),
        ("flatness", {"batch": 0}, "batch = 0: must be a finite number, at least 1"),
        ("flatness", {"draws": 0}, "draws = 0: must be"),
        ("course", {"every": 0}, "every = 0: must be"),
        ("course", {"batch": -1}, "batch = -1: must be a finite number, at least 0"),
        ("ascent", {"groups": -1}, "groups = -1: must be a finite number, at least 0"),
        ("laziness", {}, "linearize = 'none'.*: laziness is measured of a 'centered'"),
    ],
)
def test_what_cannot_be_measured_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        Measurement(RUN, kind, options)


@pytest.mark.parametrize("kind", ["flatness", "landscape", "features", "course", "ascent"])
def test_what_has_no_classes_is_refused(kind):
    factors = Run(dataset="factorization", model="linear2", width=4, loss="squared")
    with pytest.raises(ValueError, match=f"dataset = 'factorization': has no classes, which {kind} takes samples of"):
        Measurement(factors, kind)


def test_sparse_networks_are_not_measured_in_directions_that_their_mask_forbids():
    with pytest.raises(ValueError, match=r"sparsity = 0\.5: flatness is measured of dense networks only"):
        Measurement(RUN.but(sparsity=0.5), "flatness")


# ---------------------------------------------------------------------------- the records


def test_a_measurement_is_filed_in_the_call_that_trains(tmp_path, weigh):
    wanted = Measurement(RUN, "weigh")
    table = sweep.measure([wanted], store=tmp_path)
    assert {f.name for f in tmp_path.glob("*.json")} == {f"{RUN.key}.json", f"{wanted.key}.json"}
    stored = json.loads((tmp_path / f"{wanted.key}.json").read_text())
    assert list(stored) == ["measurement", "values", "status", "provenance"]
    assert Measurement.of_record(stored) == wanted
    row = table.iloc[0]
    assert (row["status"], row["key"], row["run_key"], row["seed"]) == ("done", wanted.key, RUN.key, 0)
    assert row["moved"] == stored["values"]["moved"] > 0
    assert row["samples_seen"] == 200


@pytest.mark.parametrize("runs", [[RUN], [RUN.but(seed=s) for s in range(3)]])
def test_alone_or_stacked_the_network_is_the_one_that_the_run_trains(tmp_path, weigh, runs):
    table = sweep.measure([Measurement(run, "weigh") for run in runs], store=tmp_path, executor=None)
    for run, moved in zip(runs, table["moved"], strict=True):
        loop = Loop([run], torch.device("cpu"))
        start = torch.cat([p.detach().flatten().clone() for p in loop.model.parameters()])
        fitting.fit(loop)
        end = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
        assert moved == pytest.approx((end - start).norm().item(), rel=1e-4)


def test_what_is_measured_is_neither_measured_nor_trained_again(tmp_path, weigh, monkeypatch):
    first = sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)
    monkeypatch.setattr(worker, "work", None)
    monkeypatch.setattr(rounds, "work", None)
    again = sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)
    assert again.equals(first)


def test_another_measurement_takes_the_weights_that_are_there(tmp_path, weigh, monkeypatch):
    first = sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)
    monkeypatch.setattr(fitting, "fit", None)
    twice = sweep.measure([Measurement(RUN, "weigh", {"scale": 2.0})], store=tmp_path)
    assert twice["moved"][0] == 2 * first["moved"][0]


def test_without_weights_the_run_is_trained_again_and_its_record_stays(tmp_path, weigh):
    sweep.sweep([RUN], store=tmp_path)
    before = records.path(tmp_path, RUN).read_bytes()
    assert sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)["status"].tolist() == ["done"]
    assert records.path(tmp_path, RUN).read_bytes() == before


def test_reading_trains_nothing(tmp_path, weigh):
    table = sweep.measure([Measurement(RUN, "weigh")], store=tmp_path, train=False)
    assert table["status"].tolist() == ["missing"]
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_network_is_shown_as_such_and_not_measured(tmp_path, weigh):
    wild = RUN.but(lr=1e30)
    for _ in range(2):  # the second time nothing is tried
        table = sweep.measure([Measurement(wild, "weigh")], store=tmp_path)
        assert table["status"].tolist() == ["diverged"]
    assert [f.name for f in tmp_path.glob("*.json")] == [f"{wild.key}.json"]


def test_a_measurement_that_fails_keeps_the_training(tmp_path, weigh, monkeypatch):
    monkeypatch.setitem(measurement.KINDS, "weigh", lambda *_, scale=1.0: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep.measure([Measurement(RUN, "weigh", {})], store=tmp_path)
    assert records.read(tmp_path, RUN)["status"] == "done"
    assert (tmp_path / "checkpoints" / f"{RUN.key}.weights").exists()


@pytest.mark.parametrize("thread", [False, True], ids=["here", "in a thread"])
def test_a_budget_gives_up_a_measurement_that_takes_too_long(tmp_path, weigh, monkeypatch, thread):
    def slow(before, after, batches, run, *, scale: float = 1.0):
        while len(naps) < 200:
            interruption.check()
            naps.append(time.sleep(0.05))
        return {"moved": scale}

    naps, wanted = [], [Measurement(RUN, "weigh")]
    sweep.measure(wanted, store=tmp_path)
    monkeypatch.setitem(measurement.KINDS, "weigh", slow)
    wanted += [Measurement(RUN, "weigh", {"scale": scale}) for scale in (2.0, 3.0)]
    monkeypatch.setattr(fitting, "fit", None)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        table = sweep.measure(wanted, store=tmp_path, budget=2, executor=pool if thread else None)
    assert time.monotonic() - began < 2
    assert 0 < len(naps) < 200
    assert table["status"].tolist() == ["done", "missing", "missing"]
    naps += [None] * 200
    assert set(sweep.measure(wanted, store=tmp_path, budget=60)["status"]) == {"done"}


def test_damaged_weights_are_reported_and_their_run_trained_again(tmp_path, weigh):
    first = sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)
    file = tmp_path / "checkpoints" / f"{RUN.key}.weights"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=f"{RUN.key}.weights: cannot be used"):
        again = sweep.measure([Measurement(RUN, "weigh", {"scale": 2.0})], store=tmp_path)
    assert again["moved"][0] == 2 * first["moved"][0]


def test_weights_under_another_key_are_not_taken_for_its(tmp_path, weigh):
    other = RUN.but(seed=1)
    expected = sweep.measure([Measurement(run, "weigh") for run in (RUN, other)], store=tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / f"{other.key}.weights").write_bytes((folder / f"{RUN.key}.weights").read_bytes())
    with pytest.warns(UserWarning, match=f"it is of the run {RUN.key}.; trained again"):
        again = sweep.measure([Measurement(other, "weigh", {"scale": 2.0})], store=tmp_path)
    assert again["moved"][0] == 2 * expected["moved"][1] != 2 * expected["moved"][0]


def test_weights_of_a_training_that_is_not_on_record_any_more_are_not_taken(tmp_path, weigh, monkeypatch):
    sweep.measure([Measurement(RUN, "weigh")], store=tmp_path)
    records.path(tmp_path, RUN).unlink()
    with monkeypatch.context() as patch:  # of another machine, or of other code
        finish = fitting._final
        patch.setattr(fitting, "_final", lambda *parts: finish(*parts) | {"test_loss": 0.5})
        sweep.sweep([RUN], store=tmp_path)
    with pytest.warns(UserWarning, match="it is of another training than the one on record"):
        again = sweep.measure([Measurement(RUN, "weigh", {"scale": 2.0})], store=tmp_path)
    assert again["status"].tolist() == ["done"]
    # It is said once, not for ever, though a training here does not give what is on record.
    sweep.measure([Measurement(RUN, "weigh", {"scale": 3.0})], store=tmp_path)
    assert again["provenance"][0]["trained_by"]["code"] == origin.code()


def test_the_record_of_another_measurement_is_reported_and_taken_again(tmp_path, weigh):
    wanted = Measurement(RUN, "weigh")
    sweep.measure([wanted], store=tmp_path)
    file = records.path(tmp_path, wanted)
    file.write_text(file.read_text().replace('"scale": 1.0', '"scale": 3.0'))
    with pytest.warns(records.RecordWarning, match="not a record of this measurement"):
        table = sweep.measure([wanted], store=tmp_path)
    assert table["status"].tolist() == ["done"]
    assert file.with_suffix(".bad").exists()


def test_the_plan_counts_a_run_that_is_trained_again_to_be_measured(tmp_path, weigh):
    sweep.sweep([RUN], store=tmp_path)
    wanted = [Measurement(RUN, "weigh"), Measurement(RUN, "landscape")]
    assert sweep.plan([RUN], store=tmp_path)["status"].tolist() == ["done"]
    assert sweep.plan(wanted, store=tmp_path)["status"].tolist() == ["missing", "missing"]
    summary = planning.summary({"grid": wanted}, store=tmp_path)
    assert summary.loc["grid", ["runs", "cached", "missing"]].tolist() == [1, 0, 1]
    sweep.measure(wanted[:1], store=tmp_path)
    assert sweep.plan(wanted, store=tmp_path)["seconds"].tolist() == [0, 0]  # there are weights to measure on


def test_names_of_values_do_not_hide_the_fields_of_a_run(tmp_path):
    for kind, options in (("flatness", {"samples": 20, "batch": 4, "draws": 2}), ("landscape", SMALL)):
        wanted = Measurement(RUN, kind, options)
        sweep.measure([wanted], store=tmp_path)
        assert not set(records.read(tmp_path, wanted)["values"]) & {*RUN.as_dict(), "key", "run_key", "kind", "status"}
