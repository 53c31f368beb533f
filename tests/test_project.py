"""The project around the code: one list of pins, the commands of the README, nothing that must stay local in git."""

import json
import re
import subprocess

import pytest
import yaml

from lib import paths

TARGETS = ["setup", "figures", "test", "lab", "plan", "notebooks", "bench", "clean", "help"]


def pins() -> dict[str, str]:
    lines = (paths.ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_requirement_is_pinned_to_one_version():
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in pins().values())


def test_conda_takes_its_pins_from_requirements_alone():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    names = [d if isinstance(d, str) else next(iter(d)) for d in environment["dependencies"]]
    assert names == ["python>=3.11", "pip", "pip"]
    assert environment["dependencies"][-1]["pip"] == ["-r requirements.txt", "--editable ."]


def test_the_package_allows_the_pinned_versions():
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("overparameterization-and-sam")):
        if requirement.name in pins():
            assert requirement.specifier.contains(pins()[requirement.name]), requirement
        else:  # of an extra that the environment does without, and that has pins of its own
            assert requirement.marker and [s.operator for s in requirement.specifier] == ["=="], requirement


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_target(target):
    found = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=paths.ROOT)
    assert found.returncode == 0, found.stderr


def test_clean_spares_records_datasets_and_checkpoints():
    found = subprocess.run(["make", "-n", "clean"], capture_output=True, text=True, cwd=paths.ROOT)
    assert "data" not in found.stdout


@pytest.mark.parametrize(
    "path", ["data/MNIST/raw/x", "data/cifar10-jpeg.zip", "data/records/digits/0.json", "data/checkpoints/0.pt"]
)
def test_git_ignores(path):
    if not (paths.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=paths.ROOT).returncode == 0


@pytest.mark.parametrize("path", ["data/records/0.json", "lib/data.py", "figures/lite/fig01a.png"])
def test_git_keeps(path):
    if not (paths.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=paths.ROOT).returncode == 1


def test_the_readme_names_only_files_and_targets_that_are_there():
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)", readme):
        assert target in TARGETS
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (paths.ROOT / link).exists(), link


def test_the_readme_gives_each_claim_the_verdict_that_it_has_at_lite():
    readme = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
    book = json.loads((paths.ROOT / "figures/lite/claims.json").read_text(encoding="utf-8"))
    verdicts = {name: row["verdict"] for rows in book.values() for name, row in rows.items()}
    told = re.findall(r"\*((?:not )?(?:supported|tested))\*:((?: `[^`]+`,?)+)", readme)
    claims = {name: verdict for verdict, names in told for name in re.findall("`([^`]+)`", names)}
    assert len(told) == len(re.findall(r"ed\*:", readme)) and len(claims) > 20
    assert claims == {name: verdicts[name] for name in claims}


def test_tests_of_engines_run_with_the_instructions_of_other_processors_too():
    found = subprocess.run(["make", "-n", "test"], capture_output=True, text=True, cwd=paths.ROOT).stdout
    assert "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 make test-engines" in found
    (workflow,) = (paths.ROOT / ".github" / "workflows").iterdir()
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    assert jobs["old-processor"]["env"] == {"ATEN_CPU_CAPABILITY": "default"}
    assert jobs["old-processor"]["steps"][-1] == {"run": "make test-engines"}
