"""The site builds, every link and anchor in it is good, and it needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import celery_redis_expiry
from tests.conftest import missing
from tests.docs.blocks import pages
from tests.servers.redis import REPOSITORY

#: What a browser fetches by itself; a link that one may follow is not among it.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]* src(?:set)?="?([^"\s>]+)|<link[^>]* href="?([^"\s>]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None:
        missing("no mkdocs found: install the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def html(site: Path) -> dict[str, str]:
    return {
        page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")
    }


def test_every_page_is_on_it(site: Path) -> None:
    elsewhere = {"README.md", "CHANGELOG.md", "example_project/README.md"}
    elsewhere |= {"benchmarks/README.md", "benchmarks/results/RESULTS.md"}
    there = {page.removeprefix("docs/").replace(".md", ".html") for page in pages() if page not in elsewhere}
    there |= {"index.html", "changes.html", "example.html", "benchmarks.html", "how-it-measures.html"}
    assert there <= set(html(site))


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    reference = html(site)["api.html"]
    absent = [
        name for name in celery_redis_expiry.__all__ if f'id="celery_redis_expiry.{name}"' not in reference
    ]
    assert not absent


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = {url for text in html(site).values() for match in FETCHED.findall(text) for url in match if url}
    assert fetched, "the pattern finds nothing"
    assert not [url for url in fetched if "//" in url]
    assert not [style for style in site.rglob("*.css") if "url(http" in style.read_text(encoding="utf-8")]


def test_no_markdown_shows_through(site: Path) -> None:
    """In a list Python-Markdown wants four spaces where GitHub takes three: else a fence stays text."""
    for page, text in html(site).items():
        prose = re.sub(r"<(script|code|pre)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert "```" not in prose, f"{page} has a fence that is none"
        assert not re.search(r"<p>\s*\|", prose), f"{page} has a table that is none"


def test_an_unknown_link_fails_the_build(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None:
        missing("no mkdocs found: install the extra docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[away](gone.md), [nowhere](#nowhere)\n")
    config = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    kept = config.partition("\nvalidation:")[2].partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: a\nvalidation:{kept}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "#nowhere" in done.stderr
