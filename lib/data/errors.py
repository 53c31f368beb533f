"""What goes wrong with data: absent, damaged or short, it is refused with the file and the remedy, never left out."""

from pathlib import Path


class DataUnavailable(OSError):
    """A data set that is absent, damaged or short: the message names the file, where it was looked for, the remedy.

    >>> from lib import data
    >>> try:
    ...     data.load("imagefolder:absent", "train")
    ... except DataUnavailable:
    ...     print("no such folder")
    no such folder
    """


def damaged(file: Path, reason: str) -> DataUnavailable:
    """The error for a file that is there and is not what it should be."""
    return DataUnavailable(f"{file}: damaged ({reason}); replace it by a whole copy")
