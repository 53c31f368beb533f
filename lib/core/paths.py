"""Where things live. The only module that reads the environment, so every other one can be tested without it.

`SAM_DATA` is the folder of datasets, `SAM_RECORDS` the store of records, `SAM_FIGURES` the folder of figures;
unset, they are `data/`, `data/records/` and `figures/` of this checkout. `SAM_COMMIT` names the commit of a copy
whose git does not know it. `SAM_REPOSITORY`, `SAM_COLAB` and `SAM_BINDER` are addresses that the site links to.
Relative folders count from the checkout, whatever the working directory is (papermill runs in the caller's, nbval in
the notebook's). Installed from a wheel, there is no checkout, and the working directory takes its place.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # `lib`, or what it is called in a wheel
ROOT = PACKAGE.parent


def base() -> Path:
    """The checkout, or outside of one the working directory."""
    return ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()


def _folder(variable: str, *default: str) -> Path:
    given = os.environ.get(variable)
    return (base() / Path(given).expanduser()).resolve() if given else base().joinpath(*default)


def data() -> Path:
    """The folder of datasets."""
    return _folder("SAM_DATA", "data")


def records(dataset: str) -> Path:
    """The default store for runs on `dataset`; the stand-in digits have their own, which git ignores."""
    store = _folder("SAM_RECORDS", "data", "records")
    return store / "digits" if dataset == "digits" else store


def checkpoints() -> Path:
    """Where the default stores keep work in progress."""
    return _folder("SAM_RECORDS", "data") / "checkpoints"


def figures() -> Path:
    """The folder that holds one folder of figures a preset."""
    return _folder("SAM_FIGURES", "figures")


def commit() -> str | None:
    """The commit that a copy says it is of, which has no `.git` or that of another state."""
    return os.environ.get("SAM_COMMIT") or None


def address(name: str) -> str | None:
    """The address of the project's "repository", or of the service "colab" or "binder"; None where it is not given."""
    return os.environ.get(f"SAM_{name.upper()}") or None


def torchrun_rank() -> int | None:
    """The number of this process among those that torchrun has started; None for any other process."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def gallery(preset: str, changed: bool = False) -> Path:
    """The folder of a preset's figures and claims; of an experiment that changes what the preset trains, another."""
    return figures() / (f"{preset}-changed" if changed else preset)


def quiet() -> bool:
    """True where progress bars would only fill a log: under continuous integration."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}
