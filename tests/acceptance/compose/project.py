"""docker-compose.yml as Compose reads it: anchors resolved, variables put in, durations in seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from tests.servers.redis import REPOSITORY

FILE = REPOSITORY / "docker-compose.yml"
GUIDE = "docs/deploying/compose.md"
#: The image that is built from the example's Dockerfile.
OURS = "celery-redis-expiry-example"
DEFAULT_GRACE = 10.0
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+):-(?P<default>[^}]*)\})")
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Service:
    """One service, by what this project uses of Compose."""

    name: str
    spec: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        return bool(self.spec["image"] == OURS)

    @property
    def profiles(self) -> list[str]:
        return list(self.spec.get("profiles", ()))

    @property
    def one_shot(self) -> bool:
        """Whether it is to end by itself, as a migration does."""
        return bool(self.spec.get("restart") == "no")

    @property
    def command(self) -> list[str]:
        """Its own command; empty where it is the image's."""
        return list(self.spec.get("command", ()))

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.spec.get("environment", {}))

    @property
    def depends_on(self) -> dict[str, str]:
        """Name to condition."""
        return {name: how["condition"] for name, how in self.spec.get("depends_on", {}).items()}

    @property
    def ports(self) -> list[tuple[str, int, int]]:
        """What is published: host address, host port, container port."""
        triples = [port.split(":") for port in self.spec.get("ports", ())]
        return [(host, int(outside), int(inside)) for host, outside, inside in triples]

    @property
    def mounts(self) -> dict[str, str]:
        """Path in the container to the volume's name."""
        return {path: name for name, path in (volume.split(":") for volume in self.spec.get("volumes", ()))}

    @property
    def healthcheck(self) -> Mapping[str, Any]:
        return dict(self.spec.get("healthcheck", {}))

    @property
    def health_command(self) -> list[str]:
        kind, *rest = self.healthcheck["test"]
        if kind == "CMD":
            return rest
        assert kind == "CMD-SHELL", f"{self.name}: {kind} is no kind of health check that is known here"
        return ["/bin/sh", "-c", *rest]

    @property
    def deploy(self) -> Mapping[str, Any]:
        return dict(self.spec.get("deploy", {}))

    @property
    def replicas(self) -> int:
        return int(self.deploy.get("replicas", 1))

    @property
    def grace(self) -> float:
        """Seconds between the stop signal and SIGKILL."""
        given = self.spec.get("stop_grace_period")
        return seconds(given) if given else DEFAULT_GRACE

    @property
    def is_worker(self) -> bool:
        return "worker" in self.command


@dataclass(frozen=True)
class Project:
    """The whole file, with the variables that `docker compose` would find in its environment."""

    variables: Mapping[str, str]

    @cached_property
    def content(self) -> dict[str, Any]:
        return dict(self._put_in(yaml.safe_load(FILE.read_text())))

    @cached_property
    def services(self) -> dict[str, Service]:
        return {name: Service(name, spec) for name, spec in self.content["services"].items()}

    def enabled(self, *profiles: str) -> dict[str, Service]:
        """What `docker compose up` starts, given the profiles."""
        return {
            name: service
            for name, service in self.services.items()
            if not service.profiles or set(profiles) & set(service.profiles)
        }

    def _put_in(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._put_in(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._put_in(inner) for inner in value]
        return interpolate(value, self.variables) if isinstance(value, str) else value


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put variables in. Each has a default here, so that the file works without any: `${NAME:-default}`."""
    rest = VARIABLE.sub("", text)
    assert "$" not in rest, f"neither ${{NAME:-default}} nor $$: {text!r}"

    def value(found: re.Match[str]) -> str:
        return "$" if found["dollar"] else variables.get(found["name"]) or found["default"]

    return VARIABLE.sub(value, text)


def seconds(duration: str) -> float:
    """A duration as Compose writes it: `90s`, `1m30s`."""
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration)
    assert "".join(number + unit for number, unit in parts) == duration, f"not a duration: {duration!r}"
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def megabytes(size: str) -> int:
    """A size as Compose (`512M`) and Redis (`256mb`) write it."""
    found = re.fullmatch(r"(\d+)m(b?)", size.lower())
    assert found, f"not in megabytes: {size!r}"
    return int(found[1])
