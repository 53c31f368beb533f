"""Where a reader runs a notebook without installing anything: links to Binder and to Colab, and the copies for Colab.

No address is written down here. The repository's is `SAM_REPOSITORY`, or that of git's remote `origin`; those of the
services are `SAM_BINDER` and `SAM_COLAB`. Where one is lacking there is no link.

Binder makes the environment that `.binder/` describes, and opens the committed notebook. Colab opens one file, so the
branch `launch` has a copy of each notebook that first clones and installs the project. Both are read-only: they show
the committed records at a preset.
"""

import re
import subprocess
from pathlib import Path
from urllib.parse import quote

import jupytext
import nbformat

from lib.core import paths

BRANCH = "launch"  # of the copies for Colab
SSH = re.compile(r"(?:ssh://)?(?:[\w.-]+@)([\w.-]+)(?::\d+/|:|/)(.+)")
WEB = re.compile(r"https?://(?:[^@/]*@)?([^/]+)/(.+)")


def repository() -> str | None:
    """Where anybody can clone the project from; None where nothing says so."""
    if given := paths.address("repository"):
        return public(given)
    command = ["git", "-C", str(paths.ROOT), "remote", "get-url", "origin"]
    try:
        return public(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return None


def public(address: str) -> str | None:
    """The address on the web of what git knows by this one, without a user's name or password; None for a folder.

    >>> public("git@forge:someone/project.git"), public("https://token@forge/someone/project")
    ('https://forge/someone/project', 'https://forge/someone/project')
    """
    match = WEB.fullmatch(address) or SSH.fullmatch(address)
    return f"https://{match[1]}/{match[2].strip('/').removesuffix('.git')}" if match else None


def links(name: str) -> str:
    """A paragraph of HTML with the links to run the notebook of this name; empty where there are none."""
    where, colab, binder = repository(), paths.address("colab"), paths.address("binder")
    ways = []
    if where and colab:
        owned = where.split("/", 3)[3]
        ways.append(f'<a href="{colab.rstrip("/")}/github/{owned}/blob/{BRANCH}/{name}.ipynb">in Colab</a>')
    if where and binder:
        opened = quote(f"lab/tree/notebooks/{name}.ipynb", safe="")
        place = f"{binder.rstrip('/')}/v2/git/{quote(where, safe='')}/HEAD?urlpath={opened}"
        ways.append(f'<a href="{place}">in Binder</a>')
    return f'<p class="launch">Run this notebook {" or ".join(ways)}.</p>' if ways else ""


def copy(source: Path, folder: Path, address: str, preset: str) -> Path:
    """Write the notebook, without outputs, that clones the project from `address`, installs it, and shows the records
    of the preset; its path."""
    notebook = jupytext.read(source)
    install = f"!git clone --quiet --depth 1 {address} project\n%cd project\n%pip install --quiet --editable ."
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = f'preset = "{preset}"\ntrain = False'
    notebook.cells.insert(0, nbformat.v4.new_code_cell(install))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{source.stem}.ipynb"
    nbformat.write(notebook, target)
    return target
