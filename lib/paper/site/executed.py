"""The notebooks executed at a preset for the site: two at a time, and only those that are older than what they depend
on."""

import concurrent.futures
import multiprocessing
from pathlib import Path

from lib.core import paths
from lib.paper import notebooks

AT_A_TIME = 2
OF_THE_SITE = ("site", "captions")  # folders of lib/paper that no executed notebook depends on


def executed(folder: Path, preset: str, train: bool) -> list[Path]:
    """The executed notebooks, in `folder`; their figures and claims are in `paths.figures()`.

    Raises NotebookError for one that fails."""
    sources = notebooks.sources()
    due = [source for source in sources if not is_current(folder / f"{source.stem}.ipynb", source, preset)]
    parameters = {"preset": preset, "train": train}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(AT_A_TIME, mp_context=context) as pool:
        waiting = [pool.submit(notebooks.execute, source, folder, parameters) for source in due]
        for future in waiting:
            future.result()
    return [folder / f"{source.stem}.ipynb" for source in sources]


def is_current(made: Path, source: Path, preset: str) -> bool:
    """Whether a notebook was executed after its source, the library and the records last changed, and its figures are
    still there."""
    pictures = [paths.gallery(preset) / f"{name}.png" for name in notebooks.figures_of(source)]
    if not all(file.exists() for file in (made, *pictures)):
        return False
    library = [file for file in paths.ROOT.glob("lib/**/*.py") if not set(OF_THE_SITE) & set(file.parts)]
    depends = [source, *library, *(paths.records(name) for name in ("mnist", "digits"))]
    return made.stat().st_mtime >= max(file.stat().st_mtime for file in depends if file.exists())
