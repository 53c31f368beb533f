"""The plan: what a grid, or a figure, would cost before any of it is trained."""

import csv
import functools
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import data, sweep
from lib.core import interruption, paths
from lib.paper import experiments, notebooks
from lib.paper.experiments import figures
from lib.runs import Measurement, Run, parameter_count, records
from lib.sweep import calibration, planning, rates
from lib.sweep.__main__ import main
from lib.sweep.calibration import Rate
from lib.training import engines, fitting

FACTORS = Run(
    dataset="factorization", model="linear2", width=4, loss="squared", lr=0.001, epochs=4, batch_size=250, momentum=0.5
)
CPU = torch.device("cpu")
plan = functools.partial(planning.plan, progress=False)


@pytest.fixture
def a_second_a_sample(monkeypatch) -> list:
    """Every run takes one second a training sample; the groups that are timed."""
    timed = []
    monkeypatch.setattr(
        rates, "calibrate", lambda runs, _: timed.append(runs) or Rate(train=float(len(runs)), evaluate=0.0)
    )
    monkeypatch.setattr(rates, "machine", lambda device: device.type)
    monkeypatch.setattr(rates, "PATIENCE", float("inf"))
    monkeypatch.setattr(rates, "SECONDS", float("inf"))
    return timed


# One grid


def test_the_plan_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_DATA", str(tmp_path / "absent"))
    sgd = Run(width=5, momentum=0.9)  # too wide to be stacked
    sam = sgd.but(optimizer="sam", rho=0.1)
    resnet = Run(dataset="cifar10", model="resnet18", width=4)
    table = plan([sgd, sgd.but(epochs=50), sam, resnet, sgd], store=tmp_path)
    assert list(table["key"]) == [run.key for run in (sgd, sgd.but(epochs=50), sam, resnet, sgd)]
    assert (table["seconds"] > 0).all() and set(table["status"]) == {"missing"} and not table["trained"].any()
    assert table["group"].nunique() == 4 and table["seconds"][4] == table["seconds"][0]
    # Half the epochs cost half as much, apart from the final evaluation.
    assert 0.5 <= table["seconds"][1] / table["seconds"][0] < 0.52
    # An mlp of 784–1500–500–10: weights, gradients, momentum and, for SAM, the perturbed weights; 70,000 images.
    parameters, images = 785 * 1500 + 1501 * 500 + 501 * 10, 4 * 784 * 70_000
    assert list(table["memory"][[0, 2]]) == [4 * 3 * parameters + images, 4 * 4 * parameters + images]


def test_the_plan_of_what_is_there(tmp_path):
    sweep.sweep([FACTORS, FACTORS.but(lr=1e6)], store=tmp_path, progress=False)
    table = plan([FACTORS, FACTORS.but(lr=1e6), FACTORS.but(seed=1), FACTORS.but(seed=2)], store=tmp_path)
    assert list(table["status"]) == ["done", "diverged", "missing", "missing"]
    assert list(table["seconds"] > 0) == [False, False, True, True] and list(table["trained"]) == [4, 4, 0, 0]
    assert len(set(table["group"].dropna())) == 1 and not table["measuring"].any() and table["measurement"].isna().all()


DIGITS = Run(dataset="digits", width=0.2, batch_size=64, momentum=0.9, epochs=20)


@pytest.mark.parametrize(
    "base",
    [DIGITS, DIGITS.but(model="resnet18", width=4, epochs=2, eval_every=2, n_train=400)],
    ids=["stack", "grouped"],
)
def test_the_plan_is_near_what_training_takes(base, tmp_path):
    # given both in seconds of this thread, so that other programs do not count; measured are 0.8 to 1.1
    runs = [base, base.but(optimizer="sam", rho=0.1)]
    expected = plan(runs, store=tmp_path, device="cpu")["seconds"].sum()
    engine = engines.engine(runs, CPU)
    began = time.thread_time()
    fitting.fit(engine)
    assert 1 / 2 < expected / (time.thread_time() - began) < 2


def test_an_empty_grid_has_an_empty_plan(tmp_path):
    assert len(plan([])) == 0 and list(plan([]).columns) == list(plan([FACTORS], store=tmp_path).columns)


def test_what_does_not_change_the_speed_is_timed_once(tmp_path, a_second_a_sample):
    sgd = Run(width=5)  # each trains alone
    kinds = [sgd, sgd.but(optimizer="sam", rho=0.05), sgd.but(optimizer="sam", rho=0.05, normalized=False)]
    runs = [run.but(seed=seed) for seed in range(3) for run in kinds]
    runs += [run.but(lr=0.3, schedule="cosine", epochs=7, eval_every=2, n_train=500) for run in runs]
    table = plan(runs, store=tmp_path)
    assert len(a_second_a_sample) == len(kinds)
    assert table["seconds"].sum() == pytest.approx(len(runs) / 2 * (60_000 * 100 + 500 * 7))


def test_it_says_what_it_times_but_not_under_ci(tmp_path, monkeypatch, capsys, a_second_a_sample):
    sam = Run(optimizer="sam", rho=0.1)
    runs = [Run(width=5), sam, sam.but(seed=1), Run(dataset="cifar10", model="resnet18", width=16, sparsity=0.5)]
    monkeypatch.setenv("CI", "true")
    planning.plan(runs, store=tmp_path / "one")
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("CI")
    planning.plan(runs, store=tmp_path / "other")
    out, err = capsys.readouterr()
    assert out == "" and sorted(err.splitlines()) == [
        "timing 2 runs of mlp of width 1 on mnist, SAM",
        "timing mlp of width 5 on mnist",
        "timing resnet18 of width 16 on cifar10, sparse",
    ]


def test_what_was_timed_is_remembered_until_the_code_changes(tmp_path, monkeypatch, a_second_a_sample):
    runs = [Run(width=5), Run(width=10)]
    seconds = [list(plan(runs, store=tmp_path)["seconds"]) for _ in range(2)]
    assert len(a_second_a_sample) == 2 and seconds[0] == seconds[1]
    monkeypatch.setattr(rates.origin, "code", lambda: "another")
    plan(runs, store=tmp_path)
    assert len(a_second_a_sample) == 4
    (file,) = (tmp_path / "checkpoints").glob("*.rates")
    for damaged in ("", "[]", '{"code": "another", "rates": {"x": ["y", 1]}}'):
        file.write_text(damaged)
        plan(runs, store=tmp_path)
    assert len(a_second_a_sample) == 10


def test_where_time_is_short_one_of_each_family_is_timed_and_the_others_inferred(
    tmp_path, monkeypatch, a_second_a_sample
):
    monkeypatch.setattr(rates, "SECONDS", -1.0)
    narrow, wide = Run(width=5), Run(width=10)
    sam, resnet = wide.but(optimizer="sam", rho=0.1), Run(dataset="cifar10", model="resnet18", width=16)
    table = plan([narrow, wide, sam, resnet], store=tmp_path).set_index("key")["seconds"]
    assert [kind[0].model for kind in a_second_a_sample] == ["mlp", "resnet18"]
    share = parameter_count.parameters(wide) / parameter_count.parameters(narrow)
    assert table[narrow.key] == 60_000 * 100 and table[resnet.key] == 50_000 * 100
    assert table[wide.key] == pytest.approx(share * table[narrow.key])
    assert table[sam.key] == pytest.approx(2 * share * table[narrow.key])
    plan([narrow, wide, sam, resnet], store=tmp_path)
    assert len(a_second_a_sample) == 2  # asked again, nothing is timed that there is no time for


def test_a_plan_needs_no_store_that_can_be_written_to(tmp_path, a_second_a_sample):
    (tmp_path / "checkpoints").write_text("a file in the place of the folder")
    assert len(plan([Run(width=5)], store=tmp_path)) == 1


def test_the_next_hour_buys_the_cheapest_groups(tmp_path, monkeypatch, a_second_a_sample):
    monkeypatch.setattr("lib.sweep.groups.cpu_count", lambda: 2)
    runs = [Run(width=5, epochs=1, n_train=n) for n in (1000, 3000, 3500, 3600, 3601)]
    summary = planning.summary({"all": runs, "long": runs[3:]}, store=tmp_path, device="cpu", progress=False)
    assert list(summary["next_hour"]) == [2, 0]  # 1000 + 3000 s of 2 × 3600


# Measurements


def file_measurement(store: Path, measurement: Measurement, seconds: float) -> None:
    record = {"measurement": measurement.as_dict(), "values": {"a": 1.0}, "status": "done"}
    record["provenance"] = {"seconds": seconds}
    records.write(store, record)


def test_a_measurement_takes_what_those_on_record_took_by_the_number_of_parameters(
    tmp_path, monkeypatch, a_second_a_sample
):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "default"))
    narrow, wide = (Run(dataset="digits", n_train=1000, epochs=4, width=width) for width in (0.05, 0.2))
    times = parameter_count.parameters(wide) / parameter_count.parameters(narrow)
    for i, seconds in enumerate((1.0, 2.0, 9.0)):
        file_measurement(tmp_path / "default", Measurement(narrow.but(seed=i), "flatness"), seconds)
    file_measurement(tmp_path / "default", Measurement(narrow, "flatness", {"samples": 10}), 100.0)
    file_measurement(tmp_path / "store", Measurement(wide, "flatness"), 16 * times)
    (tmp_path / "default" / "odd.json").write_text("[]")
    wanted = [Measurement(wide, "flatness"), Measurement(wide.but(seed=1), "flatness"), Measurement(wide, "landscape")]
    table = plan(wanted, store=tmp_path / "store")
    # Four on record, 1, 2, 9 and 16 seconds for as many parameters as the narrow one has: the median is 5.5.
    assert list(table["measuring"][:2]) == [0.0, pytest.approx(times * 5.5)] and np.isnan(table["measuring"][2])
    assert list(table["measurement"]) == [measurement.key for measurement in wanted]
    (row,) = planning.summary({"one": wanted}, store=tmp_path / "store", device="cpu", progress=False).to_dict(
        "records"
    )
    assert (row["runs"], row["unmeasured"]) == (2, 2)
    assert row["measuring"] == pytest.approx(times * 5.5 / 3600) and row["training"] == pytest.approx(
        2 * 4 * 1000 / 3600
    )
    assert row["core_hours"] == pytest.approx(row["training"] + row["measuring"])


# Several grids


def test_the_summary_counts_no_run_twice_and_splits_no_group(tmp_path, monkeypatch, a_second_a_sample):
    monkeypatch.setattr("lib.sweep.groups.cpu_count", lambda: 2)
    runs = [Run(width=5, epochs=1), Run(width=5, epochs=4)]
    grids = {"one": runs[:1], "both": runs, "twice": runs + runs, "none": []}
    table = planning.summary(grids, store=tmp_path, device="cpu", progress=False)
    assert list(table.index) == list(grids)
    assert list(table["missing"]) == [1, 2, 2, 0] and list(table["cached"]) == [0, 0, 0, 0]
    assert list(table["core_hours"]) == [60_000 / 3600, 300_000 / 3600, 300_000 / 3600, 0]
    assert list(table["hours"]) == [60_000 / 3600, 240_000 / 3600, 240_000 / 3600, 0]
    assert table["memory_GB"]["both"] == pytest.approx(2 * table["memory_GB"]["one"])


def test_on_a_gpu_they_are_gpu_hours(tmp_path, a_second_a_sample):
    table = planning.summary({"one": [Run(width=5, epochs=1)]}, store=tmp_path, device="cuda", progress=False)
    assert "core_hours" not in table and list(table["GPU_hours"]) == [60_000 / 3600]


# Figures


def test_every_figure_of_the_notebooks_has_its_grids():
    drawn = {source.stem: notebooks.figures_of(source) for source in notebooks.sources()}
    assert {notebook: list(parts) for notebook, parts in figures.FIGURES.items()} == drawn


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_every_experiment_belongs_to_a_figure(preset):
    drawn = {what.key for grid in figures.grids(preset).values() for what in grid}
    for name, grid in experiments.EXPERIMENTS.items():
        assert {what.key for what in grid(preset)} <= drawn, name


def test_the_committed_figures_are_drawn_from_their_grids_alone(monkeypatch):
    monkeypatch.setattr(data, "available", lambda name: name != "cifar10")  # as it was where they were drawn
    checked = set()
    for (_, figure), grid in figures.grids("lite").items():
        file = paths.ROOT / "figures" / "lite" / f"{figure}.csv"
        rows = list(csv.DictReader(file.open())) if file.exists() else []
        drawn = {key for row in rows for name in ("key", "keys") for key in (row.get(name) or "").split()}
        assert drawn <= {what.key for what in grid} | {planning.run_of(what).key for what in grid}, figure
        checked |= {figure} if drawn else set()
    assert checked > {"fig01a", "fig02c", "fig03a", "fig11", "fig17a"}  # those of other notebooks may have no runs yet


def test_the_days_of_figures_add_up(tmp_path, monkeypatch, capsys, a_second_a_sample):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    monkeypatch.setattr("lib.sweep.groups.cpu_count", lambda: 2)
    assert main(["--plan", "--preset", "paper", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "core_days" in out and "core_hours" not in out
    printed = {line.rsplit(None, 11)[0]: line.split() for line in out.splitlines()}
    rows = figures.grids("paper")

    def days(grid) -> float:
        runs = {planning.run_of(what) for what in grid}
        return sum((data.DATASETS[run.dataset].samples[0] - run.n_validation) * run.epochs for run in runs) / 86400

    for (notebook, figure), grid in rows.items():
        if not grid:
            assert f"{notebook} {figure}" not in printed
            continue
        line = printed[f"{notebook} {figure}"]
        assert float(line[-4]) == pytest.approx(days(grid), abs=1e-3)
    every = [what for grid in rows.values() for what in grid]
    assert float(printed["all"][-4]) == pytest.approx(days(every), abs=1e-3)


@pytest.mark.parametrize(
    "run",
    [
        Run(width=0.1, n_validation=5000),
        Run(dataset="cifar10", model="preact_resnet18", width=1, n_validation=5000, optimizer="sam", rho=0.1, parts=4),
    ],
    ids=["mlp", "parts with batch norm"],
)
def test_what_holds_samples_out_or_has_parts_is_timed_on_a_stand_in(run):
    (kind,) = [calibration.alike([run])]
    assert min(calibration.calibrate(kind, CPU)) > 0


@pytest.mark.parametrize("moment", [10, 400, 800, 1200])
def test_timing_a_step_that_may_take_minutes_is_given_up_within_it(moment, monkeypatch):
    asked, epochs = [], []
    epoch = engines.Loop.epoch
    monkeypatch.setattr(engines.Loop, "epoch", lambda self, i: (epoch(self, i), epochs.append(i))[0])
    run = Run(dataset="digits", model="resnet18", width=8, optimizer="sam", rho=0.1)
    with pytest.raises(interruption.Interrupted), interruption.stopping(lambda: asked.append(1) or len(asked) > moment):
        calibration.calibrate([run], torch.device("cpu"))
    assert not epochs
