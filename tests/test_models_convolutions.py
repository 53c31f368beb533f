"""No convolution of ours reaches the kernel of oneDNN that writes past its workspace (docs/onednn.md)."""

import os
import pickle
import re
import subprocess
import sys

import pytest
import torch
from convolutions import convolutions
from torch import nn

from lib import models
from lib.core import paths
from lib.models.resnet import FAULTY_CHANNELS, PointwiseConv2d
from lib.runs import Run
from lib.training import engines
from lib.training.grouped import merge

ISAS = ["AVX2"] + ["DEFAULT"] * (torch.backends.cpu.get_cpu_capability() == "AVX512")
RESNET = Run(dataset="digits", model="resnet18", width=4, epochs=1, n_train=52, batch_size=32, momentum=0.9)
SAM = RESNET.but(optimizer="sam", rho=0.05)


def run(command: list[str], isa: str = "AVX2", **environment) -> subprocess.CompletedProcess:
    """A Python command in a process of its own, where oneDNN takes these instructions and prints its primitives."""
    environment = {"ONEDNN_MAX_CPU_ISA": isa, "ONEDNN_VERBOSE": "1", "MALLOC_PERTURB_": "165", **environment}
    given = {"env": os.environ | environment, "capture_output": True, "text": True, "cwd": paths.ROOT}
    return subprocess.run([sys.executable, *command], timeout=400, **given)


def strided(printed: str) -> set[tuple[int, int]]:
    """The channels and groups of the strided 1×1 convolutions among the primitives that oneDNN printed."""
    result = re.findall(r",convolution,.*?(?:g(\d+))?ic(\d+)oc\d+_ih\d+oh\d+kh1sh([2-9])", printed)
    return {(int(channels), int(groups or 1)) for groups, channels, _ in result}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    file = tmp_path_factory.mktemp("shapes") / "shapes"
    file.write_bytes(pickle.dumps(convolutions()))
    return ["tests/convolutions.py", "--shapes", str(file)]


@pytest.mark.parametrize("isa", ISAS)
def test_every_convolution_of_every_grid_is_right_and_none_is_faulty(shapes, isa):
    result = run([*shapes, "--most", "5e6"], isa)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    shapes_checked = int(re.search(r"(\d+) shapes, 0 disagreements", result.stdout)[1])
    assert shapes_checked > 400 and result.stdout.count(",convolution,") > 4 * shapes_checked
    assert all(channels // groups >= FAULTY_CHANNELS for channels, groups in strided(result.stdout))


def test_without_the_guard_it_fails(shapes):
    # If it does not any more, the fault has been mended, and the guard can go.
    result = run([*shapes, "--most", "1e7", "--unguarded"])
    assert (1, 1) not in strided(result.stdout) and min(strided(result.stdout))[0] < FAULTY_CHANNELS
    if result.returncode == 0:  # with one thread only neighbours in memory are damaged
        result = run([*shapes, "--most", "1e7", "--unguarded", "--threads", "2"])
    assert result.returncode != 0


TRAIN = "import torch; from lib.training import engines; from lib.runs import Run; torch.set_num_threads(1);"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "runs", [[RESNET, SAM], [RESNET, SAM, SAM.but(seed=1)], [SAM.but(width=8)]], ids=["pair", "three", "loop"]
)
def test_no_engine_takes_the_faulty_kernel(runs, isa):
    engine = f"engines.engine({runs!r}, torch.device('cpu'))"
    result = run(["-c", f"{TRAIN} e = {engine}; e.epoch(0); e.evaluate('test')"], isa)
    assert result.returncode == 0, result.stderr[-2000:]
    assert ",convolution," in result.stdout and "backward_weights" in result.stdout
    assert all(channels // groups >= FAULTY_CHANNELS for channels, groups in strided(result.stdout))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [2, 4, 8, FAULTY_CHANNELS - 1])
def test_a_guarded_convolution_is_the_strided_one(channels, memory_format):
    guarded = PointwiseConv2d(channels, 2 * channels, 1, 2).double().to(memory_format=memory_format)
    plain = nn.Conv2d(channels, 2 * channels, 1, 2).double()
    plain.load_state_dict(guarded.state_dict())
    x = torch.randn(3, channels, 7, 8, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    for result, expected in zip(*([out, *grads] for out, grads in passes((guarded, plain), x)), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-14, atol=1e-14)


def passes(layers, x):
    for layer in layers:
        out = layer(x)
        yield out, torch.autograd.grad(out.sin().sum(), [x, *layer.parameters()])


def test_wide_networks_and_merged_ones_keep_their_layers():
    narrow, wide = (models.build("resnet18", width=w, in_shape=(1, 8, 8), classes=10, seed=0) for w in (4, 16))
    kinds = [
        [type(m) for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (narrow, wide, merge([narrow] * 2))
    ]
    assert kinds[0] == kinds[1] == kinds[2] and kinds[0].count(PointwiseConv2d) == 3
    assert engines.engine_class([RESNET]) is engines.Loop
