"""A headless Chromium for tests: one of the distribution, driven by Playwright; absent where either is."""

from contextlib import contextmanager

import pytest

from lib.paper.site import printed

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = printed.browser()
    if program is None:
        pytest.skip(f"none of {', '.join(printed.BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
