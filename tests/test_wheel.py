"""The wheel: installed in an empty folder, beside a project's own `lib`, it is imported by a name of its own."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from lib.core import paths

DIST, NAME = "overparameterization-and-sam", "overparam_sam"

SCRIPT = """
import sys
from pathlib import Path

import torch

import lib
from NAME import hessian, theory
from NAME.core import paths
from NAME.runs import Run
from NAME.sam import SAM
from NAME.sweep import sweep
import own_cnn

assert lib.MINE and not [name for name in sys.modules if name.startswith("lib.")]
model, x, y = torch.nn.Linear(4, 2), torch.randn(8, 4), torch.randint(2, (8,))
optimizer = SAM(model.parameters(), torch.optim.AdamW, rho=0.05)

def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss

optimizer.step(closure)
assert hessian.sharpness(model, "cross_entropy", x, y).converged
table = sweep(own_cnn.grid(epochs=1)[:1], device="cpu", progress=False)
assert table["status"].tolist() == ["done"] and table["provenance"][0]["commit"] is None
assert [file.parent for file in Path.cwd().rglob("*.json")] == [Path.cwd() / "data" / "records"]
assert paths.figures() == Path.cwd() / "figures"
print("all is well")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which the wheel is installed, made of a copy of what git would give of the package."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(paths.ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(paths.ROOT / file, source)
    result, pip = source / "site", [sys.executable, "-m", "pip"]
    calls = [
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", "out", "."],
        [*pip, "install", "--no-deps", "--no-index", "-q", "--target", result, "--find-links", "out", DIST],
    ]
    for call in calls:
        made = subprocess.run(call, cwd=source, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    return result


def modules(folder) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*.py")}


def test_it_holds_every_module_under_its_own_name_and_nothing_else(site):
    assert modules(site) == {f"{NAME}/{module}" for module in modules(paths.ROOT / "lib")}
    mentions = [file for file in site.rglob("*.py") if re.search(r"(from|import|-m) lib\b", file.read_text("utf-8"))]
    assert mentions == []


def test_it_works_beside_a_lib_of_the_project(site, tmp_path):
    project = tmp_path / "project"
    before = sorted(file for file in site.rglob("*"))
    (project / "lib").mkdir(parents=True)
    (project / "lib" / "__init__.py").write_text("MINE = True\n")
    example = (paths.ROOT / "examples" / "own_cnn.py").read_text(encoding="utf-8")
    (project / "own_cnn.py").write_text(example.replace("from lib.", f"from {NAME}."), encoding="utf-8")
    (project / "main.py").write_text(SCRIPT.replace("NAME", NAME))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAM_")}
    ran = subprocess.run(
        [sys.executable, "main.py"],
        cwd=project,
        env=clean | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "all is well\n", ran.stderr
    assert sorted(file for file in site.rglob("*")) == before
