"""The rules for pip, Docker, systemd and Kubernetes, which are not run: what they name must be there.

The page's own files lie in the folder where its commands are typed (see `shell.Shell.run`).
"""

from __future__ import annotations

import argparse
from importlib.metadata import metadata
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
#: The commands of `docker compose` that pages may use, with their options.
COMPOSE = {
    "up": ("build", "detach"),
    "down": ("volumes",),
    "restart": (),
    "logs": ("follow",),
    "ps": (),
    "exec": (),
    "run": ("rm",),
}
SYSTEMCTL = ("daemon-reload", "enable", "disable", "start", "stop", "restart", "status", "is-active")
KUBECTL = ("apply", "rollout", "logs", "get", "exec", "scale")


def pip(arguments: list[str]) -> int:
    """`pip install` of this package: with extras that it has."""
    parser = argparse.ArgumentParser(prog="pip")
    parser.add_argument("command", choices=("install",))
    parser.add_argument("requirements", nargs="+")
    for requirement in parser.parse_args(arguments).requirements:
        name, _, extras = requirement.rstrip("]").partition("[")
        assert name in (".", "celery-redis-expiry"), f"no rule for pip install {requirement}"
        known = set(metadata("celery-redis-expiry").get_all("Provides-Extra") or ())
        assert set(filter(None, extras.split(","))) <= known, f"{requirement}: there are {known}"
    return 0


def docker(arguments: list[str]) -> int:
    """`docker compose`, of services and profiles that the file has; what runs in one has its own rule."""
    parser = argparse.ArgumentParser(prog="docker")
    parser.add_argument("compose", choices=("compose",))
    parser.add_argument("--profile")
    parser.add_argument("command", choices=COMPOSE)
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    rest = argparse.ArgumentParser(prog=f"docker compose {options.command}")
    for flag in COMPOSE[options.command]:
        rest.add_argument(f"--{flag}", action="store_true")
    rest.add_argument("--scale", type=lambda text: text.partition("=")[0])
    rest.add_argument("words", nargs=argparse.REMAINDER)
    found = rest.parse_args(options.rest)

    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    assert options.profile in {None, *profiles}, f"the profiles are {profiles}"
    inside = options.command in ("exec", "run")
    named = {found.scale, *(found.words[:1] if inside else found.words)} - {None}
    assert named <= set(services), f"the services are {set(services)}"
    if inside:
        from tests.docs.commands import RULES  # which has this rule among its own

        return RULES[found.words[1]](found.words[2:])
    return 0


def systemctl(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="systemctl")
    parser.add_argument("--now", action="store_true")
    parser.add_argument("command", choices=SYSTEMCTL)
    parser.add_argument("units", nargs="*", type=unit)
    parser.parse_intermixed_args(arguments)
    return 0


def journalctl(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="journalctl")
    parser.add_argument("-u", "--unit", type=unit, required=True)
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--lines", type=int)
    parser.add_argument("-p", "--priority")
    parser.add_argument("--since")
    parser.parse_intermixed_args(arguments)
    return 0


def unit(name: str) -> str:
    """`expiry@1` and `expiry@*` are instances of expiry@.service."""
    base, template, _ = name.removesuffix(".service").partition("@")
    file = f"{base}{template}" + ("" if "." in base else ".service")
    if not Path(file).exists():
        raise argparse.ArgumentTypeError(f"the page has no {file}")
    return name


def kubectl(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="kubectl")
    parser.add_argument("command", choices=KUBECTL)
    parser.add_argument("-f", "--filename", type=Path)
    parser.add_argument("-l", "--selector")
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("words", nargs="*")
    options, typed = parser.parse_known_args(arguments)
    objects = [part for file in Path().glob("*.yaml") for part in yaml.safe_load_all(file.read_text())]
    names = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects}
    labels = {f"{key}={value}" for one in objects for key, value in labels_of(one).items()}
    assert typed in ([], ["--"]) or typed[0] == "--", f"no rule for kubectl {typed}"
    assert options.filename is None or options.filename.exists(), f"the page has no {options.filename}"
    assert options.selector is None or options.selector in labels, f"no pod is labelled {options.selector}"
    named = {word for word in options.words if "/" in word}
    assert named <= names, f"the page has no {named - names}"
    return 0


def labels_of(manifest: dict[str, object]) -> dict[str, str]:
    """The labels of the pods that a Deployment makes."""
    spec: object = manifest.get("spec")
    template = spec.get("template", {}) if isinstance(spec, dict) else {}
    found: dict[str, str] = template.get("metadata", {}).get("labels", {})
    return found
