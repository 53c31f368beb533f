"""Whatever the surrounding process has set, a run is trained as ever, and the settings are back afterwards."""

import contextlib

import pytest
import torch

from lib import data
from lib.core import ambient
from lib.data import datasets
from lib.runs import Run, records
from lib.sweep import rounds, sweep

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RUN = Run(dataset="digits", width=0.03, epochs=2, n_train=64, batch_size=32, optimizer="sam", rho=0.05)
RUNS = [RUN, RUN.but(dataset="factorization", model="linear2", width=4, loss="squared", lr=0.001)]
RUNS += [RUN.but(model="resnet18", width=1, epochs=1, n_train=32)]


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "float64": default_dtype,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "meta": lambda: torch.device("meta"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return sweep(RUNS, store=tmp_path_factory.mktemp("expected"), device="cpu")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_is_the_same_whatever_is_set_around_it(tmp_path, monkeypatch, expected, setting):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)  # in this process
    datasets._load.cache_clear()
    with SETTINGS[setting]():
        result = sweep(RUNS, store=tmp_path, device="cpu")
    assert result["curves"].tolist() == expected["curves"].tolist()
    assert result["test_loss"].tolist() == expected["test_loss"].tolist()


def test_data_does_not_depend_on_the_default_dtype():
    datasets._load.cache_clear()
    with default_dtype():
        x = data.load("factorization", "train").x
    datasets._load.cache_clear()
    assert x.dtype == torch.float32 and x.equal(data.load("factorization", "train").x)


@pytest.mark.parametrize("setting", SETTINGS)
def test_all_is_as_it_was_afterwards(setting):
    def state():
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_device(),
            torch.get_num_threads(),
            [backend.fp32_precision for backend in ambient.ROUNDING],
        )

    with SETTINGS[setting]():
        before = state()
        with pytest.raises(ZeroDivisionError), ambient.exactly(CPU):
            assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu") and torch.zeros(1).device == CPU
            1 / 0  # noqa: B018
        assert state() == before


@pytest.mark.parametrize("new", [False, True], ids=["allow_tf32", "fp32_precision"])
def test_a_gpu_multiplies_in_float32_and_the_record_says_so_by_either_of_torchs_switches(monkeypatch, new):
    monkeypatch.setattr(records, "hardware", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    before = [backend.fp32_precision for backend in ambient.ROUNDING]
    try:
        if new:
            for backend in ambient.ROUNDING:
                backend.fp32_precision = "tf32"
        else:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        assert records.provenance(GPU)["tf32"] is True
        with ambient.exactly(GPU):
            assert records.provenance(GPU)["tf32"] is False
        assert [backend.fp32_precision for backend in ambient.ROUNDING] == ["tf32"] * 3
    finally:
        for backend, precision in zip(ambient.ROUNDING, before, strict=True):
            backend.fp32_precision = precision
