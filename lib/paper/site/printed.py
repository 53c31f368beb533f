"""The whole site as one PDF for who annotates: Sphinx's single page, printed by a Chromium of the distribution."""

import re
import shutil
import subprocess
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCRIPTED = re.compile(r'<script src="(?:\.\./)?(?:plotly|data/|_static/(?:runs|explore))[^>]*></script>')
WITHIN = re.compile(r'href="(?:\.\./)?(?:[\w/]+\.html)?#')  # to an anchor on another page, which is on this one now
SECONDS = 300


class PrintError(RuntimeError):
    """There is no browser to print with, or it printed nothing."""


def browser() -> str | None:
    """The path of a Chromium; None if there is none."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def single(text: str) -> str:
    """The single page as it is to be printed from the site's root: every picture loaded, no script that makes tables.

    >>> single('<a href="claims.html#x"><img src="../a.png" loading="lazy"></a><script src="data/runs.js"></script>')
    '<a href="#x"><img src="a.png"></a>'
    """
    text = WITHIN.sub('href="#', SCRIPTED.sub("", text).replace(' loading="lazy"', ""))
    return text.replace('src="../', 'src="').replace('href="../', 'href="')


def to_pdf(page: Path, site: Path, pdf: Path) -> None:
    """Print Sphinx's single page, with the pictures and scripts of the site, to a PDF. PrintError if that fails."""
    program = browser()
    if program is None:
        raise PrintError(
            f"a PDF is printed by one of {', '.join(BROWSERS)}; install one, such as `apt-get install chromium`"
        )
    whole = site / "print.html"
    whole.write_text(single(page.read_text(encoding="utf-8")), encoding="utf-8")
    pdf.unlink(missing_ok=True)
    command = [program, "--headless", "--no-sandbox", "--no-pdf-header-footer", "--virtual-time-budget=60000"]
    try:
        subprocess.run([*command, f"--print-to-pdf={pdf}", whole.as_uri()], capture_output=True, timeout=SECONDS)
    finally:
        whole.unlink()
    if not pdf.exists():
        raise PrintError(f"{program} printed no PDF")
