"""One thread for every test: the last bits of a matrix product depend on how many there are."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def single_thread():
    torch.set_num_threads(1)
