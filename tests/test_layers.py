"""The architecture of lib/ holds: dependencies run one way, between rooms and between files."""

import ast
import graphlib

import pytest

from lib.core import paths

LIB = paths.ROOT / "lib"
# Each room with the rooms below it, which it may import. `sam` is one file, so that it can be lifted alone.
BELOW = {
    "sam": set(),
    "core": set(),
    "data": {"core"},
    "models": {"core"},
    "hessian": {"core"},
    "theory": {"core"},
    "runs": {"core", "data", "models", "hessian", "sam"},
    "training": {"core", "data", "models", "sam", "runs"},
    "sweep": {"core", "data", "models", "runs", "training"},
    "paper": {"core", "data", "models", "hessian", "theory", "sam", "runs", "training", "sweep"},
}
UPWARD = {  # commands know what is above them: the names of experiments; training, to compare with
    "lib.sweep.__main__": {"paper"},
    "lib.runs.__main__": {"sweep", "paper"},
}
FILES = sorted(LIB.rglob("*.py"))


def name(file) -> str:
    parts = file.relative_to(paths.ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def imports(module: str) -> set[str]:
    """The modules that a module imports, of lib the file itself."""
    result = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            result |= {part if part in MODULES else node.module for part in whole}
    return result


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_is_known_and_says_what_it_is():
    folders = {path.name for path in LIB.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders | {"sam"} == set(BELOW)
    for folder in folders:
        lines = (LIB / folder / "README.md").read_text(encoding="utf-8").splitlines()
        assert 5 <= len(lines) <= 20, folder


@pytest.mark.parametrize("module", [module for module in MODULES if room(module)])
def test_a_room_imports_only_those_below_it(module):
    allowed = BELOW[room(module)] | {room(module)} | UPWARD.get(module, set())
    inside = {other for other in imports(module) if other.split(".")[0] == "lib"}
    assert {room(other) for other in inside} <= allowed
    assert not any(other.split(".")[0] in ("notebooks", "tests", "benchmarks") for other in imports(module))


def test_no_file_imports_itself_by_a_detour():
    graph = {module: {m for m in imports(module) if m in MODULES and m != module} for module in MODULES}
    # A package gathers its files, which may not import it in turn.
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_only_plots_draws_and_only_paths_reads_the_environment(module):
    drawing = any(other.split(".")[0] == "matplotlib" for other in imports(module))
    assert not drawing or module.startswith("lib.paper.plots")
    environment = {ast.unparse(node) for node in ast.walk(MODULES[module]) if isinstance(node, ast.Attribute)}
    reads = environment & {"os.environ", "os.getenv"}
    assert not reads or module == "lib.core.paths" or (module, reads) == ("lib.paper.notebooks", {"os.environ"})


def test_no_file_has_the_name_of_what_its_package_exports():
    for module, tree in MODULES.items():
        exported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        package = LIB / "/".join(module.split(".")[1:])
        if package.is_dir() and module not in ("lib.paper.analysis", "lib"):
            files = {file.stem for file in package.glob("*.py")}
            assert not {f for f in files & exported if f"{module}.{f}" not in MODULES or is_function(module, f)}, module


def is_function(package: str, name: str) -> bool:
    """Whether a package exports a function, not a file, of this name."""
    return any(
        isinstance(node, ast.ImportFrom) and node.module != package and name in {a.name for a in node.names}
        for node in MODULES[package].body
    )


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_file_is_over_300_lines(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("module", MODULES)
def test_torchvision_is_imported_only_where_it_is_used(module):
    """It takes two seconds of every start."""
    whole = [node for node in MODULES[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in whole for alias in node.names} | {getattr(node, "module", None) for node in whole}
    assert not [name for name in names if name and name.split(".")[0] == "torchvision"]
