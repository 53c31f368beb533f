"""Image folders that memory holds: train/<class>/<image> and test/ or val/, in a directory or a zip, images of one
size.

The images come in the order of the hashes of their names: fixed, and unrelated to the classes, so that the first n, or
every second one, are a fair sample.
"""

import functools
import hashlib
import io
import itertools
import stat
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError

from lib.data.dataset import Dataset, times
from lib.data.digests import TOPS
from lib.data.errors import DataUnavailable, damaged
from lib.data.images import GRAYSCALE, MOST_BYTES, is_hidden, open_image


def read(name: str, split: str, path: Path) -> Dataset:
    """A split of the folder or zip `path`, as the data set `name`. Raises DataUnavailable for one that is absent or
    odd."""
    listing, read_entry = _open(path)
    images = _classes(path, listing)
    held_out = "val" if images["val"] and not images["test"] else "test"
    classes = sorted({*images["train"], *images[held_out]}) or ["<class>"]
    for top, label in itertools.product(("train", held_out), classes):
        if not images[top].get(label):
            needed = "it needs train/<class>/ and test/ or val/<class>/, the same classes in both, none of them empty"
            raise DataUnavailable(f"{path}: no image in {top}/{label}/; {needed}")
    chosen = images["train" if split == "train" else held_out]
    labels = {image: k for k, label in enumerate(classes) for image in chosen[label]}
    order = sorted(labels, key=lambda image: hashlib.sha256(image.encode()).digest())
    first = min(images["train"][classes[0]])
    shape = _pixels(path, first, read_entry).shape
    x = torch.empty(len(order), *shape, dtype=torch.uint8)
    for i, image in enumerate(order):
        pixels = _pixels(path, image, read_entry)
        if pixels.shape != shape:
            raise DataUnavailable(
                f"{path / image}: channels×height×width are {times(pixels.shape)}, expected {times(shape)} as in "
                f"{first}; resize or convert all images to one size and mode"
            )
        x[i] = pixels
    return Dataset(x, torch.tensor([labels[image] for image in order]), len(classes), name)


def _classes(path: Path, listing: list[str]) -> dict[str, dict[str, list[str]]]:
    """The images of each class of each split in a listing; what belongs to no split is ignored."""
    images = {top: {} for top in TOPS}
    for entry in listing:
        top, *rest = entry.split("/")
        if top not in images or rest == [""]:
            continue
        if len(rest) != 2 or (rest[1] and not rest[1].lower().endswith((".jpg", ".jpeg", ".png"))):
            raise DataUnavailable(f"{path / entry}: no jpg or png in a class folder; move it elsewhere, or convert it")
        images[top].setdefault(rest[0], []).extend([entry] if rest[1] else [])
    return images


def _open(path: Path):
    """The entries of a folder or zip, as in a zip: folders end with "/", none is hidden; and a function to read one."""
    if path.is_dir():
        result = [entry for top in TOPS for depth in ("*", "*/*") for entry in path.glob(f"{top}/{depth}")]
        listing = [entry.relative_to(path).as_posix() + "/" * entry.is_dir() for entry in result]
        entries, read_entry = {entry: entry for entry in listing}, lambda entry: (path / entry).read_bytes()
    elif path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise damaged(path, f"no whole zip file: {error}") from error
        entries, read_entry = _entries(path, archive), functools.partial(_read_entry, archive)
    else:
        raise DataUnavailable(f"looked for {path}, which is not there; put it there, or set SAM_DATA to its folder")
    kept = {name: entry for name, entry in entries.items() if not any(is_hidden(part) for part in name.split("/"))}
    return list(kept), lambda name: read_entry(kept[name])


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of a zip by their names from train/, test/ or val/ on, whatever stands before. DataUnavailable for
    names that lead out of it, for links, and for names that are there twice or differ in case alone."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/").removeprefix("./")
        if name in entries and not info.is_dir():
            raise damaged(path, f"it has two entries {name!r}")
        entries |= {name: info} if name else {}
    for name, info in entries.items():
        if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
            raise damaged(path, f"its entry {info.filename!r} leads out of it")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise damaged(path, f"its entry {info.filename!r} is a link")
    doubles = [names for names in _by_case(entries).values() if len(names) > 1]
    if doubles:
        raise damaged(path, f"its entries {' and '.join(sorted(doubles[0]))} differ in case alone")
    tops = {name.split("/")[0] for name in entries if not is_hidden(name.split("/")[0])}
    if len(tops) == 1 and not tops & set(TOPS):  # a folder around all
        (top,) = tops
        return {name.removeprefix(f"{top}/"): info for name, info in entries.items() if name.startswith(f"{top}/")}
    return entries


def _by_case(names) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name in names:
        result.setdefault(name.lower(), []).append(name)
    return result


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MOST_BYTES:
        raise ValueError(f"it says that it has {info.file_size} bytes, more than any image here")
    with archive.open(info) as file:
        return file.read(MOST_BYTES)


def _pixels(path: Path, name: str, read_entry) -> torch.Tensor:
    """The image `name` as uint8, C×H×W: one channel if it is grayscale, else RGB."""
    try:
        image = open_image(io.BytesIO(read_entry(name)), ("JPEG", "PNG"))
        pixels = np.array(image.convert("L" if image.mode in GRAYSCALE else "RGB"))
    except UnidentifiedImageError as error:
        raise damaged(path / name, "it is no JPEG or PNG") from error
    except Exception as error:  # whatever a damaged file makes zipfile or Pillow raise
        raise damaged(path / name, f"cannot be read: {error}") from error
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)
