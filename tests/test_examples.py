"""The examples in docstrings run, and what is offered to be lifted has one."""

import doctest
import importlib
import re

import pytest

from lib.core import paths

LIFTED = re.findall(r"\]\(\.\./lib/([\w/]+)\.py\)", (paths.ROOT / "docs" / "use.md").read_text(encoding="utf-8"))


def modules():
    files = sorted(path for path in (paths.ROOT / "lib").rglob("*.py") if ">>>" in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(paths.ROOT).with_suffix("").parts) for path in files]


@pytest.mark.parametrize("module", modules())
def test_examples_run(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed


def test_what_is_offered_has_an_example():
    have = {module.removeprefix("lib.").replace(".", "/") for module in modules()}
    assert len(LIFTED) > 12 and set(LIFTED) <= have
