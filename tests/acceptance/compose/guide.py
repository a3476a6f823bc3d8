"""The commands of docs/deploying/compose.md, as far as they can be checked without an engine.

What is typed into a container (`exec`, `run`) is returned, to be run in the process that stands for it.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

from tests.acceptance.compose.project import FILE, Project
from tests.servers.redis import REPOSITORY

GUIDE = REPOSITORY / "docs" / "deploying" / "compose.md"
Inside = tuple[str, list[str]]


def commands() -> Iterator[list[str]]:
    """Every command of the guide, in words."""
    for block in re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        yield from map(shlex.split, block.splitlines())


def check(words: list[str]) -> Inside | None:
    """Check one command's names; the service and command where it is one for inside a container.

    Raises:
        SystemExit: when it names what is not there.
    """
    match words:
        case ["export", assignment]:
            assert "${" + assignment.partition("=")[0] + ":-" in FILE.read_text(), assignment
            return None
        case ["docker", "compose", *arguments]:
            return compose(arguments)
    raise AssertionError(f"no rule for {words}")


def compose(arguments: list[str]) -> Inside | None:
    """`docker compose` with the options that this project's documentation uses."""
    services = Project({}).services
    profiles = {profile for service in services.values() for profile in service.profiles}
    parser = argparse.ArgumentParser(prog="docker compose")
    parser.add_argument("--profile", choices=sorted(profiles))
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument("--build", action="store_true")
    up.add_argument("--detach", action="store_true")
    up.add_argument("--scale", type=lambda text: _scale(text, set(services)))
    for name in ("ps", "down"):
        commands.add_parser(name)
    for name in ("logs", "restart"):
        command = commands.add_parser(name)
        command.add_argument("service", choices=services)
        command.add_argument("--follow", action="store_true")
    for name in ("exec", "run"):
        command = commands.add_parser(name)
        command.add_argument("--rm", action="store_true")
        command.add_argument("service", choices=services)
        command.add_argument("inside", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    return (options.service, options.inside) if "inside" in options else None


def _scale(text: str, services: set[str]) -> str:
    name, _, number = text.partition("=")
    if name not in services or not number.isdigit():
        raise argparse.ArgumentTypeError(f"not a service and a number: {text}")
    return text
