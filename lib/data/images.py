"""Image files, opened with care: the formats that are meant, 8 bits a channel, no more pixels than Pillow allows."""

import warnings

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # Pillow knows more, and starts programs for some
MOST_BYTES = 2**28  # of an image in a zip, whatever it says
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
GRAYSCALE = ("1", "L", "LA")


def open_image(file, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The image in a path or binary file. Raises ValueError for one of more than 8 bits a channel, whose low bits would
    be lost or whose values would all be white, and whatever a damaged, huge or foreign file makes Pillow raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(file, formats=formats)
    deep = any("16" in _raw_mode(tile[3]) for tile in image.tile)
    if image.mode.startswith(("I", "F")) or deep:
        raise ValueError(f"its pixels are not of 8 bits a channel (Pillow's mode {image.mode}); convert it")
    return image


def _raw_mode(arguments) -> str:
    """How the file packs a pixel, by the arguments of Pillow's decoder, where it stands alone or before numbers."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's: hidden, or left by an archiver."""
    return name.startswith(".") or name == "__MACOSX"
