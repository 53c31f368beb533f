"""What all tests share."""

import pytest
import torch
from PIL import Image


def pytest_addoption(parser):
    parser.addoption("--random-runs", type=int, default=200, help="how many random runs are trained")


@pytest.fixture(scope="session", autouse=True)
def single_thread():
    """The last bits of a matrix product depend on how many threads there are."""
    torch.set_num_threads(1)


@pytest.fixture
def pictures(tmp_path):
    """An augmented data set: 24 noisy RGB images of 8×8 in two classes."""
    for i in range(24):
        file = tmp_path / "noise" / ("train" if i < 18 else "test") / f"{i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(pixels.numpy()).save(file)
    return f"imagefolder:{tmp_path}/noise"
