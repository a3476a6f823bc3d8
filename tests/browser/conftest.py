"""One headless Chromium a session, and a page of its own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BINARIES = ("chromium", "chromium-browser", "google-chrome")
# as root a sandbox is refused; the rest keeps it from asking the world outside
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pictures", type=Path, metavar="FOLDER", help="where tests leave pictures for the docs"
    )


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the pictures of this test go: to the docs where that is asked for."""
    # not known where pytest was not started on this folder
    folder: Path = request.config.getoption("--pictures", default=None) or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """No longer than a file: while it is there, an event loop runs in this thread, and it would be in the way
    of other files' tests."""
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    if binary is None:
        missing("no Chromium found: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install -e '.[browser]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page with a profile of its own: `new_page(color_scheme="dark", viewport={…})`.

    A script error in a page fails the test.
    """
    contexts: list[Any] = []
    errors: list[str] = []

    def new(**options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        context = chromium.new_context(timezone_id="UTC", **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page: Page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield new
    for context in contexts:
        context.close()
    assert not errors, f"script errors: {errors}"


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()
