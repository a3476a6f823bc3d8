"""The image as far as it can be built without Docker: its instructions, and the files its COPYs bring."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.servers.redis import REPOSITORY

DOCKERFILE = REPOSITORY / "example_project" / "Dockerfile"
IGNORED = DOCKERFILE.with_name("Dockerfile.dockerignore")


@dataclass
class Stage:
    """What the instructions of one stage come to.

    Attributes:
        copies: sources in the build context, and where they go.
        taken: stage, path there and path here of what comes from another stage.
    """

    base: str
    name: str | None
    workdir: PurePosixPath = PurePosixPath("/")
    env: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    command: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    copies: list[tuple[list[str], PurePosixPath]] = field(default_factory=list)
    taken: list[list[str]] = field(default_factory=list)

    def lay_out(self, root: Path) -> None:
        """Copy from the build context what the COPYs name, to where they put it below `root`.

        Raises:
            FileNotFoundError: when an instruction copies what is not there, or what .dockerignore hides.
        """
        for sources, target in self.copies:
            for source in sources:
                files = context_files(source)
                if not files:
                    raise FileNotFoundError(f"COPY {source}: nothing of it is in the build context")
                for file in files:
                    # a folder's content goes to the target, a file keeps its name
                    below = file.relative_to(source) if file != PurePosixPath(source) else file.name
                    place = root / target.relative_to("/") / below
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(REPOSITORY / file, place)


def stages() -> list[Stage]:
    """The Dockerfile's stages. An instruction that is not known here is an error: teach it first."""
    found: list[Stage] = []
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, rest = line.split(None, 1)
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name or None))
            continue
        stage = found[-1]
        match instruction:
            case "WORKDIR":
                stage.workdir = stage.workdir / rest
            case "ENV":
                stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "USER":
                stage.user = rest
            case "CMD":
                stage.command = json.loads(rest)
            case "RUN":
                stage.runs.append(rest)
            case "COPY" if rest.startswith("--from="):
                stage.taken.append(rest.removeprefix("--from=").split())
            case "COPY":
                *sources, target = rest.split()
                stage.copies.append((sources, stage.workdir / target))
            case _:
                raise ValueError(f"not known to this test: {line}")
    return found


def context_files(source: str) -> list[PurePosixPath]:
    """The files at or below a path of the build context that .dockerignore lets through."""
    path = REPOSITORY / source
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    inside = [PurePosixPath(file.relative_to(REPOSITORY)) for file in files]
    return [file for file in inside if not is_ignored(str(file))]


def is_ignored(path: str) -> bool:
    """As Docker decides: the last pattern counts that matches the path or a folder above it."""
    ignored = False
    for line in IGNORED.read_text().split():
        pattern = line.removeprefix("!")
        expression = "".join(
            {"**/": "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part))
            for part in re.split(r"(\*\*/|\*)", pattern)
        )
        if re.match(f"{expression}(?:/|$)", path):
            ignored = not line.startswith("!")
    return ignored
