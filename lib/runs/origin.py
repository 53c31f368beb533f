"""What wrote a file of work in progress: checkpoints and weights say so, and are not used for what they are not of."""

import ast
import functools
import hashlib
from pathlib import Path

import torch

from lib.core import paths
from lib.runs import records

TRAINING = (
    "core",
    "data",
    "models",
    "training",
    "sam.py",
    "runs/climbing.py",
)  # of lib: what decides how a run is trained
DECIDES = ("code", "torch")  # with another of these, a training cannot be continued


def origin(device: torch.device) -> dict:
    """The commit, the `code`, torch, and the device with its instructions and threads."""
    result = records.provenance(device)
    names = ("commit", "torch", "device", "instructions", "threads")
    return {name: result[name] for name in names} | {"code": code()}


@functools.cache  # of the code that this process runs
def code() -> str:
    """16 hexadecimal digits: the hash of the code that trains, whatever its comments and docstrings are."""
    files = [file for name in TRAINING for file in _files(paths.PACKAGE / name)]
    texts = [f"{file.relative_to(paths.ROOT).as_posix()} {_statements(file)}" for file in files]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def differing(one: dict, other: dict) -> list[str]:
    """What of DECIDES two origins differ in."""
    return [name for name in DECIDES if one.get(name) != other.get(name)]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _statements(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    return ast.dump(tree)
