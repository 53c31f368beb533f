"""The data sets by name, one entry each, and what networks see of them.

A set of images is one uint8 tensor, so it is read once, lives on the device, and a batch is one gather. To add one,
write its reader in `lib.data.sources` and its entry in DATASETS.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.core import own, paths
from lib.data import digests, folders, sources, streaming
from lib.data.dataset import Dataset
from lib.data.errors import damaged

SPLITS = ("train", "test")
FOLDER, STREAM = "imagefolder:", "imagestream:"  # of data sets without an entry, before their path


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before any of it is read.

    read: a function of the split and the folder of data sets, that gives a `Dataset` or its (x, y).
    outputs: classes, or numbers of a target. shape: C×H×W.
    samples: to train and to test on. mean, deviation: of each channel of the training images in [0, 1].
    location: its file or folder under the folder of data sets; empty if it comes with the code.
    augmented: whether training crops and flips the images. streamed: whether they are decoded as they are needed.
    regression: whether the targets are vectors and not labels.
    version: raised by whoever changes what a data set of theirs means (`lib.core.own`).
    digests: `digests.samples` of what there is to train and to test on, where that is checked here; those of CIFAR-10
        are checked file by file. archive: `digests.contents` of the zip at `location`.

    >>> DATASETS["mnist"].samples
    (60000, 10000)
    """

    read: Callable[[str, Path], Dataset]
    outputs: int
    shape: tuple[int, int, int]
    samples: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    location: str = ""
    augmented: bool = False
    streamed: bool = False
    regression: bool = False
    digests: tuple[str, str] | None = None
    archive: str = ""
    version: int = 1


_CIFAR10 = dict(outputs=10, shape=(3, 32, 32), samples=(50_000, 10_000), augmented=True)
_CIFAR10 |= dict(mean=(0.4914, 0.4822, 0.4465), deviation=(0.2470, 0.2435, 0.2616))
IMAGENET = dict(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))

DATASETS: dict[str, DatasetInfo] = {
    "factorization": DatasetInfo(sources.factorization, 10, (6, 1, 1), (1000, 1000), (0.0,), (1.0,), regression=True),
    "student-teacher": DatasetInfo(
        sources.student_teacher, 1, (sources.TEACHER_INPUTS, 1, 1), (1000, 10_000), (0.0,), (1.0,), regression=True
    ),
    "digits": DatasetInfo(
        sources.digits,
        10,
        (1, 8, 8),
        (1437, 360),
        (0.3054,),
        (0.3755,),
        digests=("f203938fd737004e", "e66a411cfcddd127"),
    ),
    "mnist": DatasetInfo(
        sources.mnist,
        10,
        (1, 28, 28),
        (60_000, 10_000),
        (0.1307,),
        (0.3081,),
        location="MNIST/raw",
        digests=("39ef3407e6888d54", "065f9934a5a488b5"),
    ),
    "cifar10": DatasetInfo(sources.cifar10, **_CIFAR10, location="cifar-10-batches-py"),
    "cifar10-jpeg": DatasetInfo(
        sources.cifar10_jpeg, **_CIFAR10, location="cifar10-jpeg.zip", archive="bb2c4c1b242f874d"
    ),
    "imagenet": DatasetInfo(
        sources.imagenet,
        1000,
        streaming.SHAPE,
        (streaming.IMAGENET["train"], streaming.IMAGENET["test"]),
        **IMAGENET,
        location="imagenet/train",
        augmented=True,
        streamed=True,
    ),
}
NAMES = tuple(DATASETS)


def info(name: str) -> DatasetInfo | None:
    """The entry of a data set, a user's included ("MODULE:ENTRY"); None for a folder or a stream.

    >>> info("mnist").outputs
    10
    """
    return own.entry("dataset", name, DatasetInfo) if own.is_own(name) else DATASETS.get(name)


def load(name: str, split: str, *, root: str | Path | None = None) -> Dataset:
    """The split ("train" or "test") of the data set `name`: one of NAMES, "imagefolder:PATH", or "imagestream:PATH".

    root: the folder of data sets, by default `paths.data()`. PATH, absolute or relative to the root, is a folder or
    a .zip of train/<class>/<image> and test/ or val/ of the same classes, all images jpg or png of one size.
    Of "imagenet" and "imagestream:PATH", images of any size in torchvision's layout, these are the evaluation crops.

    Raises ValueError for an unknown name or split and for crops that no memory holds, DataUnavailable for absent,
    damaged or short data.

    >>> load("digits", "test").x.shape
    torch.Size([360, 1, 8, 8])
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: must be one of {', '.join(SPLITS)}")
    name = canonical(name)
    root = Path(root or paths.data()).expanduser().resolve()
    return _load(name, split, root, "" if info(name) else digests.state(folder(name, root)))


def folder(name: str, root: Path) -> Path:
    """The folder or zip of "imagefolder:PATH" or "imagestream:PATH"."""
    return (root / Path(name.partition(":")[2]).expanduser()).resolve()


def digest(name: str, *, root: str | Path | None = None) -> str:
    """16 hexadecimal digits that tell which data it is: a hash of all samples; of images in files, of their names,
    sizes and CRC-32; of ImageNet, of names and sizes alone. A folder that has changed is read again.

    Raises DataUnavailable for absent data and for those that are not what their name says.

    >>> digest("digits")
    'c0a0d56621043ed9'
    """
    root = Path(root or paths.data()).expanduser().resolve()
    return _digest(name, root) if info(name) else digests.contents(folder(name, root))


@functools.cache
def _digest(name: str, root: Path) -> str:
    known = info(name)
    if known.streamed:
        return streaming.digest(name, root)
    if known.archive:
        return digests.contents(root / known.location)
    parts = (_load(name, split, root, "") for split in SPLITS)
    return hashlib.sha256(" ".join(digests.samples(part.x, part.y) for part in parts).encode()).hexdigest()[:16]


def in_folder(name: str) -> bool:
    """Whether it is a user's folder, whose path says nothing of what it holds.

    >>> in_folder("imagefolder:cats"), in_folder("digits")
    (True, False)
    """
    return info(name) is None


def canonical(name: str) -> str:
    """The name itself; of a user's data set, with its present version. ValueError for what is the name of no data set.

    >>> canonical("digits")
    'digits'
    >>> canonical("cifar")
    Traceback (most recent call last):
    ValueError: dataset = 'cifar': must be one of factorization, ...
    """
    if own.is_own(name):
        return own.canonical("dataset", name, DatasetInfo)
    if name not in DATASETS and not name.startswith((FOLDER, STREAM)):
        raise ValueError(
            f"dataset = {name!r}: must be one of {', '.join(NAMES)}, imagefolder:PATH, imagestream:PATH, or "
            "MODULE:ENTRY of your own"
        )
    return name


@functools.lru_cache(maxsize=8)
def _load(name: str, split: str, root: Path, state: str) -> Dataset:
    if own.is_own(name):
        return sources.own(info(name), name, split, root)
    if name in DATASETS:
        return _checked(DATASETS[name].read(split, root), split, root)
    if streamed(name):
        return sources.streamed(name, split, root)
    return folders.read(name, split, folder(name, root))


def _checked(result: Dataset, split: str, root: Path) -> Dataset:
    """The data themselves, or DataUnavailable if they are not those of their name."""
    info, place = DATASETS[result.name], root / DATASETS[result.name].location
    seen = digests.samples(result.x, result.y) if info.digests else ""
    if info.digests and seen != info.digests[SPLITS.index(split)]:
        raise damaged(place, f"what there is to {split} on is not that of {result.name}: other images, labels or order")
    if info.archive and digests.contents(place) != info.archive:
        raise damaged(place, f"its images are not those of {result.name}")
    return result


def shapes(name: str) -> tuple[int, tuple[int, ...]]:
    """Outputs and input shape (C, H, W) of a data set, without reading it where that is known.

    >>> shapes("digits")
    (10, (1, 8, 8))
    """
    if known := info(name):
        return known.outputs, known.shape
    if streamed(name):
        return streaming.listing(name, "train").classes, streaming.SHAPE
    result = _recent(name, "train")
    return result.classes, tuple(result.x.shape[1:])


def _recent(name: str, split: str) -> Dataset:
    """The split of a folder as it was a moment ago, so that not each question about it asks for all of its files."""
    root = paths.data()
    return _load(name, split, root, digests.state(folder(name, root), digests.RECENT))


def sample_counts(name: str) -> tuple[int, int]:
    """How many there are to train and to test on. Raises DataUnavailable for an absent image folder.

    >>> sample_counts("digits")
    (1437, 360)
    """
    if known := info(name):
        return known.samples
    find = streaming.listing if streamed(name) else _recent
    train, test = (len(find(name, split).y) for split in SPLITS)
    return train, test


def available(name: str) -> bool:
    """Whether the files of a data set with an entry are under the default root.

    >>> available("digits")  # it comes with the code
    True
    """
    return (paths.data() / DATASETS[name].location).exists() if DATASETS[name].location else True


def augmented(name: str) -> bool:
    """Whether training crops and flips the images of this data set: never those of digits.

    >>> augmented("cifar10"), augmented("digits")
    (True, False)
    """
    return in_folder(name) or info(name).augmented


def streamed(name: str) -> bool:
    """Whether the images of this data set are decoded as they are needed (`lib.data.streaming`).

    >>> streamed("imagenet"), streamed("digits")
    (True, False)
    """
    return info(name).streamed if info(name) else name.startswith(STREAM)


def regression(name: str) -> bool:
    """Whether its targets are vectors and not labels.

    >>> regression("factorization"), regression("digits")
    (True, False)
    """
    return not in_folder(name) and info(name).regression
