"""The script for a short GPU allocation: its dry run trains what `sweep` trains, its checks find faults, and the page
of what it measured has its numbers."""

import json
import re
import tarfile

import pytest
import torch
from pretended_cuda import CUDA, PretendCUDA

from benchmarks import gpu, gpu_checks
from lib.core import paths
from lib.paper import experiments
from lib.runs import Run, records
from lib.sweep import sweep
from lib.training.stack import Stack

CPU = torch.device("cpu")
RUNS = [Run(dataset="digits", width=0.1, n_train=64, batch_size=32, epochs=2, seed=seed) for seed in (0, 1)]
RUNS += [run.but(optimizer="sam", rho=0.05) for run in RUNS]


def log(out):
    return {entry["what"]: entry for entry in map(json.loads, (out / "log.jsonl").read_text().splitlines())}


def test_the_dry_run_packs_the_records_that_sweep_makes(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "store"))
    monkeypatch.setenv("SAM_COMMIT", "0123456789ab")
    records.commit.cache_clear()
    try:
        gpu.main(["--toy", "--minutes", "5", "--out", str(tmp_path), "--parts", "train"])
    finally:
        records.commit.cache_clear()
    assert not [entry for entry in log(tmp_path).values() if "failed" in entry]
    with tarfile.open(tmp_path / "records.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    runs = [run for run in experiments.mnist_mlp("smoke") if run.width == 0.05 and run.seed == 0]
    packed = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "records").glob("*.json")}
    assert packed.keys() == {run.key for run in runs}
    assert {record["provenance"]["commit"] for record in packed.values()} == {"0123456789ab"}
    expected = sweep(runs, store=tmp_path / "other", device="cpu", progress=False)
    for key, curves, loss in zip(expected["key"], expected["curves"], expected["test_loss"], strict=True):
        assert packed[key]["curves"] == curves
        assert packed[key]["final"]["test_loss"] == loss


def test_its_checks_run_on_a_gpu_and_find_a_planted_fault(monkeypatch):
    with PretendCUDA():
        assert max(gpu_checks.disagreement(RUNS, CUDA)["off"]) < 1e-5
        assert gpu_checks.stack_rate(RUNS, 1, CUDA)["stack, graph"] > 0
        moments = gpu_checks.eigenvalues(0.05, 20, CUDA)
        assert moments["cuda"]["a"] == pytest.approx(moments["cpu"]["a"], rel=1e-4)
        climb = Stack._climb
        monkeypatch.setattr(Stack, "_climb", lambda self, *given: climb(self, *given) * (0 if self.rho.is_cuda else 1))
        assert max(gpu_checks.disagreement(RUNS, CUDA)["off"]) > 1e-4


def test_what_fails_is_logged_and_the_rest_goes_on(tmp_path):
    lease = gpu.Lease(tmp_path, 1, CPU)
    assert lease.attempt("division", lambda: 1 / 0) is None
    assert lease.attempt("sum", lambda: 1 + 1) == 2
    assert log(tmp_path)["division"]["failed"] == "ZeroDivisionError: division by zero"


def test_a_group_that_cannot_end_in_time_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "expected", lambda runs, device: 100.0)
    monkeypatch.setattr(gpu, "_trained", lambda *arguments: pytest.fail("it was started"))
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "store"))
    gpu.train_all(gpu.Lease(tmp_path, 1, CPU), [RUNS])
    assert "expect mlp 0.1 on digits, 2 epochs, 4 runs" in log(tmp_path)


def test_the_correction_of_sam_in_float32_is_nearly_that_in_float64_and_in_bf16_it_is_not():
    row = gpu_checks.correction_error(CPU, 1)["mlp, rho 0.05"]
    assert row["float32"] < 1e-3 < 0.05 < row["bf16"]


def test_the_page_has_the_numbers_that_were_measured():
    results = {entry["what"]: entry["result"] for entry in json.loads((paths.ROOT / "benchmarks/gpu.json").read_text())}
    page = (paths.ROOT / "docs/gpu.md").read_text()
    for name, row in results["error of SAM's correction"].items():
        network, rho = name.split(", rho ")
        assert f"| {network} | {rho} | {row['float32']:.1g} | {row['tf32']:.2g} | {row['bf16']:.2g} |" in page
    for what, row in results.items():
        if width := re.match(r"steps a second, width ([\d.]+)", what):
            ratios = [row["stack, graph"] / row[name] for name in ("stack, eager", "torch.func ensemble", "usual loop")]
            shown = f"| {row['stack, graph']:,} | {ratios[0]:.1f}× | {ratios[1]:.1f}× | {ratios[2]:.0f}× |"
            assert f"| {width[1]} {shown}" in page
        if engine := re.match(r"off from a CPU: (.+)", what):
            assert f"| {engine[1]} | {max(row['off']):.1g} |" in page
            assert row["repeats"]
