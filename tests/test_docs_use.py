"""The code of docs/use.md runs, from top to bottom."""

import functools
import re
import sys
import textwrap

import pytest
import torch
from torch import nn

from lib.core import paths
from lib.sweep import rounds

PAGE = paths.ROOT / "docs" / "use.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """A network and data, an empty store, one process, and a group of processes that has one member."""
    torch.manual_seed(0)
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # another takes a minute
    monkeypatch.syspath_prepend(str(paths.ROOT / "examples"))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Linear(8, 3))
    x, y = torch.randn(32, 1, 4, 4), torch.randint(3, (32,))
    yield {"torch": torch, "model": model, "criterion": nn.CrossEntropyLoss(), "x": x, "y": y}
    torch.distributed.destroy_process_group()
    sys.modules.pop("own_cnn", None)


@pytest.mark.filterwarnings("ignore:.*CUDA.*", "ignore:.*Detected call of.*")
def test_every_block_runs(surroundings):
    assert len(BLOCKS) >= 12
    w = surroundings["model"][1].weight
    for block in BLOCKS:
        line = PAGE.read_text(encoding="utf-8").partition(block)[0].count("\n")
        code = compile("\n" * line + textwrap.dedent(block), str(PAGE), "exec")
        before = w.detach().clone()
        if "experiments" not in block:  # a figure of the paper, of minutes
            exec(code, surroundings)
        assert "optimizer.step" not in block or not torch.equal(w, before)
    assert surroundings["table"]["status"].tolist() == ["done", "done"]
    assert [pair.converged for pair in surroundings["pairs"]] == [True] * 5
