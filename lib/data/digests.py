"""Which data it was: digests of what data sets hold, for their check, for records, and for the keys of folder data."""

import functools
import hashlib
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

from lib.data.errors import damaged
from lib.data.images import is_hidden

TOPS = ("train", "test", "val")  # the folders of splits
RECENT = 10.0  # seconds

_states: dict[Path, tuple[float, str]] = {}


def samples(x: torch.Tensor, y: torch.Tensor) -> str:
    """16 hexadecimal digits: the SHA-256 of shapes, types and bytes of a split.

    >>> samples(torch.zeros(2, 1), torch.zeros(2)) == samples(torch.zeros(2, 1), torch.ones(2))
    False
    """
    result = hashlib.sha256()
    for part in (x, y):
        result.update(f"{tuple(part.shape)} {part.dtype} ".encode())
        result.update(part.contiguous().numpy())
    return result.hexdigest()[:16]


def state(path: Path, age: float = 0.0) -> str:
    """What changes when somebody changes the folder or zip: names, sizes and times of its files. age: so many seconds
    old it may be."""
    known = _states.get(path)
    if known is None or time.monotonic() - known[0] > age:
        stats = ((name, file.stat()) for name, file in _files(path))
        known = time.monotonic(), _hash((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
        _states[path] = known
    return known[1]


def contents(path: Path) -> str:
    """16 hexadecimal digits: the hash of the names, sizes and CRC-32 of the images in a folder or zip, which is read
    once, and again when it has changed."""
    return _contents(path, state(path))


@functools.lru_cache(maxsize=32)
def _contents(path: Path, state: str) -> str:
    if path.is_dir():
        return _hash((name, file.stat().st_size, _crc(file)) for name, file in _files(path))
    try:
        with zipfile.ZipFile(path) as archive:  # which checks them when an image is read
            return _hash((info.filename, info.file_size, info.CRC) for info in archive.infolist() if not info.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise damaged(path, f"no whole zip file: {error}") from error


def names_and_sizes(files: list[Path], root: Path) -> str:
    """16 hexadecimal digits for a folder that is too large to be read for this alone."""
    return _hash((file.relative_to(root).as_posix(), file.stat().st_size) for file in files)


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
    for file in (file for top in TOPS for file in (path / top).rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(is_hidden(part) for part in name.parts):
            yield name.as_posix(), file


def _crc(file: Path) -> int:
    result = 0
    with open(file, "rb") as content:
        while part := content.read(1 << 20):
            result = zlib.crc32(part, result)
    return result


def _hash(rows) -> str:
    return hashlib.sha256("\n".join(" ".join(map(str, row)) for row in sorted(rows)).encode()).hexdigest()[:16]
