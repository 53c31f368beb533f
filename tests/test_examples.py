"""The examples in docstrings run, and each name that is offered to be lifted has one."""

import doctest
import functools
import importlib
import inspect
import re

import pytest

from lib.core import paths

LIB = paths.ROOT / "lib"
USE = (paths.ROOT / "docs" / "use.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(\.\./lib/([\w/]+)\.py\)")
NAMED = re.compile(LINK.pattern + r": (`\w+`(?:, `\w+`)*)")  # a file in the table of docs/use.md, and names in it


class Finder(doctest.DocTestFinder):
    """Finds the examples of decorated functions as well, which doctest takes for those of the decorator's module."""

    def _from_module(self, module, thing):
        return super()._from_module(module, inspect.unwrap(thing))


def module_of(file) -> str:
    return ".".join(file.relative_to(paths.ROOT).with_suffix("").parts)


WITH_EXAMPLES = [module_of(file) for file in sorted(LIB.rglob("*.py")) if ">>>" in file.read_text(encoding="utf-8")]
# The paper's own figures and claims are of no use elsewhere.
PACKAGES = [module_of(f.parent) for f in sorted(LIB.rglob("__init__.py")) if "paper" not in f.relative_to(LIB).parts]


@functools.cache
def examples(module: str) -> dict[str, doctest.DocTest]:
    """The examples of a module by the full names of what they stand at."""
    return {test.name: test for test in Finder().find(importlib.import_module(module)) if test.examples}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in examples(module).values():
        runner.run(example, clear_globs=False)
    assert runner.tries and not runner.failures


def named() -> dict[str, list[str]]:
    """The names that docs/use.md offers of each file that it links."""
    return {f"lib.{file.replace('/', '.')}": re.findall(r"\w+", names) for file, names in NAMED.findall(USE)}


def exported(package: str) -> list[str]:
    """The functions and classes that a package exports."""
    module = importlib.import_module(package)
    return [name for name in getattr(module, "__all__", ()) if callable(getattr(module, name))]


def test_each_file_that_is_offered_says_what_to_take_from_it():
    table = "\n".join(line for line in USE.splitlines() if line.startswith("|"))
    files = {f"lib.{file.replace('/', '.')}" for file in LINK.findall(table)}
    assert len(files) > 12 and files == set(named())


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in named().items() for name in names]
    + [(package, name) for package in PACKAGES for name in exported(package)],
)
def test_what_is_offered_has_an_example(module, name):
    thing = getattr(importlib.import_module(module), name)
    assert f"{thing.__module__}.{thing.__qualname__}" in examples(thing.__module__)
