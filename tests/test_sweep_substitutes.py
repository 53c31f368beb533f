"""What is drawn where CIFAR-10 is at hand, but only its stand-in has records."""

import json

import pytest

from lib.paper import experiments
from lib.runs import Measurement, Run, records, schema
from lib.sweep.substitutes import recorded, stand_in

ORIGINAL = [Run(dataset="cifar10", model="resnet18", width=4, seed=seed) for seed in (0, 1)]
STAND_IN = [run.but(dataset="cifar10-jpeg") for run in ORIGINAL]


def write(store, what):
    """The record of a run that diverged, or of a measurement."""
    record = {"status": "diverged", "provenance": {}}
    if isinstance(what, Measurement):
        record |= {"measurement": what.as_dict(), "values": {"rank": 1.0}, "status": "done"}
    else:
        curves = {name: [] for name in schema.CURVES}
        record |= {"run": what.as_dict(), "curves": curves, "final": dict.fromkeys(schema.FINAL)}
    records.path(store, what).write_text(json.dumps(record))
    assert records.read(store, what)


def test_the_stand_in_replaces_cifar10_alone():
    runs = [Run(dataset=name) for name in ("cifar10", "mnist", "cifar10-jpeg")]
    assert [run.dataset for run in stand_in(runs)] == ["cifar10-jpeg", "mnist", "cifar10-jpeg"]


def test_a_measurement_on_the_stand_in_is_the_same_otherwise():
    run = Run(dataset="cifar10", model="vgg11", width=8, loss="squared", linearize="centered")
    measured = Measurement(run, "laziness", {"samples": 7})
    assert stand_in([measured]) == [Measurement(run.but(dataset="cifar10-jpeg"), "laziness", {"samples": 7})]


def test_without_any_record_the_original_is_asked_for(tmp_path):
    assert recorded(ORIGINAL, store=tmp_path) == [ORIGINAL]


def test_where_only_the_stand_in_has_records_all_grids_are_its(tmp_path):
    write(tmp_path, STAND_IN[1])
    other = [run.but(width=8) for run in ORIGINAL]
    assert recorded(ORIGINAL, other, store=tmp_path) == [STAND_IN, stand_in(other)]


def test_a_measurement_counts_as_a_run_does(tmp_path):
    write(tmp_path, Measurement(STAND_IN[0], "features"))
    assert recorded([Measurement(ORIGINAL[0], "features")], store=tmp_path) == [[Measurement(STAND_IN[0], "features")]]


@pytest.mark.parametrize("where", [0, 1])
def test_a_record_of_the_original_in_any_grid_keeps_all_as_they_are(tmp_path, where):
    write(tmp_path, STAND_IN[0])
    write(tmp_path, [ORIGINAL[0], ORIGINAL[1].but(width=8)][where])
    grids = [ORIGINAL, [run.but(width=8) for run in ORIGINAL]]
    assert recorded(*grids, store=tmp_path) == grids


def test_who_trains_trains_the_original(tmp_path):
    write(tmp_path, STAND_IN[0])
    assert recorded(ORIGINAL, train=True, store=tmp_path) == [ORIGINAL]


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_grids_that_have_no_stand_in_stay_as_they_are(preset, tmp_path):
    grid = experiments.mnist_sparse(preset)
    write(tmp_path, grid[0])
    assert recorded(grid, store=tmp_path) == [grid]


def test_what_is_no_record_does_not_count(tmp_path):
    records.path(tmp_path, STAND_IN[0]).write_text("{}")
    assert recorded(ORIGINAL, store=tmp_path) == [ORIGINAL]
