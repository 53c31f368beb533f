"""The site that `make site` built, in a browser from the file system: whole, without a network, and it answers."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from lib.core import paths
from lib.theory import bouncing
from tests import browser

HTML = paths.ROOT / "build" / "site" / "html"
OWN = ("index", "claims", "gallery", "explore", "runs", "references", "api", "notebooks/02_stability")
OWN += ("notebooks/03_width", "docs/statistics", "docs/use")


@pytest.fixture(scope="module", autouse=True)
def built():
    if not (HTML / "index.html").exists():
        pytest.skip("there is no site: run `make site`")


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def page(chromium):
    """A page on a desktop; what its console or the network says must not be an error."""
    opened = chromium.new_page(viewport=browser.DESKTOP)
    said = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else said.append(r.url))
    opened.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    yield opened
    opened.close()
    assert said == []


def visit(page, name: str, anchor: str = ""):
    page.goto((HTML / f"{name}.html").as_uri() + anchor)
    page.wait_for_load_state()


class Page(HTMLParser):
    """The links, pictures, scripts and ids of a page."""

    def __init__(self, file):
        super().__init__()
        self.links, self.loads, self.pictures, self.ids = [], [], [], set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(given["href"])
        if tag == "img":
            self.pictures.append(given)


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_a_network():
    files = {file: Page(file) for file in HTML.rglob("*.html") if "_static" not in file.parts}
    broken, links = [], 0
    for file, parsed in files.items():
        broken += [
            (file.name, load) for load in parsed.loads if re.match(r"\w+:|//", load) and not load.startswith("data:")
        ]
        for link in [*parsed.links, *parsed.loads]:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("#key=") or not link:
                continue
            links += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchor = unquote(parts.fragment)
            if not target.exists():
                broken.append((file.name, link))
            elif anchor and target in files and "=" not in anchor and anchor not in files[target].ids:
                broken.append((file.name, link))
    assert links > 2000 and broken == []


def test_every_picture_has_an_alternative_text_and_the_site_is_small():
    pictures = [
        (file.name, p) for file in HTML.rglob("*.html") for p in Page(file).pictures if "_static" not in file.parts
    ]
    assert len(pictures) > 140 and [p for p in pictures if not (p[1].get("alt") or "").strip()] == []
    assert sum(file.stat().st_size for file in HTML.rglob("*") if file.is_file()) < 30e6


# What ends beyond the right edge, and is in nothing that scrolls; MathJax keeps a copy of formulas that nobody sees.
CUT_OFF = """() => [...document.querySelectorAll(".bd-article-container *")].filter((element) => {
  const edge = document.documentElement.clientWidth + 1, right = (e) => e.getBoundingClientRect().right;
  if (right(element) <= edge || element.closest("mjx-assistive-mml, svg, .visually-hidden, .square")) return false;
  for (let up = element.parentElement; up; up = up.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(up).overflowX)) return right(up) > edge;
  return true;
}).map((element) => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 40)}`)"""


@pytest.mark.parametrize("name", OWN)
def test_a_page_fits_a_desktop_and_a_phone_without_an_error(page, name):
    for size in (browser.DESKTOP, browser.PHONE):
        page.set_viewport_size(size)
        visit(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(CUT_OFF) == []
        assert (
            page.evaluate("[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)") == []
        )


def test_formulas_are_drawn(page):
    visit(page, "notebooks/02_stability")
    page.wait_for_function("document.querySelectorAll('mjx-container').length > 40")
    assert page.locator("mjx-merror").count() == 0


def test_the_claims_are_filtered_and_sorted(page):
    visit(page, "claims")
    shown = page.locator("#table-of-claims tbody tr:visible")
    every = shown.count()
    page.get_by_label("filter the claims").fill("theorem 9")
    assert 0 < shown.count() < every
    assert all("theorem" in text.lower() and "9" in text for text in shown.all_text_contents())
    page.get_by_label("filter the claims").fill("")
    page.get_by_label("verdict", exact=True).select_option("contradicted")
    assert 0 < shown.count() < every
    assert set(page.locator("#table-of-claims tbody tr:visible td[data-label=verdict]").all_inner_texts()) == {
        "contradicted"
    }
    page.get_by_label("verdict", exact=True).select_option("")
    page.get_by_role("button", name="seeds").click()
    page.get_by_role("button", name="seeds").click()
    seeds = [int(text) for text in page.locator("#table-of-claims td[data-label=seeds]").all_inner_texts() if text]
    assert seeds == sorted(seeds, reverse=True) and len(seeds) > 20


def test_a_reviewer_audits_a_claim_from_the_front_page(page):
    """From its square to its row with condition and command, to its figure, to its data and its records."""
    visit(page, "index")
    page.locator('a.square[href="claims.html#3a-fixed-trend"]').click()
    row = page.locator('tr[id="3a-fixed-trend"]')
    assert row.locator("details[open] pre").inner_text().startswith("python -m lib.sweep mnist_fixed_radius")
    assert "condition" in row.inner_text() and "reproduced" in row.inner_text()
    row.get_by_role("link", name="Figure 3, fixed").click()
    figure = page.locator("figure#fig03_fixed")
    assert "Figure 3, fixed." in figure.inner_text() and "reproduced" in figure.inner_text()
    figure.get_by_role("link", name="the cell that made it").click()
    assert page.url.endswith("#cell-fig03_fixed")
    figure.get_by_role("link", name=re.compile(r"\d+ records")).click()
    rows = page.locator("#table-of-runs tbody tr:visible")
    rows.first.wait_for()
    assert 100 < rows.count() < 300 and "behind figure fig03_fixed" in page.locator("#only").inner_text()
    rows.first.locator("a").first.click()
    page.wait_for_selector("#curves .trace")
    assert (
        "lib.runs show" in page.locator("#record").inner_text()
        and "test_accuracy" in page.locator("#record").inner_text()
    )


def test_a_teacher_shows_section_4(page):
    """From the front page to the stability map; the verdict of Theorem 9 follows the sliders."""
    visit(page, "index")
    page.get_by_role("link", name="stability map").click()
    said = page.locator("#s-said", has_text="The second moment")
    said.wait_for()
    page.locator("#s-eta").fill("5")
    page.locator("#s-rho").fill("5")
    assert "is stable" in said.inner_text() and "promises stability" in said.inner_text()
    page.locator("#s-eta").fill("45")
    page.locator("#s-rho").fill("45")
    assert (
        "grows" in said.inner_text() and "promises nothing" in said.inner_text() and "(violated)" in said.inner_text()
    )


def test_a_student_changes_an_experiment(page):
    """From the front page to the pieces, to the source of the one that is changed."""
    visit(page, "index")
    page.get_by_role("link", name="how to use the pieces").click()
    page.get_by_role("link", name="lib/sam.py").first.click()
    assert "class SAM" in page.locator("article").inner_text()
    visit(page, "CONTRIBUTING")
    page.get_by_role("link", name="figures.py").first.click()
    assert "FIGURES" in page.locator("article").inner_text()


def test_gaps_and_intervals_follow_rho_seeds_and_protocol(page):
    visit(page, "explore")
    said = page.locator("#w-said")
    every = said.inner_text()
    assert "14 seeds" in every
    page.locator("#w-rho").select_option("0.1")
    changed = said.inner_text()
    assert changed != every
    page.locator("#w-rho").select_option("both")
    assert said.inner_text() not in (every, changed)
    page.locator("#w-seeds").select_option("1")
    assert "one seed has no interval" in said.inner_text()
    means = page.evaluate("[meanOf([1, 2, 4], EXPLORED.width.student), meanOf([3], [])]")
    assert means[0]["mean"] == pytest.approx(7 / 3) and means[1]["half"] is None
    # t for ν = 2 is 4.302653, the standard error √(7/3)/√3
    assert means[0]["half"] == pytest.approx(4.302653 * (7 / 3 / 3) ** 0.5, rel=1e-5)


def test_a_point_says_its_run_and_leads_to_it(page):
    visit(page, "explore")
    page.wait_for_selector("#w-gap .points path")
    page.locator("#w-gap").scroll_into_view_if_needed()
    box = page.locator("#w-gap .points path").nth(2).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hovered = page.locator("#w-gap .hoverlayer text").first
    hovered.wait_for()
    assert re.search(r"seed \d+, width [\d.]+, ρ = 0.05, record [0-9a-f]{16}", hovered.text_content())
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"runs\.html#key=[0-9a-f]{16}$"))
    page.wait_for_selector("#curves .trace")


def test_sam_bounces_on_the_page_as_in_the_library(page):
    visit(page, "explore")
    path = page.evaluate("bounces([0.3, 0.2], [1, 0.5], 0.1, 0.1, 60)")
    expected = bouncing.trajectory([0.3, 0.2], [1.0, 0.5], eta=0.1, rho=0.1, steps=60)
    assert np.allclose(path, expected, rtol=1e-9, atol=1e-12)
    page.locator("#b-rho").fill("1")
    assert "±0.0526" in page.locator("#b-said").inner_text()
    assert page.locator("#l-network option").count() >= 2
    page.locator("#l-network").select_option("1")
    assert "SAM" in page.locator("#l-map .gtitle").text_content()
