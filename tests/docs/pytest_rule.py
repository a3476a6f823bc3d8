"""A page with a conftest.py: its Python files are a project, whose tests pytest runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.docs.blocks import Block

#: What the tests of a project that has workers have from Celery; the last makes the task that workers answer.
CELERYS = ("-p", "celery.contrib.pytest", "-p", "celery.contrib.testing.tasks")


def files_of(blocks: Sequence[Block]) -> list[Block]:
    """The files of the project that a page describes; none where it does not."""
    files = [block for block in blocks if block.language == "python" and block.title.endswith(".py")]
    return files if any(block.title == "conftest.py" for block in files) else []


def run(files: Sequence[Block], folder: Path) -> None:
    """Every file of tests has tests, and all pass."""
    project = folder / "project"
    project.mkdir()
    for block in files:
        (project / block.title).write_text(block.code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *CELERYS],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{files[0].page}: {done.stdout}{done.stderr}"
    for block in files:
        assert not block.title.startswith("test_") or f"PASSED {block.title}::" in done.stdout, block.place
