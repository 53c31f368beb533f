"""The notebooks: committed as they stand in .py, executed, complete; and what they plot is what the CSVs say."""

import shutil
import subprocess
import sys

import jupytext
import nbformat
import pandas
import pytest

from lib import claims, experiments, notebooks, paths

SOURCES = notebooks.sources()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The smoke figures of every notebook, made as `make figures` makes them; records are shared with nbval."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM_FIGURES", str(folder))
        for source in SOURCES:
            notebooks.execute(source, folder / "executed", {"preset": "smoke", "train": True})
    return folder / "smoke"


def test_there_are_as_many_notebooks_as_the_paper_has_parts_done_so_far():
    assert [source.stem for source in SOURCES] == sorted(claims.CLAIMS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_committed_notebook_is_its_source_executed(source):
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    written = jupytext.read(source)
    assert [(c.cell_type, c.source) for c in committed.cells] == [(c.cell_type, c.source) for c in written.cells]
    notebooks.check(source.with_suffix(".ipynb"), source)


def test_every_figure_is_made_in_three_formats_and_the_claims_beside_them(smoke):
    wanted = {f"{name}.{end}" for s in SOURCES for name in notebooks.figures_of(s) for end in ("png", "svg", "csv")}
    assert {f.name for f in smoke.iterdir()} == wanted | {"claims.json", "claims.md"}
    assert len(wanted) == 3 * 6


def test_figure_1a_plots_every_run_of_its_grid_to_the_last_epoch(smoke):
    plotted = pandas.read_csv(smoke / "fig01a.csv")
    grid = experiments.matrix_factorization("smoke")
    assert set(plotted["key"]) == {run.key for run in grid}
    assert (plotted.groupby("key")["epoch"].max() == 100).all()
    by_rank = plotted.query("epoch == 100 and optimizer == 'unnormalized SAM'").groupby("width")["train_loss"].max()
    assert by_rank[10] < 1e-9 < 5 < by_rank[4]


def test_figure_d1_stays_below_the_bound_wherever_there_is_one(smoke):
    plotted = pandas.read_csv(smoke / "figD1.csv")
    assert set(plotted["panel"]) == {1, 4, 16}
    assert (plotted["low"] <= plotted["bound"] * (1 + 1e-9)).all()


@pytest.mark.parametrize(("name", "runs"), [("fig01b", 12), ("fig01c", 8)])
def test_figures_1b_and_1c_show_two_widths_of_sgd_and_sam(smoke, name, runs):
    plotted = pandas.read_csv(smoke / f"{name}.csv")
    assert plotted["key"].nunique() == runs
    assert plotted.groupby("width")["optimizer"].nunique().tolist() == [2, 2]


def test_every_claim_has_a_verdict_at_smoke(smoke):
    text = (smoke / "claims.md").read_text(encoding="utf-8")
    assert "not tested" not in text
    assert text.count("| supported |") + text.count("| not supported |") == sum(map(len, claims.CLAIMS.values()))


# ---------------------------------------------------------------------------- what must fail, does


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A copy of a notebook's folder to break, with one cheap notebook in it."""
    cells = [
        nbformat.v4.new_code_cell("preset = 'smoke'\ntrain = True", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import pandas\nfrom lib import plots\nimport matplotlib.pyplot as plt"),
        nbformat.v4.new_code_cell(
            "figure, _ = plt.subplots()\nplots.save(figure, \"fig99\", pandas.DataFrame({'x': [1]}), preset)"
        ),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path / "figures"))

    def write(change=lambda notebook: None):
        change(notebook)
        jupytext.write(notebook, tmp_path / "99_broken.py", fmt="py:percent")
        return tmp_path / "99_broken.py"

    return write


def execute(source, **parameters):
    return notebooks.execute(source, source.parent / "build", {"preset": "smoke", **parameters})


def test_a_notebook_that_is_whole_passes(broken):
    execute(broken())


def test_an_unknown_parameter_is_an_error_that_names_it(broken):
    with pytest.raises(notebooks.NotebookError, match=r"parameter 'epohcs'.*it has preset, train"):
        execute(broken(), epohcs=3)


def test_a_failing_cell_is_an_error_that_names_the_cause(broken):
    source = broken(lambda n: n.cells.append(nbformat.v4.new_code_cell("assert 1 == 2, 'the sum is off'")))
    with pytest.raises(notebooks.NotebookError, match=r"AssertionError: the sum is off"):
        execute(source)


def test_a_figure_that_is_saved_but_not_shown_is_an_error(broken):
    def hide(notebook):
        notebook.cells[2].source = notebook.cells[2].source.replace("plots.save", "_ = plots.save")

    with pytest.raises(notebooks.NotebookError, match="shows 0 of its 1 figures"):
        execute(broken(hide))


def test_a_figure_that_is_not_written_is_an_error(broken):
    def skip(notebook):
        notebook.cells[2].source += ' if preset == "paper" else figure'

    with pytest.raises(notebooks.NotebookError, match=r"did not make .*fig99\.png"):
        execute(broken(skip))


def test_a_notebook_that_was_never_executed_is_an_error(broken, tmp_path):
    source = broken()
    jupytext.write(jupytext.read(source), tmp_path / "never.ipynb")
    with pytest.raises(notebooks.NotebookError, match="a cell was never executed: \"preset = 'smoke'\""):
        notebooks.check(tmp_path / "never.ipynb", source)


def test_an_unknown_preset_fails_the_command_with_a_message():
    command = [sys.executable, "-m", "lib.notebooks", "figures", "--preset", "smok"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT)
    assert found.returncode == 1
    assert "preset = 'smok': must be one of smoke, lite, paper" in found.stderr


def test_an_unknown_notebook_fails_the_command_with_a_message():
    command = [sys.executable, "-m", "lib.notebooks", "figures", "06_more"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT)
    assert found.returncode == 1
    assert "notebook '06_more': there is none; there are 01_convergence" in found.stderr


def test_nbval_fails_where_a_checked_output_has_changed(tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["nbval-check-output"]}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), tmp_path / "changed.ipynb")
    shutil.copy(paths.ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", str(tmp_path / "changed.ipynb")]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    assert "1 failed" in found.stdout
