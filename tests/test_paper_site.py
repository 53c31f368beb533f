"""The pieces of the site: captions, links, citations, articles, pages, and the data that its figures draw."""

import json
import os
import re
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas
import pytest

from lib.core import paths
from lib.paper import notebooks, plots
from lib.paper.captions import CAPTIONS, finding, number
from lib.paper.claims import CLAIMS, pages
from lib.paper.experiments.figures import FIGURES
from lib.paper.site import articles, explored, figures, launch, links, records, references
from lib.paper.site import pages as site_pages
from lib.paper.site.executed import is_current
from lib.theory import linear_stability

GALLERY = paths.ROOT / "figures" / "lite"


def test_every_figure_has_a_caption_and_every_claim_a_figure():
    assert {notebook: set(part) for notebook, part in CAPTIONS.items()} == {n: set(f) for n, f in FIGURES.items()}
    for notebook, part in CAPTIONS.items():
        cited = [claim for caption in part.values() for claim in caption.claims]
        assert set(cited) == set(CLAIMS[notebook]), notebook
    numbers = [number(name) for part in CAPTIONS.values() for name in part]
    assert len(set(numbers)) == len(numbers)
    assert all(
        caption.shows.endswith(".") and caption.claims for part in CAPTIONS.values() for caption in part.values()
    )


def test_a_finding_is_read_from_the_claims():
    rows = pages.book()["01_convergence"]
    text = finding(CAPTIONS["01_convergence"]["fig01a"], rows)
    assert rows["1a-linear"]["claim"] in text and f"*{rows['1a-linear']['verdict']}*: `1a-linear`" in text
    assert finding(CAPTIONS["01_convergence"]["fig01a"], {}) == ""


def test_a_saved_figure_shows_its_caption_in_a_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    figure, _ = plt.subplots()
    table = pandas.DataFrame({"x": [1], "keys": ["19d27ac83b8a5edb 6790f838d85bba39"]})
    shown = plots.save(figure, "figB4", table, "lite")
    assert shown.caption.startswith(f"**Figure B4.** {CAPTIONS['06_bouncing']['figB4'].shows}")
    assert "2 records" in shown.caption and "lib.runs show 19d27ac83b8a5edb" in shown.caption
    assert "`bounce-steps`" in shown.caption and "figB4.csv" in shown.caption
    assert CAPTIONS["06_bouncing"]["figB4"].shows[:40] in (tmp_path / "lite" / "figB4.svg").read_text()
    shown._ipython_display_()
    assert capsys.readouterr().out.count("Markdown") == 1
    assert plots.save(figure, "fig", table, "lite").caption == ""


@pytest.mark.parametrize(
    "link, expected",
    [
        ("[a](../lib/sam.py)", "[a](../lib/sam.py.md)"),
        ("[a](../README.md)", "[a](../index.md)"),
        ("[a](../data/records)", "[a](../runs.md)"),
        ("[a](../lib/runs)", "[a](../lib/runs/README.md)"),
        ("[a](statistics.md#x)", "[a](statistics.md#x)"),
        ("[`a`](../figures/lite/claims.json)", '<a href="../figures/claims.json">`a`</a>'),
        ("![a](../figures/lite/fig01a.png)", '<img src="../figures/fig01a.png" alt="a" loading="lazy">'),
        ("[a](https://arxiv.org) [b](#c)", "[a](https://arxiv.org) [b](#c)"),
    ],
)
def test_a_link_leads_to_what_the_site_has(link, expected):
    shown = []
    assert links.relink(link, Path("docs/use.md"), shown.append) == expected
    assert shown == [Path("lib/sam.py")] * ("sam.py" in link)


def test_every_work_that_is_cited_is_listed():
    known = references.library()
    files = [*(s for s in notebooks.sources()), *paths.ROOT.glob("docs/*.md"), *paths.ROOT.glob("lib/**/*.py")]
    own = paths.ROOT / "lib" / "paper" / "site"
    found = []
    for file in (file for file in files if own not in file.parents):
        text = re.sub(r"\n#? *", " ", file.read_text(encoding="utf-8"))
        for match in references.CITATION.finditer(text):
            year = match["inside"] or match["bare"]
            assert references.find(match["authors"], year, known), f"{file}: {match[0]}"
            found.append(match[0])
    assert len(found) >= 25


def test_an_article_has_its_figures_with_all_that_leads_to_their_data():
    rows = pages.book()["02_stability"]
    made = articles.article(paths.ROOT / "notebooks" / "02_stability.ipynb", GALLERY, rows, references.library())
    nbformat.validate(made)
    text = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    for name in CAPTIONS["02_stability"]:
        assert f'<figure class="result" id="{name}">' in text and f'id="cell-{name}"' in text
        assert f'href="../figures/{name}.csv"' in text
    assert 'alt="Contours of the training loss' in text and 'href="../runs.html#figure=fig02c"' in text
    assert "{cite:t}`wu2018sgd`" in text and 'href="../claims.html#2ab-flatter"' in text
    assert '<a href="#fig02c">Figure 2c</a>' in articles.linked("As Figure 2c says", "02_stability")
    assert articles.linked("## Figure 2c: so", "02_stability") == "## Figure 2c: so"
    assert "03_width.html#fig03a" in articles.linked("see Figure 3a.", "02_stability")
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert outputs and not any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize(
    "address, expected",
    [
        ("git@forge:someone/project.git", "https://forge/someone/project"),
        ("ssh://git@forge:22/someone/project.git", "https://forge/someone/project"),
        ("https://user:secret@forge/someone/project.git", "https://forge/someone/project"),
        ("/srv/project.git", None),
    ],
)
def test_an_address_to_clone_from_has_no_name_and_no_password(address, expected):
    assert launch.public(address) == expected


def test_a_notebook_is_run_elsewhere_only_where_addresses_are_given(tmp_path, monkeypatch):
    for name in ("SAM_REPOSITORY", "SAM_COLAB", "SAM_BINDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path)  # which no git knows
    assert launch.repository() is None and launch.links("01_convergence") == ""
    monkeypatch.setenv("SAM_REPOSITORY", "git@forge:someone/project.git")
    assert launch.links("01_convergence") == ""
    monkeypatch.setenv("SAM_COLAB", "https://colab/")
    monkeypatch.setenv("SAM_BINDER", "https://binder")
    shown = launch.links("01_convergence")
    assert 'href="https://colab/github/someone/project/blob/launch/01_convergence.ipynb"' in shown
    assert "https://binder/v2/git/https%3A%2F%2Fforge%2Fsomeone%2Fproject/HEAD?urlpath=lab%2Ftree%2Fnotebooks" in shown


def test_a_copy_for_colab_installs_first_and_trains_nothing(tmp_path):
    source = notebooks.sources(["01_convergence"])[0]
    copied = nbformat.read(launch.copy(source, tmp_path, "https://forge/someone/project", "lite"), as_version=4)
    nbformat.validate(copied)
    assert copied.cells[0].source.startswith("!git clone --quiet --depth 1 https://forge/someone/project project")
    (given,) = (cell.source for cell in copied.cells if "parameters" in cell.metadata.get("tags", ()))
    assert given == 'preset = "lite"\ntrain = False'
    assert len(copied.cells) == len(jupytext.read(source).cells) + 1


def test_the_pages_name_every_claim_and_figure():
    book = pages.book()
    claims, gallery = site_pages.claims(book, "lite"), site_pages.gallery(book, GALLERY)
    for rows in book.values():
        for name in rows:
            assert f'<tr id="{name}"' in claims
    assert claims.count("python -m lib.") >= len([row for rows in book.values() for row in rows.values()])
    assert (
        gallery.count("<img")
        == gallery.count('alt="')
        == sum(not figures.blank(GALLERY / f"{n}.csv") for n in figures.NOTEBOOK_OF)
    )
    front = site_pages.front(book, "lite", ["docs/README"])
    assert (
        front.count('class="square') == sum(map(len, book.values()))
        and pages.counts({name: row for rows in book.values() for name, row in rows.items()}) in front
    )
    assert "{" not in re.sub(r"```\{toctree\}|\{cite:t\}", "", front)


def test_a_record_is_shown_with_its_curves_settings_and_uses():
    rows = {row["key"]: row for row in records.rows(GALLERY, pages.book())}
    keys = figures.keys(GALLERY / "fig03_fixed.csv")
    assert len(rows) >= 600 and keys and all("fig03_fixed" in rows[key]["figures"] for key in keys)
    one = rows[keys[0]]
    record = json.loads((paths.records("mnist") / f"{one['key']}.json").read_text())
    assert len(one["epochs"]) == len(one["curves"]["test_accuracy"]) == record["run"]["epochs"]
    assert one["final"]["test_accuracy"] == pytest.approx(record["final"]["test_accuracy"], rel=1e-3)
    assert one["settings"]["schedule"] == "step" and "3a-fixed-trend" in one["claims"]


def test_the_stability_map_has_what_the_library_says():
    data = explored.stability(GALLERY / "figE1.csv")
    hessians = linear_stability.random_hessians(**explored.HESSIANS)
    for i, j in ((0, 0), (20, 30), (49, 10)):
        eta, rho = data["eta"][i], data["rho"][j]
        for name, value in linear_stability.conditions(hessians, eta, rho).items():
            assert data[name][i][j] == pytest.approx(value, rel=1e-3, abs=1e-6)
        assert data["theorem9"][i][j] == pytest.approx(linear_stability.theorem9(hessians, eta, rho), rel=1e-3)


def test_the_landscapes_are_whole_grids():
    surfaces = explored.landscape(GALLERY / "fig02ab.csv")
    assert len(surfaces) >= 2
    for surface in surfaces:
        assert np.shape(surface["loss"]) == (len(surface["v"]), len(surface["u"])) and np.min(surface["loss"]) > 0
    assert explored.landscape(GALLERY / "absent.csv") == []


def test_the_pins_of_the_site_leave_those_of_the_project_alone():
    lines = [
        line for line in (paths.ROOT / "requirements-site.txt").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert all(re.fullmatch(r"[\w-]+==\d+(\.\d+)+", line) for line in lines)
    project = {line.split("==")[0] for line in (paths.ROOT / "requirements.txt").read_text().splitlines()}
    assert not {line.split("==")[0] for line in lines} & project


def test_a_notebook_is_executed_again_after_a_change_or_without_its_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "records"))
    source, made = notebooks.sources(["07_benign_overfitting"])[0], tmp_path / "07_benign_overfitting.ipynb"
    assert not is_current(made, source, "lite")
    made.write_text("{}")
    assert not is_current(made, source, "lite")
    (tmp_path / "lite").mkdir()
    for name in notebooks.figures_of(source):
        (tmp_path / "lite" / f"{name}.png").touch()
    assert is_current(made, source, "lite")
    os.utime(made, (0, 0))
    assert not is_current(made, source, "lite")
