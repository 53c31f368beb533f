"""Builds the wheel. There the package `lib` has a name of its own, so that it can be imported beside a project's `lib`.

An editable install, as `make setup` makes one, leaves it `lib`. All else about the project is in pyproject.toml.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NAME = "overparam_sam"


class Renamed(build_py):
    """Copies `lib` as usual, then renames it where its own modules, and their docstrings, name it."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        copied, renamed = Path(self.build_lib) / "lib", Path(self.build_lib) / NAME
        rooms = "|".join(path.stem for path in copied.iterdir() if not path.name.startswith("_"))
        mentions = re.compile(rf"\blib(?=\.(?:{rooms})\b)|(?<=\bfrom )lib(?= import\b)")
        for file in copied.rglob("*.py"):
            file.write_text(mentions.sub(NAME, file.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.rmtree(renamed, ignore_errors=True)
        copied.rename(renamed)


setup(cmdclass={"build_py": Renamed})
