"""The data sets, whole and raw, in memory, and their standardization; what no memory holds is in `lib.streams`.

A set of images is one uint8 tensor, so it is read once, lives on the device, and a batch is one gather. What is
absent, damaged or short is refused with the file and the remedy; nothing is ever left out silently.
"""

import contextlib
import functools
import hashlib
import http.client
import io
import itertools
import os
import socket
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision import datasets
from torchvision.datasets.utils import check_md5

from lib import paths
from lib.seeds import generator

NAMES = ("factorization", "digits", "mnist", "cifar10", "cifar10-jpeg", "imagenet")
SPLITS = ("train", "test")
TOPS = ("train", "test", "val")  # the folders of an image folder's splits
DOWNLOAD_TIMEOUT = 5.0  # seconds that a server may be silent
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Mean and standard deviation of each channel of the training images in [0, 1].
_STATISTICS = {
    "factorization": ((0.0,), (1.0,)),
    "digits": ((0.3054,), (0.3755,)),
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": _CIFAR10,
    "cifar10-jpeg": _CIFAR10,
}


class DataUnavailable(OSError):
    """A data set that is absent, damaged or short: the message names the file, where it was looked for, the remedy."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split. Its tensors are shared by all who load it: never write to them.

    x: N×C×H×W, raw (uint8 in 0..255, or float32); y: labels (int64, N) or targets (float, N×outputs).
    classes: the number of classes, or of outputs.
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: int
    name: str


def load(name: str, split: str, *, root: str | Path | None = None) -> Dataset:
    """The split ("train" or "test") of the data set `name`: one of NAMES, "imagefolder:PATH", or "imagestream:PATH".

    root: the folder of data sets, by default `paths.data()`. PATH, absolute or relative to the root, is a folder or
    a .zip of train/<class>/<image> and test/ or val/ of the same classes, all images jpg or png of one size.
    Of "imagenet" and "imagestream:PATH", images of any size in torchvision's layout, these are the evaluation crops.
    The images of a folder come in an order fixed by their names but unrelated to their classes, so that the first n,
    or every second one, are a fair sample.

    Raises ValueError for an unknown name or split and for crops that no memory holds, DataUnavailable for absent,
    damaged or short data.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: must be one of {', '.join(SPLITS)}")
    if name not in NAMES and not name.startswith(("imagefolder:", "imagestream:")):
        raise ValueError(f"dataset = {name!r}: must be one of {', '.join(NAMES)}, imagefolder:PATH, imagestream:PATH")
    return _load(name, split, Path(root or paths.data()).expanduser().resolve())


@functools.lru_cache(maxsize=8)
def _load(name: str, split: str, root: Path) -> Dataset:
    if name == "factorization":
        return _factorization(split)
    if name == "digits":
        return _digits(split)
    if name == "mnist":
        return _mnist(split, root)
    if name == "cifar10":
        return _cifar10(split, root)
    if streamed(name):
        from lib import streams  # which needs this module

        images = streams.listing(name, split, root)
        return Dataset(streams.whole(images), images.y, images.classes, name)
    if name == "cifar10-jpeg":
        found = _image_folder(name, split, root / "cifar10-jpeg.zip")
        return _complete(found, {"train": 50_000, "test": 10_000}[split], (3, 32, 32), root / "cifar10-jpeg.zip")
    return _image_folder(name, split, root / Path(name.removeprefix("imagefolder:")).expanduser())


def factorization_map() -> torch.Tensor:
    """The Gaussian map A (float64, 10×6) that `factorization` interpolates: y = A x (Figure 1a)."""
    return torch.randn(10, 6, dtype=torch.float64, generator=generator(0, "factorization", "map"))


def _factorization(split: str) -> Dataset:
    x = torch.randn(1000, 6, generator=generator(0, "factorization", split))
    return Dataset(x[:, :, None, None], x.double() @ factorization_map().T, 10, "factorization")


def _digits(split: str) -> Dataset:
    from sklearn.datasets import load_digits  # takes a second that no other data set should pay

    found = load_digits()
    x, y = torch.from_numpy(found.images / 16).float()[:, None], torch.from_numpy(found.target).long()
    part = slice(1437) if split == "train" else slice(1437, None)
    return Dataset(x[part], y[part], 10, "digits")


def _mnist(split: str, root: Path) -> Dataset:
    folder, prefix = root / "MNIST" / "raw", {"train": "train", "test": "t10k"}[split]
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    remedy = f"put the four unpacked files of MNIST into {folder}, or set SAM_DATA to the folder that holds MNIST/raw"
    _obtain("mnist", datasets.MNIST, root, folder, files, remedy)
    images, labels = (folder / f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    x, y = _idx(images, datasets.mnist.read_image_file), _idx(labels, datasets.mnist.read_label_file)
    found = Dataset(x[:, None], y, 10, "mnist")
    found = _complete(found, {"train": 60_000, "test": 10_000}[split], (1, 28, 28), images)
    if len(y) != len(x) or y.max() > 9:
        raise _damaged(labels, f"{len(y)} labels up to {y.max()} for {len(x)} images; must be as many, up to 9")
    return found


def _idx(file: Path, read) -> torch.Tensor:
    try:
        return read(str(file))
    except Exception as error:  # whatever torchvision's reader makes of a damaged header or a short body
        raise _damaged(file, f"its length or its header is wrong: {str(error) or type(error).__name__}") from error


def _cifar10(split: str, root: Path) -> Dataset:
    kind = datasets.CIFAR10
    folder = root / kind.base_folder
    sums = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    remedy = f"put the unpacked {kind.filename} there as {folder}, or set SAM_DATA to the folder that holds it"
    if (root / "cifar10-jpeg.zip").exists():
        remedy += "; the data set cifar10-jpeg, whose zip is there, can stand in"
    _obtain("cifar10", kind, root, folder, list(sums), remedy)
    for file, md5 in sums.items():
        if not check_md5(folder / file, md5):
            raise _damaged(folder / file, f"its MD5 sum is not {md5}")
    found = kind(root, train=split == "train")
    x = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return Dataset(x, torch.tensor(found.targets), 10, "cifar10")


def _obtain(name: str, kind, root: Path, folder: Path, files: list[str], remedy: str) -> None:
    """Make sure that `files` are in `folder`, downloading them with torchvision's `kind` if any is missing.

    The download goes to a folder of its own and is moved when whole, so that a broken one leaves nothing behind.
    """
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return
    where = f"{folder}, which {'lacks them' if folder.is_dir() else 'is not there'}"
    told = f"{name}: looked for {', '.join(missing)} in {where}"
    if not root.is_dir():
        raise DataUnavailable(f"{told} (nor is {root}, so no download was tried); {remedy}")
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
        silent = io.StringIO()
        with (
            tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary,
            contextlib.redirect_stdout(silent),
            contextlib.redirect_stderr(silent),
        ):
            kind(temporary, download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                os.replace(Path(temporary) / folder.relative_to(root) / file, folder / file)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())  # torchvision's has several lines
        raise DataUnavailable(f"{told}, and downloading them failed ({reason}); {remedy}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def _image_folder(name: str, split: str, path: Path) -> Dataset:
    """A split of the folder or zip `path`; see `load`."""
    listing, read = _open(path)
    images = _classes(path, listing)
    held_out = "val" if images["val"] and not images["test"] else "test"
    classes = sorted({*images["train"], *images[held_out]}) or ["<class>"]
    for top, label in itertools.product(("train", held_out), classes):
        if not images[top].get(label):
            needed = "it needs train/<class>/ and test/ or val/<class>/, the same classes in both, none of them empty"
            raise DataUnavailable(f"{path}: no image in {top}/{label}/; {needed}")
    chosen = images["train" if split == "train" else held_out]
    labels = {image: k for k, label in enumerate(classes) for image in chosen[label]}
    # The order of the names' hashes: fixed, and unrelated to the classes.
    order = sorted(labels, key=lambda image: hashlib.sha256(image.encode()).digest())
    first = min(images["train"][classes[0]])
    shape = _pixels(path, first, read).shape
    x = torch.empty(len(order), *shape, dtype=torch.uint8)
    for i, image in enumerate(order):
        pixels = _pixels(path, image, read)
        if pixels.shape != shape:
            raise DataUnavailable(
                f"{path / image}: channels×height×width are {_times(pixels.shape)}, expected {_times(shape)} as in "
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
        found = [entry for top in TOPS for depth in ("*", "*/*") for entry in path.glob(f"{top}/{depth}")]
        listing = [entry.relative_to(path).as_posix() + "/" * entry.is_dir() for entry in found]
        read = lambda entry: (path / entry).read_bytes()  # noqa: E731
    elif path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(path, f"no whole zip file: {error}") from error
        listing, read = archive.namelist(), archive.read
    else:
        raise DataUnavailable(f"looked for {path}, which is not there; put it there, or set SAM_DATA to its folder")
    return [entry for entry in listing if not any(part.startswith(".") for part in entry.split("/"))], read


def _pixels(path: Path, name: str, read) -> torch.Tensor:
    """The image `name` as uint8, C×H×W: one channel if it is grayscale, else RGB."""
    try:
        image = Image.open(io.BytesIO(read(name)), formats=("JPEG", "PNG"))
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of Pillow's mode {image.mode}, not of 8 bits")
        pixels = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except UnidentifiedImageError as error:
        raise _damaged(path / name, "it is no JPEG or PNG") from error
    except Exception as error:  # whatever a damaged file makes zipfile or Pillow raise
        raise _damaged(path / name, f"cannot be read: {error}") from error
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)


def _complete(found: Dataset, count: int, shape: tuple[int, ...], file: Path) -> Dataset:
    if found.x.shape != (count, *shape):
        raise _damaged(file, f"its images are {_times(found.x.shape)}, must be {_times((count, *shape))}")
    return found


def _times(shape) -> str:
    return "×".join(map(str, shape))


def _damaged(file: Path, reason: str) -> DataUnavailable:
    return DataUnavailable(f"{file}: damaged ({reason}); replace it by a whole copy")


def shapes(name: str) -> tuple[int, tuple[int, ...]]:
    """Outputs and input shape (C, H, W) of a data set, without reading it where that is known."""
    known = {
        "factorization": (10, (6, 1, 1)),
        "digits": (10, (1, 8, 8)),
        "mnist": (10, (1, 28, 28)),
        "cifar10": (10, (3, 32, 32)),
        "cifar10-jpeg": (10, (3, 32, 32)),
        "imagenet": (1000, (3, 224, 224)),
    }
    if name.startswith("imagestream:"):
        from lib import streams

        return streams.listing(name, "train").classes, streams.SHAPE
    if name in known:
        return known[name]
    found = load(name, "train")
    return found.classes, tuple(found.x.shape[1:])


def available(name: str) -> bool:
    """Whether the files of a data set are under the default root."""
    folders = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-py", "cifar10-jpeg": "cifar10-jpeg.zip"}
    folders["imagenet"] = "imagenet/train"
    return name not in folders or (paths.data() / folders[name]).exists()


def augmented(name: str) -> bool:
    """Whether training crops and flips the images of this data set: never those of digits."""
    return name not in ("factorization", "digits", "mnist")


def streamed(name: str) -> bool:
    """Whether the images of this data set are decoded as they are needed (`lib.streams`)."""
    return name == "imagenet" or name.startswith("imagestream:")


def standardize(x: torch.Tensor, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Raw images N×C×H×W on any device to what networks see: [0, 1], minus the mean, over the deviation, by channel."""
    mean, deviation = _statistics(name, x.shape[1], dtype, x.device)
    scale = 255 if x.dtype == torch.uint8 else 1
    return (x.to(dtype) / scale - mean) / deviation


@functools.cache  # so that a batch on an accelerator waits for no copy
def _statistics(name: str, channels: int, dtype: torch.dtype, device: torch.device):
    mean_and_deviation = _STATISTICS.get(name, _IMAGENET if channels == 3 else ((0.5,), (0.5,)))
    return [torch.tensor(s, dtype=dtype, device=device)[:, None, None] for s in mean_and_deviation]
