"""Records are what they say: impossible numbers, other lengths and changed bytes are seen; all committed ones pass."""

import contextlib
import copy
import json

import pytest

from lib.core import paths
from lib.runs import Measurement, Run, records, schema
from lib.sweep import measure, sweep

RUN = Run(dataset="digits", width=0.03, epochs=2, n_train=64, batch_size=32)
COMMITTED = sorted((paths.ROOT / "data" / "records").glob("*.json"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    measure([Measurement(RUN, "landscape", {"points": 3, "samples": 20})], store=folder, device="cpu")
    return folder


def test_every_committed_record_is_valid():
    for file in COMMITTED:
        record = json.loads(file.read_text(encoding="utf-8"))
        what = (Measurement if "measurement" in record else Run).of_record(record)
        schema.check(record, what)
        assert file.stem == what.key
    assert len(COMMITTED) > 300


def change(part, name, value):
    def changed(record):
        place = record[part]
        if isinstance(place[name], list):
            place[name][-1] = value
        else:
            place[name] = value

    return changed


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (change("final", "test_accuracy", 7.0), "test_accuracy is 7.0, must be in"),
        (change("final", "test_accuracy", -0.1), "must be in"),
        (change("final", "test_loss", float("nan")), "test_loss is nan"),
        (change("final", "train_loss", None), "no train_loss, though"),
        (lambda record: record["final"].clear(), "no train_loss, test_loss"),
        (change("final", "train_loss", "0.1"), "final: no number: train_loss"),
        (change("final", "train_loss", True), "final: no number: train_loss"),
        (change("final", "train_loss", -1.0), "train_loss is -1.0, must be at least 0"),
        (change("final", "train_loss", 10**400), "train_loss is 1000"),
        (change("curves", "train_loss", [1.0]), "no list of numbers: train_loss"),
        (lambda record: record["curves"].pop("train_loss"), "no list of numbers: train_loss"),
        (change("curves", "train_loss", float("inf")), "train_loss is inf"),
        (change("curves", "test_accuracy", 1.5), "must be in"),
        (lambda record: record["curves"]["train_loss"].pop(), "curves of unequal length"),
        (lambda record: [curve.pop() for curve in record["curves"].values()], "1 epochs, of 2"),
        (lambda record: record["curves"]["epoch"].reverse(), "not one after the other"),
        (lambda record: record.update(status="diverged"), "numbers, though its status is 'diverged'"),
        (lambda record: record["curves"].update(epoch=2), "no list of numbers: epoch"),
    ],
)
def test_what_cannot_be_is_named(store, changed, reason):
    record = json.loads(records.path(store, RUN).read_text())
    changed(record)
    del record["provenance"]["checksum"]  # as in records from before it
    with pytest.raises(ValueError, match=reason):
        schema.check(record, RUN)


JUNK = [None, True, -1, 10**400, "x", [], {}, [[]], {"a": 1}, 1e308, [1, "x"]]


def places(part, way=()):
    """The ways to every part of a record, the first two entries of each list."""
    yield from [way] if way else []
    inner = part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ()
    for name, value in inner:
        yield from places(value, (*way, name))


@pytest.mark.parametrize("of", [RUN, Measurement(RUN, "landscape", {"points": 3, "samples": 20})], ids=["run", "other"])
def test_whatever_stands_in_a_record_is_at_most_treated_as_missing(store, of):
    record = json.loads(records.path(store, of).read_text())
    del record["provenance"]["checksum"]
    for way in places({name: part for name, part in record.items() if name != "provenance"}):
        for junk in JUNK:
            changed = copy.deepcopy(record)
            place = changed
            for name in way[:-1]:
                place = place[name]
            place[way[-1]] = junk
            with contextlib.suppress(ValueError):  # and nothing else
                schema.check(changed, of)
            del place[way[-1]]
            with contextlib.suppress(ValueError):
                schema.check(changed, of)


def test_a_changed_bit_of_any_number_is_seen_and_the_run_trained_again(store, tmp_path):
    text = records.path(store, RUN).read_text()
    positions = [i for i, letter in enumerate(text) if letter.isdigit() and text[i - 1].isdigit()]
    file, seen = records.path(tmp_path, RUN), 0
    for i in positions[:: len(positions) // 60]:
        file.write_text(text[:i] + chr(ord(text[i]) ^ 1) + text[i + 1 :])
        if json.loads(file.read_text()) == json.loads(text):
            continue  # beyond the digits that a number has
        with pytest.warns(records.RecordWarning, match=file.name):
            assert records.read(tmp_path, RUN) is None
        seen += 1
    assert seen >= 40
    with pytest.warns(records.RecordWarning):
        assert sweep([RUN], store=tmp_path, device="cpu")["status"].tolist() == ["done"]
    assert records.read(tmp_path, RUN)["curves"] == json.loads(text)["curves"]


def test_a_changed_measurement_is_seen(store):
    (what,) = [Measurement(RUN, "landscape", {"points": 3, "samples": 20})]
    record = records.read(store, what)
    schema.check(record, what)
    record["values"]["axis"][0] *= 2
    with pytest.raises(ValueError, match="its checksum is another"):
        schema.check(record, what)
