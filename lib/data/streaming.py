"""Image folders that no memory holds: images are decoded as they are needed, by workers, beside training (ImageNet).

A folder has torchvision's layout, train/<class>/<image> and val/<class>/<image>, in images of any size. Training sees
a random part of each, resized to 224×224 and flipped or not (torchvision's RandomResizedCrop and RandomHorizontalFlip);
evaluation its centre, 224×224 of the image resized to 256 on its shorter side. What is drawn for an image is a function
of (seed, epoch, image), never of the worker that decodes it or of the order.
"""

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from loky import cpu_count
from torch.utils.data import DataLoader, Dataset

from lib.core import paths
from lib.core.seeds import derive, seeded
from lib.data import digests
from lib.data.errors import DataUnavailable, damaged
from lib.data.images import ENDINGS, is_hidden, open_image

SIDE, RESIZED = 224, 256
SHAPE = (3, SIDE, SIDE)
IMAGENET = {"train": 1_281_167, "test": 50_000}
FOLDERS = {"train": "train", "test": "val"}


class Listing(Dataset):
    """The images of one split, opened only when asked for.

    files: paths in an order fixed by their names but unrelated to their classes, so that the first n, or every second
    one, are a fair sample. y: their labels (int64). classes: how many there are.
    """

    def __init__(self, files: list[Path], y: torch.Tensor, classes: int):
        self.files, self.y, self.classes = files, y, classes

    def __getitem__(self, wanted: tuple[int, int | None, int]) -> torch.Tensor:
        """The image (index, seed, epoch) as uint8 3×224×224; its centre if seed is None.

        Raises DataUnavailable for a file that cannot be decoded.
        """
        index, seed, epoch = wanted
        try:
            with open_image(self.files[index]) as file:
                image = file.convert("RGB")
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise damaged(self.files[index], str(error)) from error
        drawn, centre = _crops()
        if seed is None:
            image = centre(image)
        else:
            with seeded(derive(seed, "augmentation", epoch, index)):  # torchvision draws from the global generator
                image = drawn(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def __len__(self) -> int:
        return len(self.files)


@functools.cache
def _crops() -> tuple[Callable, Callable]:
    """What makes 224×224 of an image to train on, and of one to evaluate on."""
    from torchvision.transforms import v2  # takes seconds that no other data set should pay

    drawn = v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()])
    return drawn, v2.Compose([v2.Resize(RESIZED, antialias=True), v2.CenterCrop(SIDE)])


def listing(name: str, split: str, root: str | Path | None = None) -> Listing:
    """The images of a split of "imagenet", in the folder imagenet/ of the root, or of "imagestream:PATH".

    root: the folder of data sets, by default `paths.data()`; PATH is absolute or relative to it. Raises
    DataUnavailable for a folder that is not there, has no class, a class without images, or other classes in val/ than
    in train/; warns where "imagenet" has not as many images as ImageNet has.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for part in ("train/cat", "val/cat"):
    ...         Path(root, part).mkdir(parents=True)
    ...         Image.new("RGB", (300, 260)).save(Path(root, part, "1.png"))
    ...     images = listing(f"imagestream:{root}", "test")
    >>> len(images), images.classes
    (1, 1)
    """
    path = _folder(name, root)
    return _listing(name, split, path, "" if name == "imagenet" else digests.state(path, digests.RECENT))


def digest(name: str, root: str | Path | None = None) -> str:
    """Of the names and sizes of the images of both splits."""
    path = _folder(name, root)
    return digests.names_and_sizes([file for split in FOLDERS for file in listing(name, split, root).files], path)


def _folder(name: str, root: str | Path | None) -> Path:
    folder = "imagenet" if name == "imagenet" else name.removeprefix("imagestream:")
    return (Path(root or paths.data()) / Path(folder).expanduser()).resolve()


@functools.lru_cache(maxsize=8)
def _listing(name: str, split: str, path: Path, state: str) -> Listing:
    result = {part: _walk(path, FOLDERS[part]) for part in FOLDERS}
    (classes, _), (others, _) = result["train"], result["test"]
    if classes != others:
        differing = sorted(set(classes) ^ set(others))
        raise DataUnavailable(f"{path}: {', '.join(differing[:3])} only in one of train/ and val/; they need the same")
    samples = result[split][1]
    if name == "imagenet" and len(samples) != IMAGENET[split]:
        message = f"{path / FOLDERS[split]}: has {len(samples)} images where ImageNet has {IMAGENET[split]}"
        warnings.warn(f"{message}; what comes of it is no result on ImageNet", stacklevel=4)
    order = sorted(samples, key=lambda s: hashlib.sha256(Path(s[0]).relative_to(path).as_posix().encode()).digest())
    y = torch.tensor([label for _, label in order])
    return Listing([Path(file) for file, _ in order], y, len(classes))


def _is_image(file: str) -> bool:
    return Path(file).suffix.lower() in ENDINGS and not is_hidden(Path(file).name)


def _walk(path: Path, top: str) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes of a folder, and its images with the number of their class; as torchvision's ImageFolder lists them,
    without what is hidden."""
    from torchvision.datasets import folder

    directory = str(path / top)
    try:
        classes = [name for name in folder.find_classes(directory)[0] if not is_hidden(name)]
        if not classes:
            raise FileNotFoundError(f"no class folder in {directory}")
        numbers = {name: number for number, name in enumerate(classes)}
        return classes, folder.make_dataset(directory, numbers, is_valid_file=_is_image)
    except FileNotFoundError as error:
        remedy = "put a folder of train/<class>/<image> and val/<class>/<image> there, or set SAM_DATA to the one above"
        raise DataUnavailable(f"looked for class folders with images in {path / top}: {error}; {remedy}") from error


def workers(device: torch.device) -> int:
    """How many processes decode: all cores beside a GPU; none beside a CPU, whose cores train a group each.

    >>> workers(torch.device("cpu"))
    0
    """
    return cpu_count() if device.type == "cuda" else 0


def stream(
    images: Listing,
    batches: Iterable[torch.Tensor],
    device: torch.device,
    *,
    seed: int | None = None,
    epoch: int = 0,
    processes: int = 0,
) -> Iterator[torch.Tensor]:
    """Yield the images of each batch of indices, uint8 B×3×224×224 on the device: their centres, or, with a seed, what
    that seed draws in that epoch. processes: how many decode; 0 decodes here. It makes no difference to the images.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Image.new("RGB", (300, 260)).save(Path(root, "1.png"))
    ...     images = Listing([Path(root, "1.png")], torch.tensor([0]), classes=1)
    ...     [tuple(x.shape) for x in stream(images, [torch.tensor([0])], torch.device("cpu"))]
    [(1, 3, 224, 224)]
    """
    loader = DataLoader(
        images,
        batch_sampler=[[(index, seed, epoch) for index in batch.tolist()] for batch in batches],
        num_workers=processes,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else it would draw from the global one
    )
    for x in loader:
        yield x.to(device, non_blocking=True)


def whole(images: Listing, most: float = 16e9) -> torch.Tensor:
    """The centres of all images, uint8 N×3×224×224, for a folder that memory does hold.

    Raises ValueError where they would take more than `most` bytes.
    """
    size = len(images) * SIDE * SIDE * 3
    if size > most:
        raise ValueError(
            f"{len(images)} images of 224×224 are {size / 1e9:.0f} GB: train on them by a Run, which streams"
        )
    return torch.stack([images[i, None, 0] for i in range(len(images))])
