"""JupyterLab as a user finds it, in a browser: run all at smoke, change the preset to lite, run all again.

It takes minutes, so it runs only where JUPYTERLAB=1 is in the environment."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from lib.core import paths
from lib.paper import notebooks
from tests import browser

TOKEN = "reader"
MINUTES = 15  # for one run of a notebook

pytestmark = pytest.mark.skipif(os.environ.get("JUPYTERLAB") != "1", reason="takes minutes: set JUPYTERLAB=1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, so that nothing of the checkout is changed: its address and the folder."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(paths.ROOT / "notebooks", folder / "notebooks")
    shutil.copy(paths.ROOT / "pyproject.toml", folder)
    environment = os.environ | {"SAM_FIGURES": str(folder / "figures"), "PYTHONPATH": str(paths.ROOT), "CI": ""}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        yield _address(folder / "log"), folder
    finally:
        process.terminate()
        process.wait(timeout=60)


def _address(log) -> str:
    for _ in range(120):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(1)
    raise AssertionError(log.read_text())


def _kernels(address: str) -> list[dict]:
    with urllib.request.urlopen(f"{address}/api/kernels?token={TOKEN}", timeout=30) as answer:
        return json.load(answer)


def _run_all(page, address: str, file) -> nbformat.NotebookNode:
    """Run all cells by the menu, save, and return what is in the file."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
    busy = False
    for _ in range(60 * MINUTES):
        states = {kernel["execution_state"] for kernel in _kernels(address)}
        busy |= "busy" in states
        if busy and states == {"idle"}:
            break
        time.sleep(1)
    else:
        raise AssertionError(f"{file.name} runs for more than {MINUTES} minutes")
    before = file.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(60):
        if file.stat().st_mtime_ns > before:
            break
        time.sleep(0.5)
    return nbformat.read(file, as_version=4)


@pytest.mark.parametrize("name", ["01_convergence", "03_width"])
def test_a_notebook_runs_at_smoke_and_again_at_lite(lab, tmp_path, name):
    address, folder = lab
    file = folder / "notebooks" / f"{name}.ipynb"
    with browser.chromium() as chromium:
        page = chromium.new_page(viewport=browser.DESKTOP)
        page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
        for preset in ("smoke", "lite"):
            cell = page.locator(".jp-CodeCell .cm-content").first
            cell.click()
            page.keyboard.press("Control+a")
            page.keyboard.insert_text(f'preset = "{preset}"\ntrain = {preset == "smoke"}')
            notebook = _run_all(page, address, file)
            page.screenshot(path=str(tmp_path / f"{name}-{preset}.png"))
            check(notebook, name, preset)
            made = {csv.stem for csv in (folder / "figures" / preset).glob("*.csv")}
            assert set(notebooks.figures_of(paths.ROOT / "notebooks" / f"{name}.py")) <= made
            assert f'preset = "{preset}"' in file.with_suffix(".py").read_text()  # saved in both, as they are paired
        page.close()
    for kernel in _kernels(address):
        request = urllib.request.Request(f"{address}/api/kernels/{kernel['id']}?token={TOKEN}", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


def check(notebook: nbformat.NotebookNode, name: str, preset: str):
    """Every cell ran, none failed or warned of the environment, and every figure has its caption under it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Traceback" not in said and "IPKernelApp" not in said
    captions = [text for o in outputs if (text := o.get("data", {}).get("text/markdown", "")).startswith("**Figure ")]
    assert len(captions) == len(notebooks.figures_of(paths.ROOT / "notebooks" / f"{name}.py"))
    assert all(f"figures/{preset}/" in text for text in captions)
