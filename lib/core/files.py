"""Files that are whole: one way to write them, for records, checkpoints, claims and figures."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def replace(file: Path, text: str) -> None:
    """Give the file this content in one go."""
    with replacing(file) as out:
        out.write(text.encode())


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A binary file to write that takes the place of `file` in one go at the end of this context: whoever reads it,
    kills this process or cuts the power finds the old content or the new."""
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
