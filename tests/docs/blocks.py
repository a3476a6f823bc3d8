"""The code blocks of README and documentation, as a reader of Markdown sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from tests.servers.redis import REPOSITORY

NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: its file, from the repository's root.
        line: of its first line of code, from 1.
        language: the first word after the fence; empty without one, and for an indented block.
        title: the name of the file it is, if the fence says so.
        reason: why it is not run, if the comment before it says so.
    """

    page: str
    line: int
    language: str
    title: str
    code: str
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that a user reads, from the repository's root."""
    folders = (REPOSITORY / "docs", REPOSITORY / "example_project", REPOSITORY / "benchmarks")
    found = [*REPOSITORY.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    return sorted(page.relative_to(REPOSITORY).as_posix() for page in found)


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order."""
    return list(read(page, (REPOSITORY / page).read_text(encoding="utf-8")))


def read(page: str, text: str) -> Iterator[Block]:
    reason = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block") and token.map:
            fenced = token.type == "fence"
            words = token.info.split() if fenced else []
            title = TITLE.search(token.info)
            yield Block(
                page,
                token.map[0] + (2 if fenced else 1),
                words[0] if words else "",
                title[1] if title else "",
                token.content,
                reason,
            )
        said = NOT_RUN.search(token.content) if token.type == "html_block" else None
        reason = said[1] if said else ""
