"""The project around the code: one list of pins, what the README and other pages say, nothing in git that must stay
local."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from lib.core import paths
from lib.paper.claims import CLAIMS, pages
from lib.paper.claims.verdicts import VERDICTS

TARGETS = ["setup", "figures", "test", "test-engines", "lab", "plan", "notebooks", "site", "test-site", "bench"]
TARGETS += ["gpu-pack", "clean", "help"]
DOCS = sorted((paths.ROOT / "docs").glob("*.md"))
PAGES = [*(paths.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]
CITED = r"\*([a-z, ]+)\*: `([^`]+)`"  # *reproduced*: `claim`
IMAGE = re.compile(r"!\[[^]]*\]\(")


def prose(page: Path) -> str:
    """The page on one line, so that no pattern cares where its lines are broken."""
    return " ".join(page.read_text(encoding="utf-8").split())


def links(page: Path) -> list[str]:
    """The relative links of a page and its images, without anchors."""
    return [link for link in re.findall(r"\]\(([^)#\s]+)", prose(page)) if ":" not in link]


def commands(page: Path) -> list[str]:
    """What a page says in code, a block or a span."""
    return re.findall(r"```.*?```|`[^`]+`", page.read_text(encoding="utf-8"), re.DOTALL)


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
    process = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=paths.ROOT)
    assert process.returncode == 0, process.stderr


def test_clean_spares_records_datasets_and_checkpoints():
    process = subprocess.run(["make", "-n", "clean"], capture_output=True, text=True, cwd=paths.ROOT)
    assert "data" not in process.stdout


@pytest.mark.parametrize(
    "path", ["data/MNIST/raw/x", "data/cifar10-jpeg.zip", "data/records/digits/0.json", "data/checkpoints/0.pt"]
)
def test_git_ignores(path):
    if not (paths.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=paths.ROOT).returncode == 0


@pytest.mark.parametrize("path", ["data/records/0.json", "lib/data/datasets.py", "figures/lite/fig01a.png"])
def test_git_keeps(path):
    if not (paths.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=paths.ROOT).returncode == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_files_and_targets_that_are_there(page):
    targets = [target for code in commands(page) for target in re.findall(r"\bmake ([a-z-]+)", code)]
    assert set(targets) <= set(TARGETS)
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


def test_what_the_claims_determine_is_written_from_them():
    book = pages.book()
    for page, parts in pages._parts(book).items():
        text = page.read_text(encoding="utf-8")
        for name, part in parts.items():
            assert pages.filled(text, name, part) == text, f"{page.name}: run `python -m lib.paper.claims`"


def test_each_claim_that_the_readme_cites_has_its_verdict_at_lite():
    text = prose(paths.ROOT / "README.md")
    verdicts = {name: row["verdict"] for rows in pages.book().values() for name, row in rows.items()}
    cited = {name: verdict for verdict, name in re.findall(CITED, text)}
    assert len(cited) >= 6 and cited == {name: verdicts[name] for name in cited}
    assert [name for name in re.findall(r"`([\w-]+)`", text) if name in verdicts] == list(cited)


def test_the_table_of_claims_is_complete():
    book = pages.book()
    assert {notebook: list(rows) for notebook, rows in book.items()} == {n: list(c) for n, c in CLAIMS.items()}
    assert sum(map(len, book.values())) >= 90
    for rows in book.values():
        for name, row in rows.items():
            assert row["verdict"] in VERDICTS and row["command"].startswith("python -m lib."), name
            assert len(row["measured"].split()) <= 40 or "; " not in row["measured"], name
            if row["verdict"] in ("reproduced", "reproduced, smaller", "contradicted"):
                assert row["condition"] and (row["keys"] or not row["seeds"]), name
            if row["verdict"] == "undecided":
                assert row["takes"], name
            if row["verdict"] == "not tested":
                assert row["reason"], name
            if row["low"] is not None:
                assert row["low"] <= row["effect"] <= row["high"] and row["unit"] and row["seeds"], name


def test_the_readme_is_short_and_shows_a_figure_first():
    text = prose(paths.ROOT / "README.md")
    assert 400 <= len(text.split()) <= 600
    before = text[: IMAGE.search(text).start()]
    assert len(before.split()) <= 80


@pytest.mark.parametrize("page", [page for page in DOCS if page.name != "README.md"], ids=lambda page: page.name)
def test_a_page_of_the_docs_is_in_their_index(page):
    assert page.name in links(paths.ROOT / "docs" / "README.md")


def test_the_citation_file_has_what_its_format_requires():
    result = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert result["cff-version"] == "1.2.0"
    assert all(isinstance(result[key], str) and result[key] for key in ("title", "message"))
    assert result["authors"] and all("name" in author or "family-names" in author for author in result["authors"])
    for reference in result["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_tests_of_engines_run_with_the_instructions_of_other_processors_too():
    printed = subprocess.run(["make", "-n", "test"], capture_output=True, text=True, cwd=paths.ROOT).stdout
    assert "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 make test-engines" in printed
    workflow = paths.ROOT / ".github" / "workflows" / "ci.yml"
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    assert jobs["old-processor"]["env"] == {"ATEN_CPU_CAPABILITY": "default"}
    assert jobs["old-processor"]["steps"][-1] == {"run": "make test-engines"}


def test_binder_takes_its_pins_from_requirements_alone():
    lines = (paths.ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-r ../requirements.txt"]


def test_the_site_is_built_at_lite_unless_another_preset_is_named():
    for given, expected in ([], "--preset lite --train 0"), (["PRESET=smoke"], "--preset smoke --train 1"):
        make = ["make", "--no-print-directory", "-n", "site", *given]  # which another make would have it print
        printed = subprocess.run(make, capture_output=True, text=True, cwd=paths.ROOT).stdout
        assert expected in printed.splitlines()[-1]


def test_setup_without_cuda_takes_the_cpu_builds_of_the_pins():
    for given, expected in (
        ([], ()),
        (["CPU=1"], ("+cpu",)),
        (["CPU=1", "TORCH_INDEX=there"], ("+cpu", "--index-url there")),
    ):
        printed = subprocess.run(
            ["make", "-B", "-n", "setup", *given], capture_output=True, text=True, cwd=paths.ROOT
        ).stdout
        assert [part for part in ("+cpu", "--index-url there") if part in printed] == list(expected)


def test_committed_notebooks_name_no_folder_of_the_machine_that_executed_them():
    notebooks = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
    texts = [notebook.read_text(encoding="utf-8") for notebook in notebooks]
    assert (
        texts and [notebook.name for notebook, text in zip(notebooks, texts, strict=True) if "Data: `/" in text] == []
    )
