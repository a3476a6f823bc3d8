"""Every service of docker-compose.yml, run by its own command: what containers would do, without containers.

One stack a broker, for all tests of this file; the last one stops it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import redis

from tests.acceptance.compose.image import stages
from tests.acceptance.compose.project import GUIDE, Project, Service
from tests.acceptance.compose.stack import Stack, local_ports
from tests.conftest import missing
from tests.docs.blocks import blocks
from tests.servers import rabbitmq
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import REPOSITORY
from tests.waiting import eventually

open_url = build_opener(ProxyHandler({})).open

pytestmark = pytest.mark.timeout(200)


def ask(url: str, *, data: dict[str, str] | None = None, login: str = "") -> Any:
    """GET, or POST where there is data, and the JSON of the answer."""
    request = Request(url, data=urlencode(data).encode() if data else None)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    with open_url(request, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, up and healthy."""
    variables = {"REFERRAL_DELAY": "1"}
    if request.param == "rabbitmq":
        variables |= exported()
    project = Project(variables)
    ports = local_ports(project.services.values())
    with ExitStack() as cleanup:
        if request.param == "rabbitmq":
            server = start_rabbitmq(project.services["rabbitmq"])
            cleanup.callback(server.remove)
            ports["rabbitmq", 5672] = server.port
        stack = Stack(project.enabled(), tmp_path_factory.mktemp(request.param), ports)
        cleanup.callback(stack.kill)
        stack.up()
        yield stack


def exported() -> dict[str, str]:
    """The variables that the guide sets for RabbitMQ."""
    [assignment] = re.findall(r"^export (.+)$", (REPOSITORY / GUIDE).read_text(), re.MULTILINE)
    name, _, value = assignment.partition("=")
    return {name: value}


def start_rabbitmq(service: Service) -> RabbitMQServer:
    """A RabbitMQ as the service's environment makes it. What its image does besides is not tried here."""
    script = rabbitmq.find_server()
    if script is None:
        missing("no rabbitmq-server found: install RabbitMQ")
        raise AssertionError("unreachable")
    assert not service.command, "the service's own command is to be run here, too"
    server = RabbitMQServer(script, service.environment).start()
    server.run_tool(*service.health_command)
    return server


def test_every_service_is_run(stack: Stack) -> None:
    """Here, or as the server that the tests have of it."""
    assert {*stack.services, "rabbitmq"} == set(Project({}).services)
    assert len(stack.containers["expiry-worker"]) == 2


def test_a_referral_becomes_a_text(stack: Stack) -> None:
    referral = ask(stack.address("web") + "/referrals", data={"referrer": "Ann", "phone": "555-0100"})
    assert referral["timer_key"]
    texts = stack.address("gateway") + "/messages"
    [text] = eventually(lambda: ask(texts), timeout=30, every=0.2, what=stack.tails)
    assert text["to"] == "555-0100"


def test_the_pages_are_served_with_their_files(stack: Stack) -> None:
    for path in ("/", "/ops"):
        with open_url(stack.address("web") + path, timeout=20) as answer:
            page = answer.read().decode()
        files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
        assert files, path
        for file in files:
            with open_url(stack.address("web") + file, timeout=20) as answer:
                assert answer.read(), file


def test_flower_sees_every_worker_under_a_name_of_its_own(stack: Stack) -> None:
    [login] = stack.services["flower"].environment["FLOWER_BASIC_AUTH"].split(",")
    expected = {
        f"{name}@{container.name}"
        for service, name in (("expiry-worker", "expiry"), ("worker", "worker"))
        for container in stack.containers[service]
    }

    def seen() -> bool:
        return set(ask(stack.address("flower") + "/api/workers?refresh=1", login=login)) == expected

    eventually(seen, timeout=30, every=0.5, what=stack.tails)


def test_the_commands_of_the_guide_work(stack: Stack) -> None:
    """What it types into containers; the other commands are checked with those of all pages."""
    typed = [line for block in blocks(GUIDE) for line in block.code.splitlines()]
    inside = list(
        filter(None, (re.fullmatch(r"docker compose (?:exec|run --rm) (\S+) (.+)", line) for line in typed))
    )
    assert inside
    for service, command in (match.groups() for match in inside):
        done = stack.containers[service][0].run(shlex.split(command))
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def test_nothing_was_written_into_the_image(stack: Stack) -> None:
    """The services' root file systems are read-only."""
    image, fresh = stack.folder / "image", stack.folder / "fresh"
    stages()[-1].lay_out(fresh)
    assert files_below(image) == files_below(fresh)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_all_of_it_ends_in_time_and_in_order(stack: Stack) -> None:
    """The last test: the stack is down after it."""
    assert set(stack.down().values()) == {0}, stack.tails()
    for container in stack.all():
        heartbeat = container.environment.get("WORKER_HEARTBEAT_FILE")
        if heartbeat:
            long_ago = time.time() - 180
            os.utime(heartbeat, (long_ago, long_ago))
            assert not container.is_healthy(), "a worker that has no heart-beat any more is healthy"


def test_timers_outlive_a_restart_of_redis(tmp_path: Path) -> None:
    """By its own command alone: what workers set at run time is gone then."""
    project = Project({})
    stack = Stack({"redis": project.services["redis"]}, tmp_path, local_ports(project.services.values()))
    try:
        stack.up()
        with redis.Redis(port=stack.port("redis", 6379), decode_responses=True) as client:
            told = client.config_get("maxmemory-policy", "notify-keyspace-events")
            assert told["maxmemory-policy"] == "noeviction"
            assert {"K", "x"} <= set(told["notify-keyspace-events"])
            client.set("a timer", "waits", px=86400_000)
        for container in stack.all():
            container.kill()
        stack.up()
        with redis.Redis(port=stack.port("redis", 6379), decode_responses=True) as client:
            assert client.get("a timer") == "waits"
        assert stack.down() == {"redis-1": 0}
    finally:
        stack.kill()
