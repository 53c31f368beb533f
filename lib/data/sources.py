"""The data sets with a name: how each is read from its files, obtained if there is a network, and checked."""

import contextlib
import http.client
import io
import os
import socket
import tempfile
from pathlib import Path

import torch

from lib.core.seeds import generator
from lib.data import folders, streaming
from lib.data.dataset import Dataset, complete, times
from lib.data.errors import DataUnavailable, damaged

DOWNLOAD_TIMEOUT = 5.0  # seconds that a server may be silent


def factorization_map() -> torch.Tensor:
    """The Gaussian map A (float64, 10×6) that `factorization` interpolates: y = A x (Figure 1a).

    >>> factorization_map().shape
    torch.Size([10, 6])
    """
    return torch.randn(10, 6, dtype=torch.float64, generator=generator(0, "factorization", "map"))


def factorization(split: str, root: Path) -> Dataset:
    x = torch.randn(1000, 6, dtype=torch.float32, generator=generator(0, "factorization", split))
    return Dataset(x[:, :, None, None], x.double() @ factorization_map().T, 10, "factorization")


TEACHER_INPUTS, TEACHER_NEURONS = 20, 10


def student_teacher(split: str, root: Path) -> Dataset:
    """y = Σ_j a_j max(0, b_j·x) of standard normal x, less its mean and over its deviation: a two-layer teacher with
    standard normal a and b, drawn once."""
    drawn = generator(0, "student-teacher", "teacher")
    b = torch.randn(TEACHER_NEURONS, TEACHER_INPUTS, dtype=torch.float64, generator=drawn)
    a = torch.randn(TEACHER_NEURONS, 1, dtype=torch.float64, generator=drawn)

    def teach(x: torch.Tensor) -> torch.Tensor:
        return (x.double() @ b.T).relu() @ a

    many = teach(torch.randn(100_000, TEACHER_INPUTS, generator=drawn))
    count = {"train": 1000, "test": 10_000}[split]
    x = torch.randn(count, TEACHER_INPUTS, generator=generator(0, "student-teacher", split))
    return Dataset(x[:, :, None, None], (teach(x) - many.mean()) / many.std(), 1, "student-teacher")


def digits(split: str, root: Path) -> Dataset:
    from sklearn.datasets import load_digits  # takes a second that no other data set should pay

    result = load_digits()
    x, y = torch.from_numpy(result.images / 16).float()[:, None], torch.from_numpy(result.target).long()
    part = slice(1437) if split == "train" else slice(1437, None)
    return Dataset(x[part], y[part], 10, "digits")


def mnist(split: str, root: Path) -> Dataset:
    from torchvision import datasets  # takes seconds that no other data set should pay

    folder, prefix = root / "MNIST" / "raw", {"train": "train", "test": "t10k"}[split]
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    remedy = f"put the four unpacked files of MNIST into {folder}, or set SAM_DATA to the folder that holds MNIST/raw"
    _obtain("mnist", datasets.MNIST, root, folder, files, remedy)
    images, labels = (folder / f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    x, y = _idx(images, datasets.mnist.read_image_file), _idx(labels, datasets.mnist.read_label_file)
    result = Dataset(x[:, None], y, 10, "mnist")
    result = complete(result, {"train": 60_000, "test": 10_000}[split], (1, 28, 28), images)
    if len(y) != len(x) or y.max() > 9:
        raise damaged(labels, f"{len(y)} labels up to {y.max()} for {len(x)} images; must be as many, up to 9")
    return result


def _idx(file: Path, read) -> torch.Tensor:
    try:
        return read(str(file))
    except Exception as error:  # whatever torchvision's reader makes of a damaged header or a short body
        raise damaged(file, f"its length or its header is wrong: {str(error) or type(error).__name__}") from error


def cifar10(split: str, root: Path) -> Dataset:
    from torchvision import datasets

    kind = datasets.CIFAR10
    folder = root / kind.base_folder
    sums = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    remedy = f"put the unpacked {kind.filename} there as {folder}, or set SAM_DATA to the folder that holds it"
    if (root / "cifar10-jpeg.zip").exists():
        remedy += "; the data set cifar10-jpeg, whose zip is there, can stand in"
    _obtain("cifar10", kind, root, folder, list(sums), remedy)
    for file, md5 in sums.items():
        if not datasets.utils.check_md5(folder / file, md5):
            raise damaged(folder / file, f"its MD5 sum is not {md5}")
    result = kind(root, train=split == "train")
    x = torch.from_numpy(result.data).permute(0, 3, 1, 2).contiguous()
    return Dataset(x, torch.tensor(result.targets), 10, "cifar10")


def _obtain(name: str, kind, root: Path, folder: Path, files: list[str], remedy: str) -> None:
    """Make sure that `files` are in `folder`, downloading them with torchvision's `kind` if any is missing.

    The download goes to a folder of its own and is moved when whole, so that a broken one leaves nothing behind.
    """
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return
    where = f"{folder}, which {'lacks them' if folder.is_dir() else 'is not there'}"
    message = f"{name}: looked for {', '.join(missing)} in {where}"
    if not root.is_dir():
        raise DataUnavailable(f"{message} (nor is {root}, so no download was tried); {remedy}")
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
        raise DataUnavailable(f"{message}, and downloading them failed ({reason}); {remedy}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def cifar10_jpeg(split: str, root: Path) -> Dataset:
    file = root / "cifar10-jpeg.zip"
    return complete(
        folders.read("cifar10-jpeg", split, file), {"train": 50_000, "test": 10_000}[split], (3, 32, 32), file
    )


def imagenet(split: str, root: Path) -> Dataset:
    return streamed("imagenet", split, root)


def streamed(name: str, split: str, root: Path) -> Dataset:
    """The evaluation crops of a split of a streamed data set."""
    images = streaming.listing(name, split, root)
    return Dataset(streaming.whole(images), images.y, images.classes, name)


def own(info, name: str, split: str, root: Path) -> Dataset:
    """A split of a user's data set by its entry `info`. Raises ValueError where it is not what the entry says."""
    found = info.read(split, root)
    x, y = (found.x, found.y) if isinstance(found, Dataset) else found
    shape = (info.samples[("train", "test").index(split)], *info.shape)
    if not isinstance(x, torch.Tensor) or x.shape != shape or x.dtype not in (torch.uint8, torch.float32):
        given = f"{x.dtype} of shape {times(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"dataset = {name!r}: x to {split} on is {given}, must be uint8 or float32 of {times(shape)}")
    if info.regression:
        fits = isinstance(y, torch.Tensor) and y.is_floating_point() and y.shape == (len(x), info.outputs)
    else:
        fits = isinstance(y, torch.Tensor) and y.dtype == torch.int64 and y.shape == (len(x),)
        fits = fits and 0 <= y.min() and y.max() < info.outputs
    if not fits:
        wanted = (
            f"float of {len(x)}×{info.outputs}" if info.regression else f"int64 in 0 to {info.outputs - 1}, {len(x)}"
        )
        raise ValueError(f"dataset = {name!r}: y to {split} on must be {wanted}")
    return Dataset(x, y, info.outputs, name)
