"""The Dockerfile: what it copies is there, what it installs is ours, and it does not end as root."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.acceptance.compose.image import is_ignored, stages
from tests.servers.redis import REPOSITORY


def test_the_package_is_built_from_what_is_copied(tmp_path: Path) -> None:
    packages = stages()[0]
    packages.lay_out(tmp_path)
    source = tmp_path / packages.workdir.relative_to("/")
    assert (source / "requirements.txt").exists()
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "dist")]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    built = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = (REPOSITORY / "celery_redis_expiry").rglob("*")
    assert built == {
        str(path.relative_to(REPOSITORY)) for path in ours if path.is_file() and path.suffix != ".pyc"
    }


def test_what_it_installs_is_what_the_tests_run_with() -> None:
    [local] = [run for run in stages()[0].runs if '".[' in run]
    extras = re.findall(r'"\.\[([\w,]+)\]"', local)[0].split(",")
    assert set(extras) <= set(distribution("celery-redis-expiry").metadata.get_all("Provides-Extra"))
    [required] = [run for run in stages()[0].runs if "-r " in run]
    assert required.endswith("-r requirements.txt")
    lines = (REPOSITORY / "example_project" / "requirements.txt").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(version(requirement.name)), line


def test_it_is_not_root_and_its_packages_fit() -> None:
    packages, last = stages()
    assert packages.base == last.base, "a virtual environment needs the Python that made it"
    assert packages.runs[0] == "python -m venv /venv"
    assert last.taken == [[packages.name, "/venv", "/venv"]]
    assert re.fullmatch(r"[1-9]\d*", last.user), "a number, so that Kubernetes can see that it is not root"
    assert any(f"useradd --uid {last.user} " in run for run in last.runs)
    assert packages.env["PATH"] == last.env["PATH"] == "/venv/bin:$PATH"
    assert last.env["PYTHONUNBUFFERED"], "logs would come late, and those of a crash never"


def test_the_app_has_the_program_and_no_leavings(tmp_path: Path) -> None:
    last = stages()[-1]
    last.lay_out(tmp_path)
    app = tmp_path / last.workdir.relative_to("/")
    assert (app / "manage.py").exists()
    assert not [path for path in app.rglob("*") if "__pycache__" in path.parts or ".sqlite3" in path.name]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("pyproject.toml", False),
        ("celery_redis_expiry/lua/claim.lua", False),
        ("example_project/shop/__pycache__/celery.cpython-313.pyc", True),
        ("example_project/db.sqlite3-wal", True),
        (".venv/bin/python", True),
        (".git/config", True),
        ("tests/conftest.py", True),
        (".env", True),
        ("example_project/.env", True),
    ],
)
def test_the_build_context(path: str, ignored: bool) -> None:
    assert is_ignored(path) is ignored
