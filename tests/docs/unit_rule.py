"""systemd units: taken apart here, and by systemd itself where it is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.docs.blocks import Block
from tests.docs.world import World

#: What a unit that starts a worker must say: who it is, how long it may take to stop, what restarts it.
NEEDED = ("User", "WorkingDirectory", "ExecStart", "Restart", "TimeoutStopSec", "NoNewPrivileges")
#: What `systemd-analyze security` may find at most, of 10.
EXPOSURE = 2.5


def run(block: Block, world: World) -> None:
    assert block.title, f'{block.place}: which file is it? title="…"'
    unit = parse(block.code)
    file = world.folder / Path(block.title).name
    settings = unit["Service"]
    if file.suffix == ".service":
        assert not [name for name in NEEDED if name not in settings], f"{block.place} lacks some of {NEEDED}"
        assert settings["User"] != ["root"]
        _start(settings["ExecStart"][0], block, world)
    executable = shlex.split(settings["ExecStart"][0])[0] if "ExecStart" in settings else ""
    # systemd looks whether the program is there
    file.write_text(block.code.replace(executable, sys.executable) if executable else block.code)
    _ask_systemd(file, block)


def parse(text: str) -> dict[str, dict[str, list[str]]]:
    """Section → name → its values: a name may come twice, which `configparser` does not allow."""
    unit: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            unit[section][name].append(value)
    return unit


def _start(command: str, block: Block, world: World) -> None:
    """The command of instance 1, as systemd would give it to Celery, is one that Celery takes."""
    expanded = command.replace("%%", "\0").replace("%i", "1").replace("\0", "%")
    assert "%h" not in command.replace("%%h", ""), f"{block.place}: %h is systemd's own, Celery's is %%h"
    words = shlex.split(expanded)
    assert words[words.index("-n") + 1] == "expiry1@%h", words
    world.type(block, shlex.join([Path(words[0]).name, *words[1:]]))


def _ask_systemd(file: Path, block: Block) -> None:
    """Unknown settings and bad values are warnings on its stderr."""
    if shutil.which("systemd-analyze") is None:
        return
    name = file.name.replace("@.", "@1.")
    told = _analyze("verify", "--man=no", str(file.with_name(name)))
    assert not told.returncode, f"{block.place}: {told.stderr}"
    assert not told.stderr, f"{block.place}: {told.stderr}"
    if file.suffix == ".service":
        limit = f"--threshold={int(EXPOSURE * 10)}"
        told = _analyze("security", "--offline=true", "--no-pager", limit, str(file.with_name(name)))
        assert told.returncode == 0, f"{block.place}: {told.stdout[-300:]}"


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    )
