"""Make each peer's environment: `python -m benchmarks.peers.install [name …]`.

A peer that can't be installed here (another Python, no node, no network) is left out with its reason: the run
goes on without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.peers import ENVIRONMENTS, FAILED

REQUIREMENTS = Path(__file__).parent / "requirements"
#: Peers that need a newer Python than we do.
PYTHONS = {"celery-redis-plus": (3, 13)}
PATIENCE = 600


def main() -> int:
    chosen = set(sys.argv[1:])
    files = [file for file in sorted(REQUIREMENTS.iterdir()) if not chosen or file.stem in chosen]
    with ThreadPoolExecutor(4) as pool:
        for file, why in zip(files, pool.map(install, files), strict=True):
            print(f"peers: {file.stem} {'installed' if why is None else f'left out: {why}'}", flush=True)
    return 0


def install(requirements: Path) -> str | None:
    """Make one environment anew; answers why it could not be made."""
    folder = ENVIRONMENTS / requirements.stem
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if requirements.suffix == ".json":
            _npm(requirements, folder)
        else:
            _pip(requirements, folder)
    except LookupError as exc:
        why = str(exc)
    except subprocess.SubprocessError as exc:
        # the cause is further up than the advice that both end with
        told = str(getattr(exc, "stderr", "") or exc).strip().splitlines()
        errors = [line for line in told if line.lower().startswith(("error", "npm err"))]
        why = (errors or told)[0][:200]
    else:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).write_text(why + "\n")
    return why


def _pip(requirements: Path, folder: Path) -> None:
    python = _python(PYTHONS.get(requirements.stem, (3, 10)))
    _run([python, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(requirements)])


def _npm(requirements: Path, folder: Path) -> None:
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise LookupError("no node with npm here")
    folder.mkdir(parents=True)
    shutil.copy(requirements, folder / "package.json")
    _run([npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-package-lock", "--no-audit"])


def _python(least: tuple[int, int]) -> str:
    """This Python, or the first that is new enough on the PATH or among pyenv's."""
    if sys.version_info[:2] >= least:
        return sys.executable
    newer = [(least[0], minor) for minor in range(least[1], least[1] + 4)]
    for version in newer:
        name = "python{}.{}".format(*version)
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
        found = [shutil.which(name), *sorted(pyenv.glob("{}.{}.*/bin/python".format(*version)))]
        for python in filter(None, found):
            # a shim of pyenv's may be there and refuse
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(python)
    raise LookupError("it needs Python {}.{}, which is not here".format(*least))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
