"""Hostile and odd images: refused by name in both forms of folder, or read rightly; never run, never unpacked whole."""

import io
import stat
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from lib import data
from lib.data import folders, images, streaming

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def png(pixels=GREY, kind="PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def deep_png() -> bytes:
    """16 bits a channel in colour, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + bytes(6 * 8) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


IMAGES = {f"{top}/{label}/{i}.png": png() for top in ("train", "val") for label in "ab" for i in range(2)}


def as_folder(path, images):
    for name, content in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path, images, **attributes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    return path


def stream(path):
    images = streaming.listing(f"imagestream:{path}", "train")
    return [images[i, None, 0] for i in range(len(images))]


@pytest.mark.parametrize("content", [png(GREY.astype(np.uint16) * 256), deep_png()], ids=["grey", "colour"])
def test_sixteen_bits_are_refused_in_both_forms_of_folder(tmp_path, content):
    path = as_folder(tmp_path / "x", IMAGES | {"train/a/0.png": content})
    for read in (lambda: data.load(f"imagefolder:{path}", "train"), lambda: stream(path)):
        with pytest.raises(data.DataUnavailable, match=r"train/a/0.png: .*not of 8 bits a channel"):
            read()


def test_a_file_of_another_kind_is_not_opened_whatever_its_name(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    path = as_folder(tmp_path / "x", IMAGES | {"train/a/0.png": eps})
    with pytest.raises(data.DataUnavailable, match=r"train/a/0.png"):
        stream(path)
    with pytest.raises(data.DataUnavailable, match=r"train/a/0.png.*no JPEG or PNG"):
        data.load(f"imagefolder:{path}", "train")


def test_the_other_formats_that_are_meant_stream(tmp_path):
    kinds = {"bmp": "BMP", "gif": "GIF", "webp": "WEBP", "tiff": "TIFF"}
    more = {f"train/a/x.{ending}": png(kind=kind) for ending, kind in kinds.items()}
    assert len(stream(as_folder(tmp_path / "x", IMAGES | more))) == 4 + len(kinds)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "WEBP", "PNG", "JPEG"])
@pytest.mark.parametrize(("mode", "width"), [("L", 16), ("L", 161), ("RGB", 53)])
def test_eight_bits_are_eight_bits_whatever_the_size_of_the_picture(kind, mode, width):
    file, options = io.BytesIO(), {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    Image.effect_noise((width, 33), 20).convert(mode).save(file, kind, **options)  # a row has 16, 164 or 160 bytes
    assert images.open_image(file).size == (width, 33)


def test_a_name_that_is_twice_in_a_zip_is_refused(tmp_path):
    for double in ("train/a/0.png", "./train/a/0.png", "train\\a\\0.png"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's own
            archive = as_zip(tmp_path / "x.zip", IMAGES)
            with zipfile.ZipFile(archive, "a") as more:
                more.writestr(double, png())
        with pytest.raises(data.DataUnavailable, match=r"two entries 'train/a/0\.png'"):
            data.load(f"imagefolder:{archive}", "train")


def test_what_is_hidden_is_no_class_and_no_image(tmp_path):
    rubbish = {"train/.ipynb_checkpoints/0.png": png(), "train/a/._0.png": b"x", "train/__MACOSX/0.png": png()}
    path = as_folder(tmp_path / "x", IMAGES | rubbish)
    assert len(stream(path)) == 4 and streaming.listing(f"imagestream:{path}", "train").classes == 2
    assert data.load(f"imagefolder:{path}", "train").classes == 2
    archive = as_zip(tmp_path / "x.zip", IMAGES | {"__MACOSX/train/a/._0.png": b"x"})
    assert len(data.load(f"imagefolder:{archive}", "train").y) == 4


@pytest.mark.parametrize("prefix", ["./", "photos/"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_a_zip_may_have_dots_backslashes_or_a_folder_around_all(tmp_path, prefix, separator):
    expected = data.load(f"imagefolder:{as_zip(tmp_path / 'plain.zip', IMAGES)}", "train")
    given = {(prefix + name).replace("/", separator): content for name, content in IMAGES.items()}
    result = data.load(f"imagefolder:{as_zip(tmp_path / 'odd.zip', given)}", "train")
    assert result.y.equal(expected.y) and result.x.equal(expected.x)


@pytest.mark.parametrize("name", ["../train/a/9.png", "/train/a/9.png", "train/../../9.png", "C:/train/a/9.png"])
def test_names_that_lead_out_of_a_zip_are_refused(tmp_path, name):
    with pytest.raises(data.DataUnavailable, match="leads out of it"):
        data.load(f"imagefolder:{as_zip(tmp_path / 'x.zip', IMAGES | {name: png()})}", "train")


def test_links_and_names_that_differ_in_case_are_refused(tmp_path):
    path = as_zip(tmp_path / "x.zip", IMAGES)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("train/a/9.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(data.DataUnavailable, match=r"'train/a/9.png' is a link"):
        data.load(f"imagefolder:{path}", "train")
    with pytest.raises(data.DataUnavailable, match=r"train/a/0.PNG and train/a/0.png differ in case alone"):
        data.load(f"imagefolder:{as_zip(tmp_path / 'y.zip', IMAGES | {'train/a/0.PNG': png()})}", "train")


def test_an_entry_larger_than_any_image_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MOST_BYTES", 10_000)
    path = as_zip(tmp_path / "x.zip", IMAGES | {"train/a/0.png": bytes(20_000)})
    with pytest.raises(data.DataUnavailable, match=r"train/a/0.png: .*it says that it has 20000 bytes"):
        data.load(f"imagefolder:{path}", "train")


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    path = as_folder(tmp_path / "x", IMAGES)
    for read in (lambda: data.load(f"imagefolder:{path}", "train"), lambda: stream(path)):
        with pytest.raises(data.DataUnavailable, match=r"decompression bomb"):
            read()
