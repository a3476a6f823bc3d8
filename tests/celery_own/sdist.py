"""Celery's tests: from its source distribution, which is downloaded, and of which nothing is kept here."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import celery

#: What the tests need beside what is installed here, named where Celery names it.
REQUIREMENTS = ("requirements/test.txt", "requirements/extras/pydantic.txt")
WANTED = re.compile(r"(pytest-rerunfailures|pytest-order|pydantic)\b")


def fetch(folder: Path) -> Path:
    """Unpack the tests of the installed Celery, and what they need.

    Returns:
        A folder with `t`, Celery's tests as they were released, and `overlay`, packages for PYTHONPATH.
        Celery itself is the installed one: its code in the source distribution is left out.
    """
    target = folder / f"celery-{celery.__version__}"
    done = target / "done"
    if not done.exists():
        _pip("download", "--no-deps", "--no-binary", "celery", "-d", folder, f"celery=={celery.__version__}")
        with tarfile.open(folder / f"celery-{celery.__version__}.tar.gz") as archive:
            for member in archive.getmembers():
                if member.name.startswith((f"{target.name}/t/", f"{target.name}/requirements/")) or (
                    member.name == f"{target.name}/pyproject.toml"
                ):
                    archive.extract(member, folder, filter="data")
        _pip("install", "--target", target / "overlay", *_requirements(target))
        done.touch()
    return target


def _requirements(target: Path) -> list[str]:
    lines = [line for name in REQUIREMENTS for line in (target / name).read_text().splitlines()]
    return [line for line in lines if WANTED.match(line)]


def _pip(*arguments: str | Path) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", arguments[0], *quiet, *arguments[1:]], check=True, timeout=600
    )
