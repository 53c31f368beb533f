"""Runs the notebooks without a browser: convert from .py, execute with papermill, check that nothing is lacking.

`python -m lib.paper.notebooks figures --preset smoke` regenerates figures/smoke and leaves the executed notebooks in
build/;
`python -m lib.paper.notebooks refresh` executes the .ipynb that are committed beside their .py. An unknown parameter, a
cell that fails and a figure that was not made are errors.
"""

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel, get_kernel_spec
from PIL import Image

from lib.core import paths, terminal
from lib.paper import experiments
from lib.paper.claims import pages
from lib.sweep import FailedWarning

FOLDER = paths.ROOT / "notebooks"
TIMEOUT = 24 * 3600
KERNEL = "python3"
INLINE = "module://matplotlib_inline.backend_inline"


class NotebookError(RuntimeError):
    """A notebook that failed, was not executed, or lacks what it should have made."""


def sources(names: list[str] | None = None) -> list[Path]:
    """The .py of the notebooks, all or those named. NotebookError for a name that there is not."""
    there = {path.stem: path for path in sorted(FOLDER.glob("[0-9]*.py"))}
    for name in names or []:
        if name not in there:
            raise NotebookError(f"notebook {name!r}: there is none; there are {', '.join(there)}")
    return [there[name] for name in names] if names else list(there.values())


def figures_of(source: Path) -> list[str]:
    """The names under which a notebook saves its figures."""
    return saved_in(source.read_text(encoding="utf-8"))


def saved_in(code: str) -> list[str]:
    """The names under which a notebook, or one of its cells, saves figures."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    saves = sorted((c for c in calls if ast.unparse(c.func) == "plots.save"), key=lambda call: call.lineno)
    return [call.args[1].value for call in saves]


def execute(source: Path, folder: Path, parameters: dict) -> Path:
    """Convert `source` and execute it into `folder`; the path of the executed notebook.

    Raises NotebookError for a parameter that the notebook does not have, a failing cell, or a missing figure.
    """
    _check_kernel()
    folder.mkdir(parents=True, exist_ok=True)
    converted, executed = folder / f"{source.stem}.input.ipynb", folder / f"{source.stem}.ipynb"
    jupytext.write(jupytext.read(source), converted)
    known = papermill.inspect_notebook(str(converted))
    for name in parameters:
        if name not in known:
            raise NotebookError(f"parameter {name!r}: {source.name} has none of that name; it has {', '.join(known)}")
    parameters = {
        name: typed(name, value, ast.literal_eval(known[name]["default"])) for name, value in parameters.items()
    }
    began = time.time()
    os.environ["MPLBACKEND"] = INLINE  # another one would draw nothing into the notebook
    try:
        papermill.execute_notebook(
            str(converted),
            str(executed),
            parameters=parameters,
            kernel_name=KERNEL,
            cwd=str(paths.ROOT),
            progress_bar=False,
            stderr_file=sys.stderr,  # the progress of sweeps
            execution_timeout=TIMEOUT,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which warns of its transport and of its end
        )
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"{source.name}: cell {error.exec_count} failed with {error.ename}: {error.evalue}"
        ) from error
    finally:
        converted.unlink()
    check(executed, source)
    _check_figures(source, paths.figures() / parameters.get("preset", "smoke"), began)
    return executed


def _check_kernel() -> None:
    """Raise NotebookError if the kernel of the notebooks is not this interpreter's, before any work is done."""
    remedy = f"run `{sys.executable} -m ipykernel install --sys-prefix`, or remove the other kernel"
    try:
        command = get_kernel_spec(KERNEL).argv[0]
    except NoSuchKernel as error:
        raise NotebookError(f"there is no kernel {KERNEL}; {remedy}") from error
    if Path(command).is_absolute() and Path(command).parent != Path(sys.executable).parent:
        raise NotebookError(f"the kernel {KERNEL} is {command}, not {sys.executable}; {remedy}")


def check(executed: Path, source: Path) -> None:
    """Raise NotebookError unless every code cell of `executed` ran, none failed, and each figure is shown."""
    cells = [c for c in nbformat.read(executed, as_version=4).cells if c.cell_type == "code" and c.source.strip()]
    images = 0
    for cell in cells:
        if cell.execution_count is None:
            raise NotebookError(f"{executed}: a cell was never executed: {cell.source.splitlines()[0]!r}")
        for output in cell.outputs:
            if output.output_type == "error":
                raise NotebookError(f"{executed}: a cell failed with {output.ename}: {output.evalue}")
            images += "image/png" in output.get("data", {})
    if images < len(figures_of(source)):
        raise NotebookError(f"{executed}: shows {images} of its {len(figures_of(source))} figures")


def _check_figures(source: Path, folder: Path, began: float) -> None:
    for name in figures_of(source):
        for ending in ("png", "svg", "csv"):
            files = [place / f"{name}.{ending}" for place in (folder, folder.with_name(f"{folder.name}-changed"))]
            if not any(file.exists() and file.stat().st_mtime >= began - 1 for file in files):
                raise NotebookError(f"{source.name}: did not make {files[0]}")


def refresh(source: Path) -> Path:
    """Execute `source` as it is and file the result beside it, without what changes from one execution to the next.

    Raises NotebookError if that would overwrite cells of the .ipynb which the .py has not, and as `execute` does.
    """
    target = source.with_suffix(".ipynb")
    if lost := only_in_ipynb(source):
        raise NotebookError(
            f"{target}: has cells that {source.name} has not, which would be lost: {'; '.join(lost)}. "
            f"Run `jupytext --sync {target}` to take them over, or restore the .ipynb"
        )
    os.environ["CI"] = "true"  # no progress in what is committed
    executed = execute(source, paths.ROOT / "build" / "refresh", {})
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags" and v}
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    notebook.metadata[REFRESHED] = _digest(notebook)
    nbformat.write(notebook, target)
    return target


REFRESHED = "cells_when_executed"  # in the metadata of a committed notebook: a digest of its cells


def _digest(notebook) -> str:
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()[:16]


def only_in_ipynb(source: Path) -> list[str]:
    """The first lines of cells that somebody wrote into the .ipynb and that the .py has not; none where the .ipynb is
    as it was executed, only from an earlier .py."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return []
    notebook = nbformat.read(target, as_version=4)
    if notebook.metadata.get(REFRESHED) == _digest(notebook):
        return []
    here = [cell.source.strip() for cell in jupytext.read(source).cells]
    cells = [cell.source.strip() for cell in notebook.cells if cell.source.strip()]
    moved, there = [], iter(here)  # in their order, with others between them
    for text in cells:
        if text not in here or (not moved and text not in there):
            moved.append(text)
    return [text.splitlines()[0] for text in moved]


def failures(executed: Path) -> list[str]:
    """What the sweeps of an executed notebook warned of runs that failed."""
    cells = nbformat.read(executed, as_version=4).cells
    texts = [
        output.get("text", "") for cell in cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    return [result for text in texts for result in re.findall(rf"{FailedWarning.__name__}: (.*)", text)]


def _smaller(picture: str) -> str:
    """A PNG in base64, smaller."""
    return base64.b64encode(smaller(base64.b64decode(picture))).decode()


def smaller(png: bytes) -> bytes:
    """The PNG in a palette of 256 colours: a third of the size, and the drawing looks the same."""
    image, file = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=VALUE")
    return name, value


TRUTHS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def typed(name: str, value: object, default: object) -> object:
    """A parameter's value, of the type of its default in the notebook; a text is read as such a value. NotebookError if
    it is none."""
    kind = type(default)
    if type(value) is kind:
        return value
    if kind is bool and str(value).lower() in TRUTHS:
        return TRUTHS[str(value).lower()]
    if isinstance(value, str) and kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    raise NotebookError(f"parameter {name} = {value!r}: must be a {kind.__name__}, such as {default!r}")


def main(arguments: list[str] | None = None) -> int:
    """Regenerate the figures of a preset, or execute the committed notebooks again."""
    parser = argparse.ArgumentParser(prog="python -m lib.paper.notebooks", description=main.__doc__)
    parser.add_argument("command", choices=["figures", "refresh"])
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="such as 01_convergence; all if none is given")
    parser.add_argument("--preset", default="smoke", help=f"one of {', '.join(experiments.PRESETS)}")
    parser.add_argument("--train", type=int, choices=(0, 1), help="train missing runs; by default only at smoke")
    parser.add_argument("-p", type=_parameter, action="append", default=[], metavar="NAME=VALUE", dest="parameters")
    terminal.tolerate()
    given = parser.parse_args(arguments)
    try:
        parameters = {"preset": given.preset} | dict(given.parameters)
        preset = experiments.check_preset(parameters["preset"])
        train = preset == "smoke" if given.train is None else bool(given.train)
        parameters = {"train": train} | parameters
        chosen = sources(given.names)
    except (NotebookError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    incomplete = []
    for source in chosen:  # all of them, whatever becomes of one
        began = time.monotonic()
        print(f"{source.name} …", flush=True)
        try:
            if given.command == "refresh":
                made = refresh(source)
            else:
                if ignored := only_in_ipynb(source):
                    print(
                        f"{source.stem}.ipynb has cells that are not executed, as {source.name} has not: "
                        f"{'; '.join(ignored)}. `jupytext --sync` takes them over",
                        file=sys.stderr,
                        flush=True,
                    )
                made = execute(source, paths.ROOT / "build" / preset, parameters)
            print(f"{source.name}: {made.relative_to(paths.ROOT)} in {time.monotonic() - began:.0f} s", flush=True)
            errors = [f"{source.name}: {message}" for message in failures(made)]
        except (NotebookError, ValueError) as error:
            errors = [str(error)]
        for error in errors:
            print(f"{parser.prog}: {error}", file=sys.stderr, flush=True)
        incomplete += [source.stem] * bool(errors)
    if given.command == "figures" and preset == pages.PRESET and paths.figures() == paths.ROOT / "figures":
        for page in pages.update():
            print(f"{page.relative_to(paths.ROOT)}: written from the claims", flush=True)
    if incomplete and len(chosen) > 1:
        print(f"{parser.prog}: not complete, see above: {', '.join(incomplete)}", file=sys.stderr)
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
