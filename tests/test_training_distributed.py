"""A run trained by two processes is the run as one process trains it: every step, evaluation, record and checkpoint."""

import contextlib
import json
import multiprocessing
import socket

import numpy as np
import pytest
import torch
import two_trainers
from PIL import Image
from torch import nn

from lib.core import paths
from lib.runs import Run
from lib.sweep import __main__ as command
from lib.sweep import sweep
from lib.training import distributed
from lib.training.batches import StreamedBatches
from lib.training.loop import Loop

CPU = torch.device("cpu")
BASE = Run(dataset="digits", model="resnet18", width=2, n_train=45, n_validation=9, batch_size=24, epochs=2, lr=0.01)
BASE = BASE.but(momentum=0.9, weight_decay=1e-2, precision="float64")
SAM = BASE.but(optimizer="sam", rho=0.1)
PARTS = SAM.but(n_train=90, batch_size=48)  # the last batch has parts of 11, 11, 10 and 10; batch norms of fewer
# samples of one pixel turn rounding into differences
OTHER = dict(ascent_steps=2, decay_in_ascent=True, batch_norm_passes="all")
RUNS = {
    "masked, without batch norm": SAM.but(model="mlp", width=0.02, sparsity=0.5, parts=2),  # recorded, as it is fast
    "sam": SAM,
    "sgd": BASE,
    "a part a process": PARTS.but(parts=2),
    "two parts a process that climb otherwise": PARTS.but(parts=4, **OTHER),
}
REFUSED = {
    "parts = 3: must be 1, for ε of the whole batch, or a multiple of the 2": PARTS.but(parts=3, batch_size=18),
    "ascent_batch = 'other': is trained by one process; run it without torchrun": SAM.but(ascent_batch="other"),
    "the smallest batch has 1 samples, for 2 parts: take fewer processes": SAM.but(
        model="mlp", n_train=25, batch_size=24
    ),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes give, by what they were asked for; the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("pair")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["two_trainers"])
    out, given = context.Queue(), (list(RUNS.values()), list(REFUSED.values()))
    arguments = ["pair", "--store", str(folder), "--device", "cpu"]
    start = [(rank, folder, port, *given, arguments, out) for rank in range(2)]
    processes = [context.Process(target=two_trainers.train, args=args) for args in start]
    for process in processes:
        process.start()
    results = dict(out.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return results, folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(pair, name):
    one, two = (pair[0][rank]["outcomes"][list(RUNS).index(name)] for rank in range(2))
    assert one == two  # to the last bit
    numbers, tensors = two_trainers.outcome(Loop([RUNS[name]], CPU))
    assert one[0] == pytest.approx(numbers, rel=1e-10)
    for mine, wanted in zip(one[1], tensors, strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(wanted), rtol=1e-9, atol=1e-11)


def test_what_they_do_not_train_is_refused_with_a_remedy(pair):
    for said, message in zip(pair[0][0]["refused"], REFUSED, strict=True):
        assert said.startswith(message)


def test_a_run_goes_on_from_the_checkpoint_of_process_0(pair):
    whole, resumed = pair[0][0]["records"]
    assert whole["curves"] == resumed["curves"] and whole["final"] == resumed["final"]


def test_the_command_files_one_record_under_the_key_of_the_run(pair):
    results, folder = pair
    assert [results[rank]["command"] for rank in range(2)] == [0, 0]
    (file,) = folder.glob("*.json")
    record = json.loads(file.read_text())
    (run, *_) = RUNS.values()
    assert file.stem == run.key and Run.of_record(record) == run
    assert record["provenance"]["engine"] == "distributed" and record["provenance"]["processes"] == 2
    row = sweep([run], train=False, store=folder).iloc[0]
    assert row["status"] == "done" and row["curves"] == results[0]["records"][0]["curves"]


# Without other processes


def test_each_process_decodes_its_share_of_a_batch_and_of_a_split(tmp_path):
    draws = np.random.default_rng(0)
    for place in ("train/a", "train/b", "val/a", "val/b"):
        for i in range(3):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(256, size=(30, 40, 3), dtype=np.uint8)).save(tmp_path / place / f"{i}.png")
    batches = StreamedBatches(Run(dataset=f"imagestream:{tmp_path}", model="resnet50", width=1, batch_size=4), CPU)
    shares = [lambda batch, rank=rank: batch.tensor_split(2)[rank] for rank in range(2)]
    for whole, *parts in zip(batches.epoch(0, 1), *(batches.epoch(0, 1, share=share) for share in shares), strict=True):
        assert [len(y) for _, y in parts] == [len(whole[1]) // 2] * 2
        for one, both in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(one, torch.cat(both))
    one, both = list(batches.chunks("test")), [*batches.chunks("test", (0, 2)), *batches.chunks("test", (1, 2))]
    for seen, wanted in zip(zip(*both, strict=True), zip(*one, strict=True), strict=True):
        assert torch.equal(torch.cat(seen), torch.cat(wanted))


def test_one_process_records_no_number_of_processes(tmp_path):
    table = sweep([BASE.but(model="mlp", width=0.02)], store=tmp_path, device="cpu", progress=False)
    assert "processes" not in table["provenance"].item()


def test_torchrun_takes_no_cluster_beside_it(monkeypatch, capsys):
    assert paths.torchrun_rank() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("RANK", "0")
    assert command.main(["mnist_mlp", "--dask", "tcp://localhost:1"]) == 1
    assert "leave out --dask and --slurm" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")  # of the processes one prints the plan
    assert command.main(["mnist_mlp", "--plan"]) == 0
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("runs", "plain"), [([SAM, BASE], False), ([SAM], True)])
def test_a_group_and_an_engine_that_is_not_trusted_are_refused(runs, plain):
    with pytest.raises(ValueError, match="without torchrun"):
        distributed.Leading(runs, CPU, plain=plain)


def test_batch_norm_of_one_process_is_that_of_torch(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        x = torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 5
        gradients, norms = [], [nn.BatchNorm2d(3).double() for _ in range(2)]
        distributed.share_batch_norms(norms[1])
        for norm in norms:
            inputs = x.clone().requires_grad_()
            norm(inputs).pow(3).sum().backward()
            gradients.append(inputs.grad)
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(*(norm.weight.grad for norm in norms))
        torch.testing.assert_close(*(norm.running_var for norm in norms))
        torch.testing.assert_close(*(norm.eval()(x) for norm in norms))
    finally:
        torch.distributed.destroy_process_group()
