"""The command `python -m lib.paper.claims`: write the parts of README and docs/ that the claims at lite determine."""

import sys

from lib.core import paths, terminal
from lib.paper.claims import pages


def main() -> int:
    """Write the parts anew, and say which pages changed."""
    terminal.tolerate()
    for page in pages.update():
        print(f"{page.relative_to(paths.ROOT)}: written", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
