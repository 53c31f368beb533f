"""Sweeps on a cluster: a real worker of dask that comes late, others without the data, and jobs for Slurm. That one is
killed, `test_sweep_grid.py` tries."""

import concurrent.futures
import os
import threading
import time
import types

import pytest

from lib.paper import experiments
from lib.runs import Run
from lib.sweep import clusters, rounds, sweep
from lib.sweep.__main__ import main
from lib.sweep.worker import work_elsewhere

distributed = pytest.importorskip("distributed")

RUN = Run(dataset="digits", width=0.03, epochs=2, n_train=64, batch_size=32)
RUNS = [RUN.but(width=width, seed=seed) for width in (0.03, 0.05) for seed in (0, 1)]  # two groups


@pytest.fixture
def scheduler(monkeypatch):
    """A scheduler without workers, and an experiment that takes a moment."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", lambda preset: RUNS)
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def test_the_command_trains_on_a_worker_that_comes_late_and_gives_the_same_bytes(
    scheduler, tmp_path, capsys, monkeypatch
):
    late = threading.Timer(1.0, scheduler.scale, [1])
    late.start()
    command = ["tiny", "--preset", "smoke", "--store", str(tmp_path / "there")]
    assert main([*command, "--dask", scheduler.scheduler_address]) == 0
    late.join()
    printed = capsys.readouterr()
    assert "1 workers of tcp://" in printed.err and "on cpu" in printed.err and "done" in printed.out
    command[-1] = str(tmp_path / "here")
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    assert main([*command, "--device", "cpu"]) == 0
    there, here = (
        {file.name: file.read_text().split('"provenance"')[0] for file in (tmp_path / name).glob("*.json")}
        for name in ("there", "here")
    )
    assert there == here and there


def test_a_scheduler_that_is_not_there_or_has_no_worker(scheduler, monkeypatch, capsys):
    monkeypatch.setattr(clusters, "PATIENCE", 0.6)
    assert main(["tiny", "--dask", "tcp://127.0.0.1:9"]) == 1
    assert "no scheduler answers there" in capsys.readouterr().err
    assert main(["tiny", "--dask", scheduler.scheduler_address]) == 1
    assert (
        f"no worker has joined in 0.6 s; `dask worker {scheduler.scheduler_address} --nthreads 1`"
        in capsys.readouterr().err
    )


def test_workers_that_never_come_do_not_outlast_the_budget(scheduler, tmp_path):
    began = time.monotonic()
    with distributed.Client(scheduler) as client:
        table = sweep(RUNS, store=tmp_path, device="cpu", budget=1, executor=client.get_executor())
    assert set(table["status"]) == {"missing"} and time.monotonic() - began < 20


def test_an_error_names_the_machine_and_what_others_did_is_filed(tmp_path, monkeypatch):
    # given workers that have no data set of that name
    monkeypatch.setenv("SAM_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr("platform.node", lambda: "node17")
    absent = Run(dataset="cifar10-jpeg", model="resnet18", width=4, epochs=1)
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(OSError, match=r"on node17: .*cifar10-jpeg"),
    ):
        sweep([absent, *RUNS], store=tmp_path, device="cpu", executor=executor)
    # then the other runs are filed
    assert set(sweep(RUNS, store=tmp_path, train=False)["status"]) == {"done"}


def test_workers_with_several_threads_are_refused(monkeypatch, capsys):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", lambda preset: RUNS)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        assert main(["tiny", "--dask", cluster.scheduler_address]) == 1
    assert "workers have 2 threads; start them with --nthreads 1" in capsys.readouterr().err


def test_an_executor_that_breaks_is_named_whatever_the_number_of_groups(tmp_path):
    class Broken(concurrent.futures.Executor):
        def submit(self, *_):
            raise concurrent.futures.BrokenExecutor("it is broken")

    class Killing(Broken):
        def submit(self, *_):
            future = concurrent.futures.Future()
            future.set_exception(distributed.KilledWorker("group", types.SimpleNamespace(address="tcp://there"), 3))
            return future

    for executor, message in ((Broken(), "it is broken"), (Killing(), "group")):
        with pytest.raises(concurrent.futures.BrokenExecutor, match=message):
            sweep(RUNS, store=tmp_path, device="cpu", executor=executor)


def test_a_gpu_that_this_machine_lacks_is_left_to_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked = []
    monkeypatch.setattr(rounds, "work_elsewhere", lambda *call: asked.append(call[1].type) or work_elsewhere(*call))
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(ValueError, match=r"torch sees no GPU on .*; take 'cpu'"),
    ):
        sweep([RUN], store=tmp_path, device="cuda", executor=executor)
    assert asked == ["cuda"]
    with pytest.raises(ValueError, match="torch sees no GPU here"):
        sweep([RUN], store=tmp_path, device="cuda")


# Slurm


def test_the_options_of_slurm_become_those_of_its_jobs():
    options = clusters.slurm_options("partition=a100, gpus=1,jobs=8,time=08:00:00,mem=16GB,account=lab")
    assert options == {
        "n_workers": 8,
        "cores": 1,
        "processes": 1,
        "memory": "16GB",
        "walltime": "08:00:00",
        "job_extra_directives": ["--partition=a100", "--gpus=1", "--account=lab"],
    }
    assert clusters.slurm_options("jobs=2,cpus=4")["n_workers"] == 8


@pytest.mark.parametrize(
    "text, message",
    [
        ("partition", "'partition' has no value"),
        ("gpus=2", "gpus = '2': must be a number up to 1; take more jobs"),
        ("jobs=0", "jobs = '0'"),
        ("jobs=many", "jobs = 'many'"),
        ("gpus=1,cpus=4", "leave cpus out"),
    ],
)
def test_options_of_slurm_that_cannot_be(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        clusters.slurm_options(text)
    assert main(["student_teacher", "--slurm", text]) == 1
    assert message.split(":")[0] in capsys.readouterr().err


def test_one_cluster_at_a_time(capsys):
    assert main(["student_teacher", "--slurm", "jobs=1", "--dask", "tcp://127.0.0.1:1"]) == 1
    assert "take one of them" in capsys.readouterr().err


def test_jobs_of_slurm_train_a_grid(tmp_path, monkeypatch):
    # given an sbatch that runs the script of a job at once, as Slurm does sooner or later
    folder = tmp_path / "bin"
    folder.mkdir()
    job = tmp_path / "job.sh"
    submit = f'cp "$1" {job}\nsetsid sh {job} >{tmp_path}/log 2>&1 &\necho "Submitted batch job $!"\n'
    scripts = {
        "sbatch": f"#!/bin/sh\n{submit}",
        "scancel": '#!/bin/sh\nkill -- "-$1" 2>/dev/null || kill "$1"\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CI", "true")
    # when a grid is trained in its jobs
    with clusters.slurm("partition=long,mem=2GB,time=00:10:00") as cluster:
        table = sweep(RUNS, store=tmp_path / "store", device=cluster.device, executor=cluster.executor)
    # then it is, by jobs that asked for what was wanted
    assert set(table["status"]) == {"done"} and cluster.device == "cpu"
    assert {"#SBATCH --partition=long", "#SBATCH -t 00:10:00", "#SBATCH --mem=2G"} <= set(job.read_text().splitlines())
