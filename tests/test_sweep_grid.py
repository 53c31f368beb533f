"""The sweep: what it returns, and that nothing that happens to it on the way makes a difference.

Processes that are killed are forked from a server that has imported `lib` once (multiprocessing's forkserver).
"""

import concurrent.futures
import functools
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas
import pytest
import torch
from filelock import FileLock, Timeout

from lib import data, sweep
from lib.core import paths
from lib.paper import experiments
from lib.runs import Measurement, Run, records
from lib.sweep import groups, planning, pool, rounds, selfcheck, worker
from lib.sweep.__main__ import main
from lib.sweep.calibration import Rate
from lib.sweep.grid import parse_seconds
from lib.training import engines, fitting

FACTORS = Run(
    dataset="factorization",
    model="linear2",
    width=4,
    loss="squared",
    lr=0.001,
    epochs=4,
    batch_size=250,
    precision="float64",
)
DIGITS = Run(
    dataset="digits", width=0.03, schedule="step", momentum=0.9, weight_decay=1e-4, epochs=4, n_train=256, batch_size=64
)
RESNET = DIGITS.but(model="resnet18", width=1, n_train=64, batch_size=32, epochs=2)
CPU = torch.device("cpu")


def optimizers(base: Run, seeds=(0,)) -> list[Run]:
    sam = base.but(optimizer="sam", rho=0.05)
    return [run.but(seed=seed) for run in (base, sam, sam.but(normalized=False)) for seed in seeds]


def grid(epochs: int = 4) -> list[Run]:
    """Stacks and a loop: three groups."""
    return [*optimizers(FACTORS.but(epochs=epochs)), *optimizers(DIGITS.but(epochs=epochs)), RESNET]


@pytest.fixture(autouse=True)
def serial(monkeypatch):
    """Train in this process, unless a test says otherwise."""
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> pandas.DataFrame:
    """The table of the grid, trained without any disturbance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.groups, "cpu_count", lambda: 1)
        return sweep.sweep(grid(), store=tmp_path_factory.mktemp("expected"))


def check(result: pandas.DataFrame, expected: pandas.DataFrame) -> None:
    """The same to the last bit, but for the provenance."""
    pandas.testing.assert_frame_equal(
        result.drop(columns="provenance"), expected.drop(columns="provenance"), check_exact=True
    )


def check_records(store, runs) -> None:
    """Nothing but whole records of these runs ends in .json."""
    assert sorted(store.rglob("*.json")) == sorted(records.path(store, run) for run in runs)
    assert all(records.read(store, run) for run in runs)


def check_store(store, runs) -> None:
    """The records of these runs, and no work left."""
    check_records(store, runs)
    files = set(store.glob("*.json"))
    assert [f.name for f in store.iterdir() if f not in files] == ["checkpoints"]
    left = [file for file in (store / "checkpoints").iterdir() if file.suffix != ".rates"]
    assert [file.name for file in left if ".check" not in file.name] == []


# The table


def test_one_row_a_run_in_the_order_given(tmp_path, expected):
    assert list(expected["key"]) == [run.key for run in grid()]
    assert list(expected.columns) == [*Run().as_dict(), "key", "status", *sweep.FINAL, "curves", "provenance"]
    assert set(expected["status"]) == {"done"}
    for run, (_, row) in zip(grid(), expected.iterrows(), strict=True):
        assert {name: row[name] for name in run.as_dict()} == run.as_dict()
        assert row["curves"]["epoch"] == list(range(1, run.epochs + 1))
        assert np.isfinite(row["train_loss"]) and np.isnan(row["test_accuracy"]) == (run.dataset == "factorization")


def test_reading_makes_no_file_or_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "default"))
    for store in (None, tmp_path / "given", str(tmp_path / "given")):
        table = sweep.sweep(grid(), store=store, train=False)
        assert set(table["status"]) == {"missing"} and table["curves"].isna().all() and table["provenance"].isna().all()
        assert (table[list(sweep.FINAL)].dtypes == np.float64).all() and table["test_loss"].isna().all()
        assert set(sweep.plan(grid(), store=store)["status"]) == {"missing"}
    assert not list(tmp_path.iterdir())


def test_an_empty_grid_gives_an_empty_table(tmp_path, expected):
    table = sweep.sweep([], store=tmp_path / "store")
    assert len(table) == 0 and list(table.columns) == list(expected.columns)
    assert not (tmp_path / "store").exists()


def test_a_duplicate_is_trained_once_and_has_its_row(tmp_path, monkeypatch):
    trained = spy(monkeypatch)
    table = sweep.sweep(iter([FACTORS, FACTORS.but(seed=1), FACTORS]), store=str(tmp_path))
    assert [len(runs) for runs in trained] == [2]
    assert list(table["key"]) == [FACTORS.key, FACTORS.but(seed=1).key, FACTORS.key]
    assert table["train_loss"].iloc[0] == table["train_loss"].iloc[2]


def spy(monkeypatch) -> list:
    """The groups that are trained from now on."""
    trained, engine = [], engines.engine
    monkeypatch.setattr(
        engines, "engine", lambda runs, *how, **more: trained.append(runs) or engine(runs, *how, **more)
    )
    return trained


def test_a_record_names_the_code_as_it_was_before_training(tmp_path, monkeypatch):
    epoch, edits = engines.Stack.epoch, []
    monkeypatch.setattr(engines.Stack, "epoch", lambda self, i: edits.append(i) or epoch(self, i))
    monkeypatch.setattr(records, "commit", functools.cache(lambda: f"after {len(edits)} edits"))
    assert [p["commit"] for p in sweep.sweep([FACTORS], store=tmp_path)["provenance"]] == ["after 0 edits"]


def test_what_is_recorded_is_not_trained_again(tmp_path, monkeypatch):
    first = sweep.sweep(grid()[:3], store=tmp_path)
    trained = spy(monkeypatch)
    check(sweep.sweep(grid()[:3], store=tmp_path), first)
    assert not trained
    assert len(sweep.sweep(grid()[:4], store=tmp_path)) == 4 and trained == [(grid()[3],)]


def test_a_diverged_run_is_recorded_and_shown(tmp_path):
    runs = [FACTORS, FACTORS.but(lr=1e6)]
    table = sweep.sweep(runs, store=tmp_path)
    assert list(table["status"]) == ["done", "diverged"]
    assert np.isnan(table["train_loss"].iloc[1]) and table["curves"].iloc[1]["epoch"] == []
    check_store(tmp_path, runs)


def test_the_default_stores(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    assert set(sweep.sweep([FACTORS, DIGITS])["status"]) == {"done"}
    assert {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.json")} == {
        f"{FACTORS.key}.json",
        f"digits/{DIGITS.key}.json",
    }


def test_a_relative_store_means_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        sweep.sweep([FACTORS], store="here", executor=executor)
    assert (tmp_path / "here" / f"{FACTORS.key}.json").exists()


@pytest.mark.parametrize("budget", ["soon", "", "9 minutes", -1, "nan", "inf", "-2m"])
def test_a_budget_that_is_no_time_is_refused(budget):
    with pytest.raises(ValueError, match=rf"budget = {budget!r}: must be seconds or a time such as '90s', '9m', '2h'"):
        sweep.sweep([], budget=budget)


def test_budgets():
    assert [parse_seconds(b) for b in (540, "540", "9m", "0.15h", "540s", " 9m ", 0)] == [540] * 6 + [0]


def test_what_is_no_device_or_executor_is_refused():
    for device in ("gpu", "mps", "tpu:0", 3.5):
        with pytest.raises(ValueError, match=f"device = {device!r}: must be 'cpu' or 'cuda'"):
            sweep.sweep([FACTORS], device=device)
    with pytest.raises(TypeError, match=r"must be a concurrent.futures.Executor; dask's is client.get_executor\(\)"):
        sweep.sweep([FACTORS], executor="dask")


def test_no_progress_under_ci_nor_when_told(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CI", "true")
    sweep.sweep([FACTORS], store=tmp_path)
    monkeypatch.delenv("CI")
    sweep.sweep([FACTORS.but(seed=1)], store=tmp_path, progress=False)
    assert capfd.readouterr() == ("", "")
    sweep.sweep([FACTORS.but(seed=2)], store=tmp_path)
    assert re.search(r"1/1 runs 100%", capfd.readouterr().err)


def test_epochs_weigh_by_network_gradients_and_samples():
    few = rounds._weight(DIGITS.but(n_train=100))
    assert rounds._weight(DIGITS.but(n_train=0)) / few == pytest.approx(1437 / 100)
    assert rounds._weight(DIGITS.but(n_train=100, optimizer="sam", rho=0.1, epochs=8)) / few == pytest.approx(4)


# Engines and threads


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("run", [DIGITS, RESNET], ids=["stack", "loop"])
def test_training_takes_one_thread_however_many_there_are(tmp_path, monkeypatch, two_threads, run):
    seen, engine = set(), engines.engine_class([run])
    for name in ("__init__", "epoch", "evaluate"):
        original = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *given, of=original: seen.add(torch.get_num_threads()) or of(*given))
    table = sweep.sweep([run], store=tmp_path)
    assert seen == {1} and table["provenance"][0]["threads"] == 1 and torch.get_num_threads() == 2


def test_smoke_figures_use_the_engines(tmp_path):
    perceptrons, resnets = (
        [run.but(epochs=1, n_train=64) for run in name("smoke")]  # of which the choice does not depend
        for name in (experiments.mnist_mlp, experiments.cifar_resnet)
    )
    for runs, kinds in [
        (perceptrons, {0.05: ("stack", 6), 0.2: ("stack", 6), 1.0: ("stack", 6)}),
        (resnets, {4.0: ("grouped", 2), 16.0: ("loop", 1)}),
    ]:
        table = sweep.sweep(runs, store=tmp_path)
        most = {width: max(p["group"] for p in part["provenance"]) for width, part in table.groupby("width")}
        names = {width: {p["engine"] for p in part["provenance"]} for width, part in table.groupby("width")}
        assert {width: (*names[width], most[width]) for width in names} == kinds


@pytest.mark.parametrize("base", [DIGITS, RESNET.but(width=2)], ids=["stack", "grouped"])
def test_the_same_grid_twice_gives_the_same_bytes(tmp_path, base):
    runs, bytes_ = optimizers(base, seeds=(0, 1)), []
    for store in (tmp_path / "first", tmp_path / "second"):
        table = sweep.sweep(runs, store=store)
        assert {p["engine"] for p in table["provenance"]} == {"stack" if base == DIGITS else "grouped"}
        lines = [records.path(store, run).read_bytes().splitlines() for run in runs]  # one line a part
        bytes_.append([[line for line in record if not line.startswith(b'"provenance"')] for record in lines])
    assert bytes_[0] == bytes_[1] and all(len(record) == 2 + len(Run.PARTS) - 1 for record in bytes_[0])


# Executors


def test_threads_give_the_same_table(tmp_path, expected):
    with ThreadPoolExecutor(3) as executor:
        check(sweep.sweep(grid(), store=tmp_path, executor=executor), expected)
    check_store(tmp_path, grid())


def slow(epochs: int) -> list[Run]:
    """Two groups of many epochs of a few milliseconds."""
    return [*optimizers(FACTORS.but(epochs=epochs)), *optimizers(FACTORS.but(epochs=epochs, width=5))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Runs that take some seconds, a store of them, and its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.groups, "cpu_count", lambda: 1)
        runs, store = slow(500), tmp_path_factory.mktemp("undisturbed")
        return runs, store, sweep.sweep(runs, store=store)


def kill_a_worker(store) -> threading.Thread:
    """Once training is under way, kill one of the worker processes."""

    def kill():
        while not any(file.stat().st_size for file in store.glob("checkpoints/*.progress")):
            time.sleep(0.02)
        os.kill(int(next(store.glob("checkpoints/*.progress")).read_text().split()[1]), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_killed_worker_of_the_local_pool_is_replaced(tmp_path, monkeypatch, undisturbed):
    runs, _, table = undisturbed
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    killer = kill_a_worker(tmp_path)
    message = (
        r"died of SIGKILL: .* want of memory; its group, linear2 of width . on factorization \(.*\), is trained again"
    )
    with pytest.warns(UserWarning, match=message + " with nothing beside it, from its checkpoint"):
        result = sweep.sweep(runs, store=tmp_path)
    killer.join()
    check(result, table)
    check_store(tmp_path, runs)


def test_a_killed_worker_of_a_given_pool_loses_no_finished_run(tmp_path, undisturbed):
    runs, store, table = undisturbed
    for run in runs[:3]:
        shutil.copy(records.path(store, run), tmp_path)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        killer = kill_a_worker(tmp_path)
        with pytest.raises(BrokenExecutor, match="terminated abruptly"):
            sweep.sweep(runs, store=tmp_path, executor=executor)
        killer.join()
    assert {f.name: f.read_bytes() for f in tmp_path.glob("*.json")} == {
        f.name: f.read_bytes() for f in (records.path(store, run) for run in runs[:3])
    }
    check(sweep.sweep(runs, store=tmp_path), table)


def test_all_gpus_of_a_machine_train_side_by_side(monkeypatch):
    # given two GPUs, and workers that say on which they are
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    started = []

    class Worker:
        def submit(self, _, work, group, device, *rest):
            started.append((group, device))
            future = concurrent.futures.Future()
            future.set_result(device)
            return future

    monkeypatch.setattr(pool, "_idle", [])
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *_, **__: Worker())
    both = groups.devices(torch.device("cuda"))
    assert [str(device) for device in both] == ["cuda:0", "cuda:1"]
    # when five groups are trained
    outcomes = pool.run(list("abcde"), both, None)
    # then each trains once, the first two at a time on different GPUs
    assert [group for group, _ in started] == list("abcde")
    assert {device for _, device in started[:2]} == set(both) and outcomes == [device for _, device in started]
    # and one that is named is used alone
    assert groups.devices(torch.device("cuda:1")) == [torch.device("cuda:1")]


def test_a_group_that_the_memory_does_not_hold_is_halved(tmp_path, monkeypatch):
    # given a memory that holds two runs of a stack
    runs, engine, tried = [DIGITS.but(seed=seed, epochs=1) for seed in range(5)], engines.engine, []

    def small(runs, device, **how):
        tried.append(len(runs))
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return engine(runs, device, **how)

    monkeypatch.setattr(engines, "engine", small)
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    # when a group of five is trained
    with pytest.warns(UserWarning, match="no memory for 5 runs of mlp .* together: halved"):
        table = sweep.sweep(runs, store=tmp_path, progress=False)
    # then it is trained in parts, which the records name, and nothing is left of the group
    assert tried == [5, 3, 2, 1, 2] and set(table["status"]) == {"done"}
    assert [len(provenance["company"]) for provenance in table["provenance"]] == [2, 2, 1, 2, 2]
    assert not list((tmp_path / "checkpoints").glob("*.runs"))
    # and a single run for which there is no memory is an error
    monkeypatch.setattr(engines, "engine", lambda *_, **__: small(range(3), None))
    with pytest.raises(torch.OutOfMemoryError):
        sweep.sweep([DIGITS.but(seed=9, epochs=1)], store=tmp_path, progress=False)


def test_dask_with_a_killed_worker(tmp_path, undisturbed):
    distributed = pytest.importorskip("distributed")
    runs, _, table = undisturbed
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
        killer = kill_a_worker(tmp_path)
        result = sweep.sweep(runs, store=tmp_path, executor=client.get_executor())
        killer.join()
        assert set(client.run(os.getpid).values()) != set(pids)
    check(result, table)
    check_store(tmp_path, runs)


def fault(keys, plain, name=signal.SIGSEGV.name) -> None:
    """In this process, die whenever a group with one of these keys is trained; plain: by the plainest engine too."""
    engine = engines.engine

    def dying(runs, device, **how):
        if not {run.key for run in runs}.isdisjoint(keys) and (plain or not how["plain"]):
            os.kill(os.getpid(), signal.Signals[name])
        return engine(runs, device, **how)

    engines.engine = dying


@pytest.fixture
def faulty_workers(monkeypatch):
    """Have the local pool's workers die in training the groups of these keys."""

    def plant(keys, *, plain, name=signal.SIGSEGV.name):
        monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
        monkeypatch.setattr(pool, "_idle", [])
        start, planted = pool.ProcessPoolExecutor, {"initializer": fault, "initargs": (keys, plain, name)}
        monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *given, **how: start(*given, **how | planted))

    return plant


def test_a_run_at_which_workers_always_die_is_the_only_one_that_fails(tmp_path, faulty_workers, expected):
    # given a run, in a stack of three, at which every worker dies of a segmentation fault
    doomed = grid()[4]
    faulty_workers([doomed.key], plain=True)
    # when the grid is trained
    with pytest.warns(UserWarning) as caught:
        table = sweep.sweep(grid(), store=tmp_path)
    # then that run is marked, and named with the signal
    assert list(table["key"][table["status"] == "failed"]) == [doomed.key]
    assert table.set_index("key").loc[doomed.key, list(sweep.FINAL)].isna().all()
    messages = [str(warning.message) for warning in caught]
    assert re.match(
        r"a worker process died of SIGSEGV, a crash of native code; its group, mlp of width 0.03 on", messages[0]
    )
    assert messages[0].endswith("is trained again with nothing beside it, from the start")
    assert (
        caught[-1].category is sweep.FailedWarning and messages[-1].startswith("failed") and doomed.key in messages[-1]
    )
    assert "SIGSEGV" in messages[-1] and "docs/onednn.md" in messages[-1]
    # and all others are filed: its companions by the plainest engine, the other groups as ever
    check_records(tmp_path, [run for run in grid() if run != doomed])
    others = table["key"] != doomed.key
    companions = others & table["key"].isin([run.key for run in grid()[3:6]])
    assert {(p["engine"], p["group"]) for p in table["provenance"][companions]} == {("plain loop", 1)}
    check(table[others & ~companions], expected[others & ~companions])
    for name in sweep.FINAL:
        np.testing.assert_allclose(table[name][companions], expected[name][companions], rtol=1e-3)
    # and the next call tries it again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.groups, "cpu_count", lambda: 1)
        assert set(sweep.sweep(grid(), store=tmp_path)["status"]) == {"done"}
    check_store(tmp_path, grid())


def test_what_crashes_in_company_is_trained_by_itself(tmp_path, faulty_workers, expected):
    faulty_workers([grid()[4].key], plain=False, name=signal.SIGABRT.name)
    with pytest.warns(UserWarning, match="SIGABRT"):
        table = sweep.sweep(grid(), store=tmp_path)
    assert set(table["status"]) == {"done"}
    assert [p["engine"] for p in table["provenance"]] == ["stack"] * 3 + ["plain loop"] * 3 + ["loop"]
    check_records(tmp_path, grid())


@pytest.mark.parametrize(("cause", "kept"), [("SIGSEGV", False), ("SIGKILL", True)])
def test_a_checkpoint_of_a_process_that_damaged_itself_is_not_used(tmp_path, monkeypatch, cause, kept):
    (group,) = groups.gather([FACTORS], tmp_path, CPU)
    group.folder.mkdir()
    tried = [group, *group.members()]
    for part in tried:
        part.file("pt").touch()
    monkeypatch.setattr(pool, "run", lambda batch, *_: [pool.WorkerDied(cause)] * len(batch))
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    with pytest.warns(UserWarning, match="from its checkpoint" if kept else "from the start"):
        sweep.sweep([FACTORS, RESNET], store=tmp_path)
    assert [part.file("pt").exists() for part in tried] == [kept] * 2


def test_a_group_of_which_no_run_could_be_trained_keeps_its_checkpoint(tmp_path, monkeypatch):
    (group,) = groups.gather(grid()[3:6], tmp_path, CPU)
    group.folder.mkdir()
    group.register()
    group.file("pt").touch()
    monkeypatch.setattr(pool, "run", lambda batch, *_: [pool.WorkerDied("SIGKILL")] * len(batch))
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    with pytest.warns(sweep.FailedWarning):
        sweep.sweep([*grid()[3:6], RESNET], store=tmp_path)
    assert group.file("pt").exists() and group.file("runs").exists()


def test_a_group_that_killed_the_process_itself_is_left_to_a_worker_and_to_the_end(tmp_path, faulty_workers):
    # given a process that trained by itself, and died of it
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_sweep_grid as t; t.groups.cpu_count = lambda: 1;"
        "t.fault([t.RESNET.key], True); t.sweep.sweep(t.grid(), store=sys.argv[1])"
    )
    runs = [sys.executable, "-c", script, str(tmp_path), str(paths.ROOT / "tests")]
    died = subprocess.run(runs, capture_output=True, text=True)
    assert died.returncode == -signal.SIGSEGV, died.stderr
    # when it is called again on one core
    faulty_workers([RESNET.key], plain=True)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(sweep.FailedWarning):
        patch.setattr(rounds.groups, "cpu_count", lambda: 1)
        table = sweep.sweep(grid(), store=tmp_path)
    # then it lives, and all others are filed
    assert list(table["status"]) == ["done"] * 6 + ["failed"]


def test_a_measurement_whose_run_fails_is_marked_too(tmp_path, faulty_workers):
    faulty_workers([DIGITS.key], plain=True)
    wanted = [Measurement(run, "landscape", {"points": 3, "samples": 20}) for run in (DIGITS, DIGITS.but(width=0.05))]
    with pytest.warns(sweep.FailedWarning):
        table = sweep.measure(wanted, store=tmp_path)
    assert list(table["status"]) == ["failed", "done"]


def test_the_command_says_what_failed(tmp_path, faulty_workers, capsys, monkeypatch):
    faulty_workers([RESNET.key], plain=True)
    monkeypatch.setitem(experiments.EXPERIMENTS, "mine", lambda preset: grid())
    with pytest.warns(sweep.FailedWarning):
        assert main(["mine", "--store", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "6 done, 1 failed\n"


def test_a_group_in_which_no_epoch_ends_is_noticed_once(tmp_path):
    (group,) = groups.gather([FACTORS], tmp_path, CPU)
    group.folder.mkdir()
    group.file("progress").write_text("3 4711")
    watch = pool._Watch()
    watch._began -= 4 * pool.STALL_SECONDS
    os.utime(group.file("progress"), (time.time() - 0.9 * pool.STALL_SECONDS,) * 2)
    with warnings.catch_warnings(action="error"):
        watch.warn_of_stalls([group])  # not yet
    os.utime(group.file("progress"), (time.time() - 3.9 * pool.STALL_SECONDS,) * 2)
    with pytest.warns(UserWarning, match=rf"no epoch has ended for 78 minutes .*{FACTORS.key}.*`kill 4711`"):
        watch.warn_of_stalls([group])
    with warnings.catch_warnings(action="error"):
        watch.warn_of_stalls([group])


def test_an_interrupt_stops_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    runs = slow(10**6)

    def interrupted(*_):
        if len(list(tmp_path.glob("checkpoints/*.progress"))) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "_poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(runs, store=tmp_path)
    for run in runs:
        FileLock(tmp_path / "checkpoints" / f"{run.key}.lock", timeout=10).acquire()


class Pool(concurrent.futures.Executor):
    """Says that all is done, and does nothing."""

    def submit(self, *_):
        future = concurrent.futures.Future()
        future.set_result(worker.DONE)
        return future


def test_workers_that_file_their_records_elsewhere_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(rounds, "VISIBLE_SECONDS", 0.1)
    message = rf"{FACTORS.key}.json was written, but not to {tmp_path}: do all workers see it\?"
    with pytest.raises(records.StoreError, match=message):
        sweep.sweep([FACTORS, DIGITS], store=tmp_path, executor=Pool())


# Errors


@pytest.mark.parametrize("threads", [0, 2])
def test_the_error_of_one_group_comes_after_the_others_have_ended(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("SAM_DATA", str(tmp_path / "absent"))
    # 784 inputs make this the costliest group, which comes first.
    runs = [Run(dataset="mnist", width=0.25, epochs=1), *grid()[:3]]
    executor = ThreadPoolExecutor(threads) if threads else None
    with pytest.raises(data.DataUnavailable, match="mnist: looked for"):
        sweep.sweep(runs, store=tmp_path / "store", executor=executor)
    table = sweep.sweep(runs, store=tmp_path / "store", train=False)
    assert list(table["status"]) == ["missing", "done", "done", "done"]
    assert not list((tmp_path / "store").glob("checkpoints/*.runs"))


@pytest.mark.parametrize("odd", ["{", "[]", '{"run": {}}'])
def test_a_corrupt_record_is_trained_again(tmp_path, expected, odd):
    sweep.sweep(grid()[:3], store=tmp_path)
    file, *others = (records.path(tmp_path, run) for run in grid()[:3])
    before = [f.read_bytes() for f in others]
    file.write_text(odd)
    with pytest.warns(records.RecordWarning, match=file.name):
        assert sweep.sweep(grid()[:3], store=tmp_path, train=False)["status"].iloc[0] == "missing"
    with pytest.warns(records.RecordWarning, match=file.name):
        table = sweep.sweep(grid()[:3], store=tmp_path)
    # Trained alone now and not in a stack of three: equal up to the order of sums.
    assert np.allclose(table["train_loss"], expected["train_loss"][:3], rtol=1e-12, atol=0)
    assert [f.read_bytes() for f in others] == before and file.with_suffix(".bad").read_text() == odd


def test_a_store_that_cannot_be_made_is_an_error_before_any_training(tmp_path, monkeypatch):
    trained = spy(monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(records.StoreError, match=r"cannot be written to: Not a directory. Finished runs are safe"):
        sweep.sweep(grid(), store=tmp_path / "file" / "store")
    assert not trained


def test_a_claim_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "checkpoints" / f"{FACTORS.key}.lock").mkdir(parents=True)
    with pytest.raises(records.StoreError, match="checkpoints cannot be written to: Is a directory"):
        sweep.sweep([FACTORS, FACTORS.but(epochs=2)], store=tmp_path)
    assert records.read(tmp_path, FACTORS.but(epochs=2))


@pytest.mark.parametrize("bytes_left, then", [(4_000, "at a checkpoint"), (2_000, "at a record")])
def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path, monkeypatch, bytes_left, then):
    if then == "at a checkpoint":
        monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)
    run, finished = DIGITS.but(epochs=100), FACTORS.but(epochs=2)
    sweep.sweep([finished], store=tmp_path)
    before = records.path(tmp_path, finished).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (bytes_left, hard)
    )  # the kernel refuses to write more, as a full disk does
    try:
        with pytest.raises(
            records.StoreError, match=r"cannot be written to: .*Finished runs are safe; free some space"
        ):
            sweep.sweep([finished, run], store=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.tmp"))
    assert records.path(tmp_path, finished).read_bytes() == before
    assert set(sweep.sweep([finished, run], store=tmp_path)["status"]) == {"done"}
    check_store(tmp_path, [finished, run])


# Stopping and going on


@pytest.fixture
def checkpoints(monkeypatch):
    """A checkpoint after every epoch."""
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)


class Killed(BaseException):
    """Ends a sweep wherever it is raised, as a signal would."""


def kill_at(monkeypatch, module, name: str, calls: int):
    """Raise Killed in the call with this number (from 1) of a function."""
    count, original = itertools.count(1), getattr(module, name)

    def call(*given, **named):
        if next(count) == calls:
            raise Killed
        return original(*given, **named)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_group_killed_between_two_of_its_records_goes_on_as_a_whole(tmp_path, monkeypatch, expected, calls):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, records, "write", calls)
        sweep.sweep(grid()[3:6], store=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == calls - 1
    trained = spy(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "write", written := Written(records.write))
        table = sweep.sweep(grid()[3:6], store=tmp_path)
    assert [len(runs) for runs in trained] == [3] and len(written.keys) == 4 - calls
    check(table, expected[3:6].reset_index(drop=True))
    check_store(tmp_path, grid()[3:6])


class Written:
    """Stands in for `records.write` and keeps the keys."""

    def __init__(self, write):
        self.write, self.keys = write, []

    def __call__(self, store, record):
        self.keys.append(Run.from_dict(record["run"]).key)
        return self.write(store, record)


def test_a_group_keeps_its_members_when_another_grid_is_asked_for(tmp_path, monkeypatch, checkpoints, expected):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, engines.Stack, "epoch", 3)
        sweep.sweep(grid()[3:6], store=tmp_path)
    plan = sweep.plan(grid()[3:6], store=tmp_path)
    assert set(plan["status"]) == {"begun"} and set(plan["trained"]) == {2} and len(set(plan["group"])) == 1
    trained = spy(monkeypatch)
    table = sweep.sweep(grid()[4:5], store=tmp_path)
    assert [len(runs) for runs in trained] == [3]
    check(table, expected[4:5].reset_index(drop=True))
    check_store(tmp_path, grid()[3:6])


TWENTY = optimizers(DIGITS.but(epochs=2, n_train=128), seeds=range(7))[:20]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory) -> pandas.DataFrame:
    """Twenty runs of one network, trained in three stacks without any disturbance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.groups, "cpu_count", lambda: 1)
        table = sweep.sweep(TWENTY, store=tmp_path_factory.mktemp("twenty"))
    assert len({tuple(p["company"]) for p in table["provenance"]}) == 3
    return table


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5])
def test_stopped_before_most_stacks_have_begun_all_have_the_company_they_would_have_had(
    tmp_path, monkeypatch, twenty, moment
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, engines.Stack, "epoch", moment)
        sweep.sweep(TWENTY, store=tmp_path)
    table = sweep.sweep(TWENTY, store=tmp_path)
    check(table, twenty)
    assert [p["company"] for p in table["provenance"]] == [p["company"] for p in twenty["provenance"]]
    check_store(tmp_path, TWENTY)


def test_the_order_of_a_grid_makes_no_difference(tmp_path, twenty):
    shuffled = random.Random(0).sample(TWENTY, len(TWENTY))
    sweep.sweep(shuffled, store=tmp_path)
    check(sweep.sweep(TWENTY, store=tmp_path), twenty)


@pytest.mark.parametrize("wanted", [[0], [19], [3, 12], range(0, 20, 2)], ids=str)
def test_parts_of_a_grid_train_in_its_groups_and_all_of_these_are_filed(tmp_path, twenty, wanted):
    part = [TWENTY[i] for i in wanted]
    table = sweep.sweep(part, within=TWENTY, store=tmp_path)
    check(table, twenty.iloc[list(wanted)].reset_index(drop=True))
    companies = {key for provenance in table["provenance"] for key in provenance["company"]}
    assert {file.stem for file in tmp_path.glob("*.json")} == companies
    assert len(sweep.plan(part, within=TWENTY, store=tmp_path)) == len(part)
    check(sweep.sweep(TWENTY, store=tmp_path), twenty)
    check_store(tmp_path, TWENTY)


def test_the_command_trains_a_part_as_in_the_whole_grid(tmp_path, monkeypatch, capsys, twenty):
    monkeypatch.setitem(experiments.EXPERIMENTS, "mnist_mlp", lambda preset: TWENTY)
    asked = ["mnist_mlp", "--where", "seed == 3 and optimizer == 'sgd'", "--store", str(tmp_path), "--device", "cpu"]
    assert main(asked) == 0 and capsys.readouterr().out == "1 done\n"
    check(sweep.sweep(TWENTY[3:4], train=False, store=tmp_path), twenty[3:4].reset_index(drop=True))


def test_measuring_a_part_trains_its_company_where_it_trains_at_all(tmp_path, monkeypatch):
    runs = optimizers(DIGITS.but(epochs=1, n_train=64))
    some = [Measurement(run, "landscape", {"samples": 20, "points": 3}) for run in runs]
    trained = spy(monkeypatch)
    first = sweep.measure(some[:1], within=some, store=tmp_path)
    assert [len(runs) for runs in trained] == [3] and len(list(tmp_path.glob("*.json"))) == 4
    check(sweep.measure(some, store=tmp_path / "whole")[:1], first)
    other = Measurement(runs[0], "landscape", {"samples": 20, "points": 5})  # of the network whose weights are there
    later = [other, *(Measurement(run, "landscape", {"samples": 20, "points": 5}) for run in runs[1:])]
    del trained[:]
    sweep.measure(later[:1], within=later, store=tmp_path)
    assert trained == []


def test_a_plan_of_a_part_counts_its_company(tmp_path, monkeypatch):
    monkeypatch.setattr(planning.rates, "of_kinds", lambda weights, *_, **__: dict.fromkeys(weights, Rate(1.0, 0.0)))
    alone, together = (sweep.plan(TWENTY[:1], within=grid, store=tmp_path) for grid in (TWENTY[:1], TWENTY))
    assert together["group"][0] != alone["group"][0]
    (group,) = groups.gather(TWENTY[:1], tmp_path, CPU, within=TWENTY)
    assert together["memory"][0] == planning.memory(group.runs) > alone["memory"][0]


def test_what_is_not_within_its_grid_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"within: must hold all that is asked for; it lacks {TWENTY[1].key}"):
        sweep.sweep(TWENTY[:2], within=TWENTY[:1], store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_killed_while_groups_are_filed_all_have_the_company_they_would_have_had(tmp_path, monkeypatch, twenty):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, groups.Group, "register", 2)
        sweep.sweep(TWENTY, store=tmp_path)
    check(sweep.sweep(TWENTY, store=tmp_path), twenty)
    check_store(tmp_path, TWENTY)


@pytest.mark.parametrize("removed", [1, 8])
def test_a_record_that_was_removed_is_made_again_to_the_last_byte(tmp_path, twenty, removed):
    sweep.sweep(TWENTY, store=tmp_path)
    for run in random.Random(removed).sample(TWENTY, removed):
        records.path(tmp_path, run).unlink()
    check(sweep.sweep(TWENTY, store=tmp_path), twenty)


def test_records_of_another_company_are_left_alone(tmp_path, monkeypatch, twenty):
    few = sweep.sweep(TWENTY[:2], store=tmp_path)
    trained = spy(monkeypatch)
    table = sweep.sweep(TWENTY, store=tmp_path)
    assert sorted(run.key for runs in trained for run in runs) == sorted(run.key for run in TWENTY[2:])
    check(table[:2], few)
    others = [not {*few["key"]} & {*provenance["company"]} for provenance in twenty["provenance"]]
    check(table[others].reset_index(drop=True), twenty[others].reset_index(drop=True))


def test_a_part_of_a_grid_may_have_another_company_which_is_named_and_agrees_to_rounding(tmp_path, monkeypatch, twenty):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, engines.Stack, "epoch", 1)
        sweep.sweep(TWENTY, store=tmp_path)  # a group of which is filed, but not begun
    trained = spy(monkeypatch)
    table = sweep.sweep(TWENTY[:2], store=tmp_path)
    assert [len(runs) for runs in trained] == [2]
    assert table["provenance"][0]["company"] == [run.key for run in trained[0]]
    assert np.allclose(table["test_loss"], twenty["test_loss"][:2], rtol=1e-4)
    # What was filed before does not have them trained again.
    assert sweep.sweep(TWENTY, store=tmp_path)["status"].tolist() == ["done"] * 20
    assert sum(len(runs) for runs in trained) == 20


def test_a_damaged_checkpoint_is_reported_and_costs_only_time(tmp_path, monkeypatch, checkpoints, expected):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, engines.Stack, "epoch", 3)
        sweep.sweep(grid()[3:6], store=tmp_path)
    (file,) = tmp_path.glob("checkpoints/*.pt")
    file.write_bytes(file.read_bytes()[:1000])
    assert set(sweep.plan(grid()[3:6], store=tmp_path)["trained"]) == {0}
    with pytest.warns(UserWarning, match=rf"{file.name}: cannot be used .*; its runs start again from epoch 0"):
        table = sweep.sweep(grid()[3:6], store=tmp_path)
    check(table, expected[3:6].reset_index(drop=True))
    check_store(tmp_path, grid()[3:6])


def test_a_damaged_list_of_members_is_harmless(tmp_path, expected):
    (tmp_path / "checkpoints").mkdir()
    for name, text in {"a": "{", "b": "[]", "c": "7", "d": '[{"width": -1}]', "e": "[1]"}.items():
        (tmp_path / "checkpoints" / f"{name}.runs").write_text(text)
    check(sweep.sweep(grid()[:3], store=tmp_path), expected[:3])


def test_a_budget_stops_in_time_and_the_next_call_goes_on(tmp_path, monkeypatch, expected):
    epoch = engines.Stack.epoch
    with monkeypatch.context() as patch:
        patch.setattr(engines.Stack, "epoch", lambda self, i: time.sleep(0.15) or epoch(self, i))
        patch.setattr(planning, "calibrate", lambda *_: planning.Rate(0.15 / 1000, 0.0))
        calls, statuses = 0, {"missing"}
        while statuses != {"done"} and calls < 20:
            began = time.monotonic()
            table = sweep.sweep(grid()[:6], store=tmp_path, budget=0.6)
            # Nothing but the last epoch's jitter may come after the deadline; on a busy machine that may be long.
            assert time.monotonic() - began < 0.6 + 0.5
            calls, statuses = calls + 1, set(table["status"])
    assert 2 < calls < 20
    check(table, expected[:6])
    check_store(tmp_path, grid()[:6])


def test_a_budget_stops_the_workers_of_the_local_pool(tmp_path, monkeypatch, undisturbed):
    runs, _, table = undisturbed
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    sweep.sweep([FACTORS, DIGITS], store=tmp_path / "other")  # so that the workers have started
    hours, began = [run.but(epochs=10_000_000) for run in runs], time.monotonic()
    result = sweep.sweep(hours, store=tmp_path / "hours", budget=3)
    assert time.monotonic() - began < 3 + 1.5
    assert set(result["status"]) == {"missing"}
    plan = sweep.plan(hours, store=tmp_path / "hours", progress=False)
    assert set(plan["status"]) == {"begun"} and (plan["trained"] > 0).all()
    # Budgets that begin below the time of training and grow in small steps, so that some of them stop it midway.
    budget, midway, plan = 0.1, 0, None
    while plan is None or set(plan["status"]) != {"done"}:
        assert budget < 60
        result = sweep.sweep(runs, store=tmp_path / "store", budget=budget)
        plan = sweep.plan(runs, store=tmp_path / "store", progress=False)
        midway += ((plan["status"] == "begun") & (plan["trained"] > 0)).any()
        budget *= 1.3
    assert midway
    check(result, table)
    check_store(tmp_path / "store", runs)


def test_timing_heeds_the_budget_too(tmp_path, monkeypatch):
    wide = RESNET.but(width=8)

    def slow(self, epoch):  # as a step of a network of a hundred times the width
        for _ in range(200):
            time.sleep(0.05)
            self.total.add_(0)
        return [(0.0, 0.0)]

    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    monkeypatch.setattr(selfcheck, "passed", lambda *_: True)
    monkeypatch.setattr(engines.Loop, "epoch", slow)
    began = time.monotonic()
    assert set(sweep.sweep([wide], store=tmp_path, budget=1)["status"]) == {"missing"}
    assert time.monotonic() - began < 1 + 1.5


def test_a_worker_that_is_still_starting_when_time_is_up_is_not_waited_for(tmp_path, monkeypatch):
    starting = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    starting.submit(time.sleep, 8)
    monkeypatch.setattr(pool, "_take", lambda data: starting)
    monkeypatch.setattr(pool, "_idle", [])
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    began = time.monotonic()
    assert set(sweep.sweep([FACTORS, DIGITS], store=tmp_path, budget=1)["status"]) == {"missing"}
    assert time.monotonic() - began < 1 + pool.LATE_SECONDS + 1.5
    assert pool._late == [starting, starting]
    starting.shutdown(wait=True)  # it ends by itself, without training
    assert not pool._late and [worker for *_, worker in pool._idle] == [starting, starting]
    assert not list(tmp_path.glob("*.json"))


def test_a_self_check_heeds_the_budget_too(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    monkeypatch.setattr(selfcheck, "_passed", {})
    monkeypatch.setattr(selfcheck, "_pictures", lambda folder, made=selfcheck._pictures: time.sleep(1) or made(folder))
    began = time.monotonic()
    assert set(sweep.sweep([RESNET], store=tmp_path, budget=0.5)["status"]) == {"missing"}
    assert time.monotonic() - began < 1 + 1.5
    assert not list((tmp_path / "checkpoints").glob("*.check"))


def test_the_command_has_one_budget_for_runs_and_measurements(tmp_path, monkeypatch):
    budgets = []

    def wait(call):
        def slow(what, **options):
            budgets.append(options["budget"])
            time.sleep(0.3)
            return call(what, train=False, store=tmp_path)

        return slow

    for name in ("sweep", "measure"):
        monkeypatch.setattr(f"lib.sweep.__main__.{name}", wait(getattr(sweep, name)))
    assert main(["mnist_mlp", "mnist_flatness", "--budget", "10s", "--store", str(tmp_path)]) == 0
    assert 9 < budgets[0] <= 10 and budgets[1] <= 9.7


def test_a_budget_too_short_for_an_epoch_trains_nothing(tmp_path, monkeypatch):
    trained = spy(monkeypatch)
    monkeypatch.setattr(planning, "calibrate", lambda *_: planning.Rate(1.0, 1.0))
    for budget in (0, "0", "5m"):
        assert set(sweep.sweep([FACTORS], store=tmp_path, budget=budget)["status"]) == {"missing"}
    assert not trained


# Several processes


def child(runs, store, log) -> None:
    """Sweep in a process that may be killed, with a checkpoint after every epoch."""
    torch.set_num_threads(1)
    rounds.groups.cpu_count, fitting.CHECKPOINT_SECONDS = lambda: 1, -1.0
    records.write = written = Written(records.write)
    sweep.sweep(runs, store=store, progress=False)
    log.write_text(json.dumps(written.keys))


@pytest.fixture(scope="module")
def fork():
    """Start `child` in a new process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lib.sweep", "sklearn.datasets", "pytest"])

    def start(*given):
        process = context.Process(target=child, args=given)
        process.start()
        return process

    return start


def many_groups() -> list[Run]:
    """Sixteen groups of a tenth of a second, so that records are written all the time."""
    rates = [0.001 + i * 1e-5 for i in range(8)]
    return [
        run.but(lr=lr)
        for lr in rates
        for base in (FACTORS.but(epochs=20), DIGITS.but(epochs=10))
        for run in optimizers(base)
    ]


def test_killed_at_twenty_moments_the_table_is_the_same(tmp_path, fork):
    # given how long a process takes to begin, and to do all
    runs, moments = many_groups(), random.Random(0)
    fork([], tmp_path, tmp_path / "log").join()  # starts the server
    began, process = time.monotonic(), fork(runs, tmp_path / "whole", tmp_path / "log")
    while not list(tmp_path.glob("whole/checkpoints/*.progress")) and process.is_alive():
        time.sleep(0.001)
    start = time.monotonic() - began
    process.join()
    life = start + (time.monotonic() - began - start) / 16  # twenty such lives do not do all
    whole = sweep.sweep(runs, store=tmp_path / "whole", train=False)
    assert set(whole["status"]) == {"done"}
    # when processes are killed while they start, at any moment of their life, and while they file records
    kills, stores = dict.fromkeys(("start", "life", "record"), 0), [tmp_path / "0"]
    while sum(kills.values()) < 20:
        phase, store = ("start", "life", "life", "record")[sum(kills.values()) % 4], stores[-1]
        files, process = set(store.glob("*")), fork(runs, store, tmp_path / "log")
        if phase == "record":
            while process.is_alive() and not any(
                ".json" in f.name or ".tmp" in f.name for f in {*store.glob("*")} - files
            ):
                time.sleep(0.0005)
        else:
            process.join(moments.uniform(0, start if phase == "start" else life))
        process.kill()
        process.join()
        if process.exitcode == 0:  # all was done before; go on with another store
            stores.append(tmp_path / str(len(stores)))
            continue
        assert process.exitcode == -signal.SIGKILL
        kills[phase] += 1
        files = list(store.rglob("*.json"))
        assert {f.stem for f in files} <= {run.key for run in runs} and all(f.parent == store for f in files)
        with warnings.catch_warnings(action="error", category=records.RecordWarning):
            sweep.sweep(runs, store=store, train=False)
    assert kills == {"start": 5, "life": 10, "record": 5}
    # then at the end the table is that of the process that was not disturbed
    process = fork(runs, stores[-1], tmp_path / "log")
    process.join()
    assert process.exitcode == 0
    for store in stores:
        check(sweep.sweep(runs, store=store, train=False), whole)
        check_records(store, runs)  # a kill after the last record may leave a file of finished work


def test_two_processes_share_the_work_and_do_nothing_twice(tmp_path, fork):
    runs = [run.but(seed=seed) for seed in range(6) for run in optimizers(DIGITS.but(epochs=30))]
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [fork(runs, tmp_path / "store", log) for log in logs]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    first, second = (json.loads(log.read_text()) for log in logs)
    assert first and second and sorted(first + second) == sorted(run.key for run in runs)
    check_store(tmp_path / "store", runs)


def test_a_live_claim_is_waited_for_and_a_dead_one_expires(tmp_path, fork, monkeypatch):
    monkeypatch.setattr(rounds, "POLL_SECONDS", 0.05)
    runs = optimizers(DIGITS.but(epochs=2000, n_train=0))
    process = fork(runs, tmp_path, tmp_path / "log")
    while not list(tmp_path.glob("checkpoints/*.pt")) and process.is_alive():
        time.sleep(0.02)
    # Its group is claimed as a whole, also for a grid that cuts it otherwise.
    for run in runs:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "checkpoints" / f"{run.key}.lock", timeout=0).acquire()
    group = groups.Group((runs[1], DIGITS), tmp_path, tmp_path / "checkpoints")
    assert worker.work(group, CPU, None) == worker.BUSY
    began = time.monotonic()
    table = sweep.sweep(runs, store=tmp_path, budget=1)
    assert set(table["status"]) == {"missing"} and 0.9 < time.monotonic() - began < 3
    process.kill()
    process.join()
    (group,) = groups.gather(runs, tmp_path, CPU)
    assert group.checkpointed() > 0
    assert worker.work(group, CPU, time.time()) == worker.STOPPED  # no longer busy


def test_workers_stop_when_their_parent_is_killed(tmp_path):
    script = (
        "import sys; from lib.sweep import rounds, sweep; sys.path.insert(0, sys.argv[2]); import test_sweep_grid;"
        "rounds.groups.cpu_count = lambda: 2; sweep(test_sweep_grid.slow(10**6), store=sys.argv[1], progress=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(paths.ROOT / "tests")])
    while len(list(tmp_path.glob("checkpoints/*.progress"))) < 2 and parent.poll() is None:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    for run in slow(10**6):
        FileLock(tmp_path / "checkpoints" / f"{run.key}.lock", timeout=deadline - time.monotonic()).acquire()
    assert len(list(tmp_path.glob("checkpoints/*.pt"))) == 2  # each has left its checkpoint


# The command line


def test_the_command_trains_and_says_what_there_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CI", "true")
    command = ["matrix_factorization", "--store", str(tmp_path), "--where", "seed == 0 and width == 4"]
    assert main([*command, "--budget", "0"]) == 0
    assert capsys.readouterr().out == "3 missing; out of time, run again to go on\n"
    assert main(command) == 0
    assert capsys.readouterr().out == "3 done\n"
    assert main([*command, "--plan"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("smoke, on ") and re.search(r"matrix_factorization +3 +3 +0 +0 +0 +0.0 ", printed.out)
    assert printed.err == ""


def test_the_command_goes_on_until_its_budgets_were_enough(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CI", "true")
    epoch = engines.Stack.epoch
    monkeypatch.setattr(engines.Stack, "epoch", lambda self, i: time.sleep(0.02) or epoch(self, i))
    monkeypatch.setattr(planning, "calibrate", lambda *_: planning.Rate(0.02 / 1000, 0.0))
    runs = [
        r for r in experiments.factorization_batches("smoke") if r.batch_size == 1000 and r.width == 4
    ]  # of one step
    command = ["factorization_batches", "--store", str(tmp_path), "--where", "batch_size == 1000 and width == 4"]
    messages, trained = [], []
    while messages[-1:] != ["2 done\n"] and len(messages) < 30:
        assert main([*command, "--budget", "0.02m"]) == 0
        messages.append(capsys.readouterr().out)
        trained.append(sweep.plan(runs, store=tmp_path)["trained"][0])
    assert 1 < len(messages) < 30 and set(messages[:-1]) == {"2 missing; out of time, run again to go on\n"}
    assert trained == sorted(set(trained)) and trained[0] > 0 and trained[-1] == 100


def test_the_command_spreads_groups_over_processes(tmp_path):
    command = [sys.executable, "-m", "lib.sweep", "factorization_batches", "--where", "batch_size > 100 and width == 4"]
    environment = os.environ | {"CI": "true", "LOKY_MAX_CPU_COUNT": "2"}
    ran = subprocess.run([*command, "--store", tmp_path], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "4 done\n", "")


@pytest.mark.parametrize(
    "given, message",
    [
        (["mnist"], "unknown experiment mnist; there are matrix_factorization, "),
        ([], "no experiment given; there are matrix_factorization, "),
        (["mnist_mlp", "--preset", "huge"], "argument --preset: invalid choice: 'huge' .*smoke.*lite.*paper"),
    ],
)
def test_the_command_explains_what_it_cannot_parse(capsys, given, message):
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2 and re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "given, message",
    [
        (
            ["--where", "widht < 1"],
            r"condition 'widht < 1': there is no field widht; the fields are dataset, model,",
        ),
        (["--where", "width <"], "condition 'width <': invalid syntax"),
        (["--where", "width"], "condition 'width': width is no comparison"),
        (["--where", "width > 99"], "condition 'width > 99': no run of the grid fulfils it"),
        (["--budget", "soon"], "budget = 'soon': must be seconds or a time such as"),
        (["--device", "gpu"], "device = 'gpu': must be 'cpu' or 'cuda'"),
        (["--store", "/dev/null/x"], "the store /dev/null/x cannot be written to: Not a directory"),
    ],
)
def test_the_command_explains_what_it_cannot_do(capsys, given, message):
    assert main(["mnist_mlp", *given]) == 1
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(rf"python -m lib.sweep: {message}.*\n", err)


def test_the_command_can_be_interrupted(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.sweep.__main__.sweep", interrupt)
    assert main(["mnist_mlp"]) == 130
    assert capsys.readouterr().err == "python -m lib.sweep: interrupted; run again to go on\n"


# What is refused before anything is trained


@pytest.mark.parametrize(("call", "kind"), [(sweep.sweep, "Run"), (sweep.measure, "Measurement")])
def test_what_is_no_list_of_runs_is_refused_by_name(tmp_path, call, kind):
    with pytest.raises(TypeError, match=rf"{kind.lower()}s: 'mnist' is no {kind}"):
        call(["mnist"], store=tmp_path / "store")
    for given in (3, DIGITS if kind == "Run" else Measurement(DIGITS, "landscape")):
        with pytest.raises(TypeError, match=rf"{kind.lower()}s = .*: must be a list of {kind}"):
            call(given, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_by_name(tmp_path, capsys):
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=rf"device = '{device}': torch sees no GPU here"):
            sweep.sweep([DIGITS], store=tmp_path / "store", device=device)
    command = ["matrix_factorization", "--device", "cuda", "--store", str(tmp_path / "store")]
    assert main(command) == 1 and "torch sees no GPU here" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    assert sweep.sweep([DIGITS], store=tmp_path, device="cuda", train=False)["status"].tolist() == ["missing"]


def test_a_tilde_in_a_store_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sweep.sweep([FACTORS], store="~/store")
    check_store(tmp_path / "store", [FACTORS])
    assert not (tmp_path / "~").exists()


def test_a_list_of_members_that_nests_too_deeply_is_harmless(tmp_path, expected):
    (tmp_path / "checkpoints").mkdir(parents=True)
    (tmp_path / "checkpoints" / "0.runs").write_text("[" * 100_000)
    check(sweep.sweep(grid()[:3], store=tmp_path), expected[:3])


def test_a_worker_that_died_while_it_was_idle_is_passed_over(tmp_path, monkeypatch, expected):
    class Dead:
        def submit(self, *_):
            raise BrokenExecutor("it died meanwhile")

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 2)
    monkeypatch.setattr(pool, "_idle", [(pool._surroundings(), time.monotonic(), Dead())])
    with warnings.catch_warnings(action="error"):
        check(sweep.sweep(grid()[:6], store=tmp_path), expected[:6])


def test_a_changed_folder_is_another_data_set_with_a_key_of_its_own(tmp_path, pictures):
    run = Run(dataset=pictures, width=0.03, epochs=1, batch_size=9)
    (first,) = sweep.sweep([run], store=tmp_path / "store", device="cpu").itertuples()
    assert first.key != run.key and first.digest == first.provenance["data"] == data.digest(pictures)
    assert sweep.sweep([run], store=tmp_path / "store", train=False)["key"].tolist() == [first.key]
    image = tmp_path / "noise" / "train" / "0" / "0.png"
    shutil.copy(tmp_path / "noise" / "train" / "1" / "1.png", image)
    assert sweep.sweep([run], store=tmp_path / "store", train=False)["status"].tolist() == ["missing"]
    assert sweep.plan([run], store=tmp_path / "store", progress=False)["status"].tolist() == ["missing"]
    (second,) = sweep.sweep([run], store=tmp_path / "store", device="cpu").itertuples()
    assert second.key != first.key and second.curves != first.curves
    # The first record is still of what it says, and cannot be made from what is there now.
    kept = Run.of_row(first._asdict())
    assert sweep.sweep([kept], store=tmp_path / "store")["curves"].tolist() == [first.curves]
    with pytest.raises(data.DataUnavailable, match=f"holds other data .digest {second.digest}. than the run is of"):
        sweep.sweep([kept.but(seed=1)], store=tmp_path / "store", device="cpu")


def test_records_say_which_data_they_saw_and_measurements_too(tmp_path):
    measured = sweep.measure([Measurement(DIGITS, "flatness", {"samples": 10, "draws": 1, "batch": 2})], store=tmp_path)
    trained = sweep.sweep([DIGITS], store=tmp_path)
    assert [row["data"] for row in (*measured["provenance"], *trained["provenance"])] == 2 * [data.digest("digits")]


ORPHANED = """
import os, signal
from lib.sweep import pool

pool.IDLE_SECONDS = 1
future, worker = pool._submit(pool._surroundings(), os.getpid)
print(future.result(), flush=True)
worker._processes_management_lock.acquire()  # without which a worker never ends by itself
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether a process is there")
def test_a_worker_ends_though_the_process_that_started_it_was_killed_with_a_lock():
    killed = subprocess.run([sys.executable, "-c", ORPHANED], capture_output=True, text=True, cwd=paths.ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    orphan, deadline = f"/proc/{int(killed.stdout)}", time.monotonic() + 60
    while os.path.exists(orphan) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not os.path.exists(orphan)
