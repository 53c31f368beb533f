"""Executors of a cluster for `sweep(executor=…)`: the workers of a dask scheduler, or jobs that Slurm starts.

`--dask tcp://host:8786` takes the workers that have joined that scheduler. `--slurm 'partition=long,jobs=8'` starts a
scheduler here and has Slurm run jobs whose workers join it; they are cancelled in the end. Workers need this code, the
data and the store under the same paths.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

PATIENCE = 60.0  # seconds for the first worker of a dask scheduler to join
DEFAULTS = {"jobs": "1", "cpus": "1", "mem": "8GB", "time": "04:00:00"}


@dataclass(frozen=True)
class Cluster:
    """An executor, the device on which its workers train by default, and a line that says what they are."""

    executor: Executor
    device: str
    description: str


@contextlib.contextmanager
def dask(address: str) -> Iterator[Cluster]:
    """The workers of the dask scheduler at an address such as "tcp://host:8786", with GPUs if all of them have one.

    ValueError if no scheduler answers there, no worker joins it in a minute, or one has several threads.
    """
    import distributed  # of clusters alone

    try:
        client = distributed.Client(address, timeout=PATIENCE / 6)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"--dask {address!r}: no scheduler answers there ({error}); `dask scheduler` starts one"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ValueError(
                f"--dask {address!r}: no worker has joined in {PATIENCE:g} s; "
                f"`dask worker {address} --nthreads 1` starts one"
            ) from None
        threads = {worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
        if threads != {1}:  # what a process sets, such as deterministic algorithms, holds for all its threads
            raise ValueError(f"--dask {address!r}: workers have {max(threads)} threads; start them with --nthreads 1")
        gpus = client.run(torch.cuda.is_available)
        device = "cuda" if gpus and all(gpus.values()) else "cpu"
        with client.get_executor() as executor:
            yield Cluster(executor, device, f"{len(gpus)} workers of {address}, on {device}")


def slurm_options(text: str) -> dict:
    """What `dask_jobqueue.SLURMCluster` takes for options such as "partition=long,gpus=1,jobs=8,time=08:00:00".

    jobs: how many; cpus: of each, each for a group of runs at a time; gpus: of each, at most 1; mem and time: limits of
    each. Whatever else there is, such as account or constraint, goes to sbatch as it is. ValueError for anything else.

    >>> slurm_options("partition=long,gpus=1,jobs=8")["job_extra_directives"]
    ['--partition=long', '--gpus=1']
    """
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    for name, _, value in pairs:
        if not (name and value):
            raise ValueError(f"--slurm {text!r}: {name!r} has no value; give NAME=VALUE, separated by commas")
    given = DEFAULTS | {name.strip().lstrip("-"): value.strip() for name, _, value in pairs}
    numbers = {}
    for name, most in {"jobs": 10_000, "cpus": 1024, "gpus": 1}.items():
        value = given.get(name, "0")
        if not value.isdecimal() or int(value) > most or (name != "gpus" and not int(value)):
            remedy = "; take more jobs of one GPU each" if name == "gpus" else ""
            raise ValueError(f"--slurm {text!r}: {name} = {value!r}: must be a number up to {most}{remedy}")
        numbers[name] = int(value)
    if numbers["gpus"] and numbers["cpus"] > 1:
        raise ValueError(f"--slurm {text!r}: a job with a GPU trains one group at a time; leave cpus out")
    rest = {name: value for name, value in given.items() if name not in ("jobs", "cpus", "mem", "time")}
    return {
        "n_workers": numbers["jobs"] * numbers["cpus"],
        "cores": numbers["cpus"],
        "processes": numbers["cpus"],
        "memory": given["mem"],
        "walltime": given["time"],
        "job_extra_directives": [f"--{name}={value}" for name, value in rest.items()],
    }


@contextlib.contextmanager
def slurm(text: str) -> Iterator[Cluster]:
    """Jobs, see `slurm_options`; a GPU each if gpus=1. ValueError for other options, OSError without Slurm."""
    options = slurm_options(text)
    import dask_jobqueue
    import distributed

    with dask_jobqueue.SLURMCluster(**options) as cluster, distributed.Client(cluster) as client:
        device = "cuda" if any(part.startswith("--gpus=1") for part in options["job_extra_directives"]) else "cpu"
        with client.get_executor() as executor:
            yield Cluster(executor, device, f"{options['n_workers']} workers of Slurm ({text}), on {device}")


@contextlib.contextmanager
def connect(dask_address: str | None, slurm_text: str | None) -> Iterator[Cluster | None]:
    """The cluster that is named, or None for this machine. ValueError for both."""
    if dask_address and slurm_text:
        raise ValueError("--dask and --slurm: take one of them")
    if not (dask_address or slurm_text):
        yield None
        return
    with dask(dask_address) if dask_address else slurm(slurm_text) as cluster:
        yield cluster
