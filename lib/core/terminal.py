"""Commands that print Greek letters on whatever terminal there is."""

import sys


def tolerate() -> None:
    """Let this process print what its terminal cannot show as question marks, instead of ending at it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
