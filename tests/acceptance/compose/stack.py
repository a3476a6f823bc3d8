"""`docker compose up` and `down` on processes: in the order and under the conditions of depends_on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from tests.acceptance.compose.container import Container, Ports
from tests.acceptance.compose.image import stages
from tests.acceptance.compose.project import Service
from tests.servers.processes import free_port


class Stack:
    """Every service that a command starts, each replica a process.

    Arguments:
        services: those that are run; what they reach besides is in `ports`.
        ports: (service, its port) to the local port that stands for it.
    """

    def __init__(self, services: Mapping[str, Service], folder: Path, ports: Ports) -> None:
        self.services = services
        self.folder = folder
        self._ports = ports
        image = stages()[-1]
        image.lay_out(folder / "image")
        (folder / "app").symlink_to(folder / "image" / image.workdir.relative_to("/"))
        self.containers = {
            name: [
                Container(
                    service,
                    number,
                    image=image if service.is_ours else None,
                    ports=ports,
                    folder=folder,
                )
                for number in range(1, service.replicas + 1)
            ]
            for name, service in services.items()
        }
        self._batches = _batches(services)

    def address(self, name: str) -> str:
        """Where the service's published port is here."""
        [(_, _, port)] = self.services[name].ports
        return f"http://127.0.0.1:{self._ports[name, port]}"

    def port(self, name: str, port: int) -> int:
        return self._ports[name, port]

    def all(self) -> list[Container]:
        return [container for replicas in self.containers.values() for container in replicas]

    def up(self) -> None:
        """Start everything, and wait until all of it is healthy or has completed."""
        for batch in self._batches:
            for name in batch:
                for other, condition in self.services[name].depends_on.items():
                    self._wait(other, condition)
            for name in batch:
                for container in self.containers[name]:
                    if not container.service.one_shot:
                        assert not container.is_healthy(), f"{container.name} is healthy before it runs"
                    container.start()
        for name, service in self.services.items():
            self._wait(name, "service_completed_successfully" if service.one_shot else "service_healthy")

    def down(self) -> dict[str, int]:
        """Stop what runs, the last started first; the exit codes by name."""
        codes = {}
        for batch in reversed(self._batches):
            running = [
                container
                for name in batch
                for container in self.containers[name]
                if not container.service.one_shot
            ]
            for container in running:
                container.ask_to_stop()
            codes |= {container.name: container.wait_stopped() for container in running}
        return codes

    def kill(self) -> None:
        for container in self.all():
            container.kill()

    def tails(self) -> str:
        return "\n\n".join(container.tail() for container in self.all())

    def _wait(self, name: str, condition: str) -> None:
        for container in self.containers[name]:
            if condition == "service_healthy":
                container.wait_healthy()
            else:
                assert condition == "service_completed_successfully", f"not known to this test: {condition}"
                container.wait_completed()


def local_ports(services: Collection[Service]) -> dict[tuple[str, int], int]:
    """A free port for each that is published, and for each by which services reach each other."""
    found: set[tuple[str, int]] = set()
    names = "|".join(service.name for service in services)
    for service in services:
        found |= {(service.name, inside) for _, _, inside in service.ports}
        for value in service.environment.values():
            found |= {(name, int(port)) for name, port in re.findall(rf"\b({names}):(\d+)", value)}
    return {port: free_port() for port in found}


def _batches(services: Mapping[str, Service]) -> list[list[str]]:
    """The services in the order of depends_on; those of a batch start together."""
    sorter = TopologicalSorter({name: set(service.depends_on) for name, service in services.items()})
    sorter.prepare()
    batches = []
    while sorter.is_active():
        batches.append(sorted(sorter.get_ready()))
        sorter.done(*batches[-1])
    return batches
