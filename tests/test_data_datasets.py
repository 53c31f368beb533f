"""What `lib.data.datasets` gives, and what it refuses: shapes, constants, augmentation, and every way a file can be
bad."""

import dataclasses
import io
import os
import pickle
import shutil
import socket
import sys
import urllib.error
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets.utils import calculate_md5
from torchvision.transforms import functional

from lib import data
from lib.core import paths
from lib.data import datasets, folders, sources

SHARED = paths.ROOT.parent / "shared" / "data"


def real(file: str):
    """The folder of data sets that holds `file`, or skip."""
    for root in (paths.data(), SHARED):
        if (root / file).exists():
            return root
    pytest.skip(f"{file} is neither in {paths.data()} nor in {SHARED}")


# What every data set gives


@pytest.mark.parametrize("name", ["factorization", "digits"])
def test_embedded_sets_need_no_folder(name, tmp_path):
    train, test = (data.load(name, split, root=tmp_path / "absent") for split in data.SPLITS)
    assert train.name == name and train.classes == 10 and train.x.dtype == torch.float32
    assert data.load(name, "train", root=tmp_path / "absent") is train  # read once
    assert not torch.equal(train.x[: len(test.x)], test.x)


def test_factorization_is_interpolated_exactly():
    train, test = (data.load("factorization", split) for split in data.SPLITS)
    a = data.factorization_map()
    assert a.shape == (10, 6) and a.dtype == torch.float64
    for part in (train, test):
        assert part.x.shape == (1000, 6, 1, 1) and part.y.shape == (1000, 10) and part.y.dtype == torch.float64
        seen = data.standardize(part.x, "factorization", dtype=torch.float64).flatten(1)
        # The same six products summed in another order: within a few units in the last place of the terms.
        terms = seen.abs() @ a.abs().T
        assert ((seen @ a.T - part.y).abs() <= 8 * torch.finfo(torch.float64).eps * terms).all()
    # Gaussian: the mean of 6,000 numbers lies within 5 standard errors of 0, the variance of 1.
    assert abs(train.x.mean()) < 5 / 6000**0.5 and abs(train.x.var() - 1) < 5 * (2 / 6000) ** 0.5


@pytest.mark.parametrize("name", ["factorization", "digits", "mnist", "cifar10-jpeg"])
def test_shapes_are_those_of_the_data(name, monkeypatch):
    root = real({"mnist": "MNIST/raw", "cifar10-jpeg": "cifar10-jpeg.zip"}.get(name, "."))
    monkeypatch.setattr(paths, "data", lambda: root)
    test = data.load(name, "test")
    assert data.shapes(name) == (test.classes, tuple(test.x.shape[1:])) and data.available(name)
    monkeypatch.setattr(paths, "data", lambda: root / "absent")
    assert data.available(name) == (name in ("factorization", "digits"))


def test_factorization_ignores_the_global_seed():
    before = data.load("factorization", "train").x.clone()
    datasets._load.cache_clear()
    torch.manual_seed(123)
    assert torch.equal(data.load("factorization", "train").x, before)


def test_digits_split_and_constants():
    train, test = (data.load("digits", split) for split in data.SPLITS)
    assert train.x.shape == (1437, 1, 8, 8) and test.x.shape == (360, 1, 8, 8)
    assert train.y.dtype == torch.int64 and train.y.unique().tolist() == list(range(10))
    assert train.x.min() == 0 and train.x.max() == 1
    seen = data.standardize(train.x, "digits")
    assert abs(seen.mean()) < 5e-4 and abs(seen.std() - 1) < 5e-4  # the constants have four digits


def test_real_mnist():
    root = real("MNIST/raw/train-images-idx3-ubyte")
    train, test = (data.load("mnist", split, root=root) for split in data.SPLITS)
    assert train.x.shape == (60000, 1, 28, 28) and test.x.shape == (10000, 1, 28, 28) and train.x.dtype == torch.uint8
    assert train.y[:5].tolist() == [5, 0, 4, 1, 9] and test.y[:5].tolist() == [7, 2, 1, 0, 4]
    seen = data.standardize(train.x, "mnist")
    assert abs(seen.mean()) < 1e-3 and abs(seen.std() - 1) < 1e-3


def test_real_cifar10_jpeg():
    root = real("cifar10-jpeg.zip")
    test = data.load("cifar10-jpeg", "test", root=root)
    assert test.x.shape == (10000, 3, 32, 32) and test.x.dtype == torch.uint8 and test.x.is_contiguous()
    assert test.y.bincount().tolist() == [1000] * 10 and test.classes == 10
    # JPEG and another 10,000 images than the constants are of: close, not equal.
    seen = data.standardize(test.x, "cifar10-jpeg")
    assert seen.mean((0, 2, 3)).abs().max() < 0.05 and (seen.std((0, 2, 3)) - 1).abs().max() < 0.05
    # A prefix is a fair sample: each class's count in 1,000 within 5 standard deviations of 100.
    assert (test.y[:1000].bincount(minlength=10) - 100).abs().max() < 5 * 90**0.5


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("mnist", "validation", r"split = 'validation': must be one of train, test"),
        (
            "cifar",
            "train",
            r"dataset = 'cifar': must be one of factorization, .*cifar10-jpeg, imagenet, imagefolder:PATH",
        ),
    ],
)
def test_unknown_names(name, split, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, split)


def test_the_error_pickles():
    error = pickle.loads(pickle.dumps(data.DataUnavailable("no such file")))
    assert type(error) is data.DataUnavailable and str(error) == "no such file" and isinstance(error, OSError)


# Standardization and augmentation


@pytest.mark.parametrize(
    ("name", "channels", "mean", "deviation"),
    [
        ("mnist", 1, [0.1307], [0.3081]),
        ("cifar10", 3, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("cifar10-jpeg", 3, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("imagefolder:x.zip", 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("imagefolder:x.zip", 1, [0.5], [0.5]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standardize(name, channels, mean, deviation, dtype):
    x = torch.randint(0, 256, (3, channels, 4, 5), dtype=torch.uint8)
    standardized = data.standardize(x, name, dtype=dtype)
    wanted = torch.stack([functional.normalize(image.double() / 255, mean, deviation) for image in x])
    assert standardized.dtype == dtype
    torch.testing.assert_close(standardized.double(), wanted, rtol=0, atol=20 * torch.finfo(dtype).eps)
    assert torch.equal(data.standardize(x[1:2], name, dtype=dtype), standardized[1:2])  # no statistic of the batch


def test_what_is_augmented():
    names = (*data.NAMES, "imagefolder:x")
    augmented = ["cifar10", "cifar10-jpeg", "imagenet", "imagefolder:x"]
    assert [name for name in names if data.augmented(name)] == augmented


# Folders and zips of images


def encoded(colour, size=(8, 6), mode="RGB", form="JPEG") -> bytes:
    """An image of one colour, size = (width, height), as the bytes of a file."""
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, form, **({"quality": 95} if form == "JPEG" else {}))
    return file.getvalue()


def a_set(held_out="test") -> dict[str, bytes]:
    """Files of a set of two classes, red cats and blue dogs: 6 to train, 4 held out."""
    colours = {"cat": (200, 0, 0), "dog": (0, 0, 200)}
    return {
        f"{top}/{label}/{i:02}.jpg": encoded(colour)
        for top, count in (("train", 3), (held_out, 2))
        for label, colour in colours.items()
        for i in range(count)
    }


def write(files: dict[str, bytes], root, form: str):
    """Write `files` below root as the folder or the zip "set"; the name to load it by."""
    if form == "zip":
        with zipfile.ZipFile(root / "set.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return "imagefolder:set.zip"
    for name, content in files.items():
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / "set" / name).mkdir()
        else:
            (root / "set" / name).write_bytes(content)
    return "imagefolder:set"


both_forms = pytest.mark.parametrize("form", ["zip", "folder"])


@both_forms
@pytest.mark.parametrize("held_out", ["test", "val"])
def test_image_folder(form, held_out, tmp_path):
    ignored = {"README.md": b"hello", "train/.DS_Store": b"", "train/cat/.hidden.txt": b"", "extra/1.txt": b"1"}
    name = write(a_set(held_out) | ignored, tmp_path, form)
    train, test = (data.load(name, split, root=tmp_path) for split in data.SPLITS)
    assert train.x.shape == (6, 3, 6, 8) and test.x.shape == (4, 3, 6, 8) and train.x.dtype == torch.uint8
    assert train.classes == 2 and train.name == name and train.y.dtype == torch.int64
    for part in (train, test):  # red cats are class 0, blue dogs class 1; JPEG moves a colour by a little
        assert sorted(part.y.tolist()) == [0] * (len(part.y) // 2) + [1] * (len(part.y) // 2)
        wanted = torch.tensor([[200, 0, 0], [0, 0, 200]])[part.y]
        assert (part.x.int() - wanted[:, :, None, None]).abs().max() <= 4


def test_folder_zip_and_absolute_path_agree(tmp_path):
    files = a_set()
    result = [data.load(write(files, tmp_path, form), "train", root=tmp_path) for form in ("zip", "folder")]
    result.append(data.load(f"imagefolder:{tmp_path}/set", "train", root=tmp_path / "elsewhere"))
    assert all(torch.equal(f.x, result[0].x) and torch.equal(f.y, result[0].y) for f in result)


def test_grayscale_and_png(tmp_path):
    files = {
        f"{top}/{label}/0.PNG": encoded(colour, mode="L", form="PNG")
        for top in ("train", "test")
        for label, colour in (("dark", 10), ("light", 250))
    }
    train = data.load(write(files, tmp_path, "zip"), "train", root=tmp_path)
    assert train.x.shape == (2, 1, 6, 8)
    assert train.x[:, 0, 0, 0].tolist() == [(10, 250)[label] for label in train.y]


def refused(name, root, split="train") -> str:
    with pytest.raises(data.DataUnavailable) as caught:
        data.load(name, split, root=root)
    return str(caught.value)


BAD_SETS = {
    "size": ({"train/dog/01.jpg": encoded(0, size=(8, 7))}, ["train/dog/01.jpg", "3×7×8", "3×6×8", "resize"]),
    "mode": ({"train/dog/01.jpg": encoded(0, mode="L")}, ["train/dog/01.jpg", "1×6×8", "3×6×8", "convert"]),
    "cut": ({"train/dog/01.jpg": encoded(0)[:300]}, ["train/dog/01.jpg", "damaged", "whole copy"]),
    "empty file": ({"train/cat/01.jpg": b""}, ["train/cat/01.jpg", "it is no JPEG or PNG", "whole copy"]),
    "no image": ({"train/cat/01.jpg": b"not an image"}, ["train/cat/01.jpg", "it is no JPEG or PNG"]),
    "16 bits": ({"train/cat/00.png": encoded(9, mode="I;16", form="PNG")}, ["train/cat/00.png", "I;16", "8 bits"]),
    "other file": ({"train/cat/notes.txt": b"x"}, ["train/cat/notes.txt", "no jpg or png", "convert it"]),
    "too deep": ({"train/cat/more/01.jpg": encoded(0)}, ["train/cat/more", "no jpg or png in a class folder"]),
    "not in a class": ({"train/01.jpg": encoded(0)}, ["train/01.jpg", "no jpg or png in a class folder"]),
    "empty class": (
        {"train/eel/": b"", "test/eel/01.jpg": encoded(0)},
        ["no image in train/eel/", "none of them empty"],
    ),
    "class not tested": ({"train/eel/01.jpg": encoded(0)}, ["no image in test/eel/", "the same classes in both"]),
    "class not trained": ({"test/eel/01.jpg": encoded(0)}, ["no image in train/eel/", "the same classes in both"]),
}


@both_forms
@pytest.mark.parametrize("kind", BAD_SETS)
def test_bad_image_folders_are_refused(kind, form, tmp_path):
    files, sentence = BAD_SETS[kind]
    name = write(a_set() | files, tmp_path, form)
    message = refused(name, tmp_path)
    assert all(part in message for part in [str(tmp_path / name.removeprefix("imagefolder:")), *sentence]), message
    assert refused(name, tmp_path) == message  # and again


@both_forms
@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_refused(missing, form, tmp_path):
    files = {name: content for name, content in a_set().items() if not name.startswith(missing)}
    message = refused(write(files, tmp_path, form), tmp_path)
    assert f"no image in {missing}/cat/" in message and "test/ or val/<class>/" in message


def test_the_held_out_images_have_the_size_of_the_others(tmp_path):
    odd = {name: encoded(0, size=(9, 9)) for name in a_set() if name.startswith("test")}
    name = write(a_set() | odd, tmp_path, "zip")
    assert data.load(name, "train", root=tmp_path).x.shape == (6, 3, 6, 8)
    assert "3×9×9, expected 3×6×8 as in train/cat/00.jpg" in refused(name, tmp_path, "test")


@pytest.mark.parametrize("name", ["imagefolder:set.zip", "cifar10-jpeg"])
def test_a_cut_zip_is_refused(name, tmp_path):
    write(a_set(), tmp_path, "zip")
    whole = (tmp_path / "set.zip").read_bytes()
    file = tmp_path / ("set.zip" if name.startswith("image") else "cifar10-jpeg.zip")
    file.write_bytes(whole[: len(whole) * 2 // 3])
    message = refused(name, tmp_path)
    assert str(file) in message and "no whole zip" in message and "replace it by a whole copy" in message


def test_a_changed_byte_in_a_zip_is_refused(tmp_path):
    name = write(a_set(), tmp_path, "zip")
    content = bytearray((tmp_path / "set.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        start = archive.getinfo("train/dog/01.jpg").header_offset
    content[start + 30 + len("train/dog/01.jpg") + 400] ^= 0xFF
    (tmp_path / "set.zip").write_bytes(content)
    assert "train/dog/01.jpg" in refused(name, tmp_path)


def test_a_short_cifar10_jpeg_is_refused(tmp_path):
    write(a_set(), tmp_path, "zip")
    shutil.move(tmp_path / "set.zip", tmp_path / "cifar10-jpeg.zip")
    message = refused("cifar10-jpeg", tmp_path)
    assert "cifar10-jpeg.zip" in message and "6×3×6×8, must be 50000×3×32×32" in message


@pytest.mark.parametrize(("name", "file"), [("cifar10-jpeg", "cifar10-jpeg.zip"), ("imagefolder:a/b", "a/b")])
def test_absent_images_say_where(name, file, tmp_path):
    message = refused(name, tmp_path)
    assert f"looked for {tmp_path / file}" in message and "SAM_DATA" in message


# MNIST and CIFAR-10 as torchvision keeps them


def idx(values: np.ndarray) -> bytes:
    """A uint8 array in MNIST's idx format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def an_mnist(root):
    """The folder of a made-up MNIST with a whole test set."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (folder / name).write_bytes(b"")
    (folder / IMAGES).write_bytes(idx(np.arange(10_000 * 784).reshape(10_000, 28, 28) % 251))
    (folder / LABELS).write_bytes(idx(np.arange(10_000) % 10))
    return folder


@pytest.fixture
def any_mnist(monkeypatch):
    """Made-up images are taken for MNIST's."""
    monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(data.DATASETS["mnist"], digests=None))


def test_other_images_are_not_taken_for_mnist(tmp_path):
    an_mnist(tmp_path)
    assert "is not that of mnist: other images, labels or order" in refused("mnist", tmp_path, "test")


def test_mnist_with_its_labels_in_reverse_is_refused(tmp_path):
    root = real("MNIST/raw")
    shutil.copytree(root / "MNIST", tmp_path / "MNIST")
    for name in ("train-labels-idx1-ubyte", LABELS):
        file = tmp_path / "MNIST" / "raw" / name
        content = file.read_bytes()
        file.chmod(0o644)
        file.unlink()
        file.write_bytes(content[:8] + bytes(9 - label for label in content[8:]))
    for split in data.SPLITS:
        assert "is not that of mnist" in refused("mnist", tmp_path, split)


def test_a_zip_with_other_images_is_not_taken_for_cifar10_jpeg(tmp_path, monkeypatch):
    write(a_set(), tmp_path, "zip")
    shutil.move(tmp_path / "set.zip", tmp_path / "cifar10-jpeg.zip")
    made_up = lambda split, root: folders.read("cifar10-jpeg", split, root / "cifar10-jpeg.zip")  # noqa: E731
    info = dataclasses.replace(data.DATASETS["cifar10-jpeg"], read=made_up)
    monkeypatch.setitem(data.DATASETS, "cifar10-jpeg", info)
    assert "its images are not those of cifar10-jpeg" in refused("cifar10-jpeg", tmp_path)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_folder_that_has_changed_is_read_again(tmp_path, form):
    name = write(a_set(), tmp_path, form)
    before, digest = data.load(name, "train", root=tmp_path), data.digest(name, root=tmp_path)
    assert data.load(name, "train", root=tmp_path) is before and data.digest(name, root=tmp_path) == digest
    other = a_set()
    first, second = "train/cat/00.jpg", "train/dog/00.jpg"
    other[first], other[second] = other[second], other[first]
    if form == "zip":
        (tmp_path / "set.zip").unlink()
    write(other, tmp_path, form)
    after = data.load(name, "train", root=tmp_path)
    assert not torch.equal(after.x, before.x) and data.digest(name, root=tmp_path) != digest


def test_idx_files(tmp_path, any_mnist):
    an_mnist(tmp_path)
    test = data.load("mnist", "test", root=tmp_path)
    assert test.x.shape == (10_000, 1, 28, 28) and test.y[:12].tolist() == [*range(10), 0, 1]
    assert test.x[1, 0, 0, :3].tolist() == [784 % 251, 785 % 251, 786 % 251]


BAD_IDX = {
    "images cut short": (IMAGES, lambda whole: whole[:-1000], "its length or its header"),
    "images cut in the header": (IMAGES, lambda whole: whole[:6], "its length or its header"),
    "images empty": (IMAGES, lambda whole: b"", "its length or its header"),
    "images too long": (IMAGES, lambda whole: whole + b"\0" * 784, "its length or its header"),
    "gzip, not unpacked": (LABELS, lambda whole: b"\x1f\x8b" + whole[2:], "header is wrong: AssertionError"),
    "no idx file": (IMAGES, lambda whole: b"<html>" + whole[6:], "its length or its header"),
    "images flat": (IMAGES, lambda whole: idx(np.zeros((10_000, 784))), "its length or its header"),
    "images of another size": (
        IMAGES,
        lambda whole: idx(np.zeros((10_000, 14, 14))),
        "10000×1×14×14, must be 10000×1×28×28",
    ),
    "fewer images": (IMAGES, lambda whole: idx(np.zeros((99, 28, 28))), "99×1×28×28, must be 10000×1×28×28"),
    "labels cut short": (LABELS, lambda whole: whole[:-1], "its length or its header"),
    "fewer labels": (LABELS, lambda whole: idx(np.zeros(9_999)), "9999 labels up to 0 for 10000 images"),
    "labels beyond 9": (LABELS, lambda whole: idx(np.full(10_000, 10)), "10000 labels up to 10 for"),
}


@pytest.mark.parametrize("kind", BAD_IDX)
def test_bad_idx_files_are_refused(kind, tmp_path):
    name, change, sentence = BAD_IDX[kind]
    file = an_mnist(tmp_path) / name
    file.write_bytes(change(file.read_bytes()))
    message = refused("mnist", tmp_path, "test")
    assert str(file) in message and sentence in message and "replace it by a whole copy" in message, message


@pytest.mark.parametrize(
    ("name", "kind"), [("mnist", torchvision.datasets.MNIST), ("cifar10", torchvision.datasets.CIFAR10)]
)
def test_a_failed_download_says_so_and_leaves_nothing(name, kind, tmp_path, monkeypatch, capfd):
    timeouts, before = [], socket.getdefaulttimeout()

    def broken(self):
        print("Downloading")
        print("100%", file=sys.stderr)
        timeouts.append(socket.getdefaulttimeout())
        (tmp_path / os.path.basename(self.root) / "half.gz").write_bytes(b"half")
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(kind, "download", broken)
    message = refused(name, tmp_path)
    folder = tmp_path / ("MNIST/raw" if name == "mnist" else "cifar-10-batches-py")
    assert f"in {folder}, which is not there" in message and "no route to host" in message and "SAM_DATA" in message
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ("", "")
    assert timeouts == [sources.DOWNLOAD_TIMEOUT] and socket.getdefaulttimeout() == before
    assert "cifar10-jpeg" not in message
    if name == "cifar10":
        (tmp_path / "cifar10-jpeg.zip").touch()
        assert "cifar10-jpeg, whose zip is there, can stand in" in refused(name, tmp_path)


@pytest.mark.parametrize("kind", [torchvision.datasets.MNIST, torchvision.datasets.CIFAR10])
def test_no_download_without_a_root(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(kind, "download", lambda self: pytest.fail("tried to download"))
    root = tmp_path / "absent"
    message = refused(kind.__name__.lower(), root)
    assert f"nor is {root}, so no download was tried" in message and not root.exists()


def test_a_whole_download_is_moved_into_place(tmp_path, monkeypatch, any_mnist):
    source = an_mnist(tmp_path / "server")
    root = tmp_path / "root"
    (root / "MNIST" / "raw").mkdir(parents=True)
    (root / "MNIST" / "raw" / IMAGES).write_bytes(b"what an older, broken copy left")
    monkeypatch.setattr(
        torchvision.datasets.MNIST,
        "download",
        lambda self: shutil.copytree(source, self.raw_folder, dirs_exist_ok=True),
    )
    monkeypatch.setattr(torchvision.datasets.MNIST, "_load_data", lambda self: (None, None))
    assert data.load("mnist", "test", root=root).x.shape == (10_000, 1, 28, 28)
    assert [entry.name for entry in root.iterdir()] == ["MNIST"]


def test_cifar10_is_torchvisions_and_checked(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng, sums = np.random.default_rng(0), {}
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch | {"label_names": [str(i) for i in range(10)]}))
        sums[name] = calculate_md5(folder / name)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setitem(torchvision.datasets.CIFAR10.meta, "md5", sums["batches.meta"])
    train = data.load("cifar10", "train", root=tmp_path)
    batch = pickle.loads((folder / "data_batch_1").read_bytes())
    assert torch.equal(train.x, torch.from_numpy(batch["data"]).view(20, 3, 32, 32)) and train.x.is_contiguous()
    assert train.y.tolist() == batch["labels"] and train.y.dtype == torch.int64 and train.classes == 10
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:-100])
    message = refused("cifar10", tmp_path, "test")
    assert str(folder / "test_batch") in message and "MD5" in message and "whole copy" in message
