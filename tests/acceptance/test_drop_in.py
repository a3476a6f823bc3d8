"""`expiry_countdown_threshold` with real workers: their retries, and steps of canvases, are timers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

TIMEOUT = 30
BROKERS: dict[str, dict[str, Any]] = {
    "redis": {},
    "rabbitmq": {"result_backend": "rpc://"},
    # where Celery has its own delayed delivery, and would send what has a countdown to other exchanges
    "quorum queues": {
        "task_default_queue": "quorum",
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",
        "broker_transport_options": {"confirm_publish": True},
    },
}


@pytest.fixture
def start(
    request: pytest.FixtureRequest, make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer]
) -> Iterator[Callable[[str], Site]]:
    """A site of that broker where every countdown is a timer, its app being the current one."""
    closing: list[Callable[[], None]] = []

    def start(broker: str) -> Site:
        conf = {"expiry_countdown_threshold": 0, **BROKERS[broker]}
        if broker == "redis":
            site = make_site(shared_redis(use="drop-in"), **conf)
        else:
            rabbit: RabbitMQServer = request.getfixturevalue("rabbitmq_server")
            site = make_site(shared_redis(use="drop-in"), broker=rabbit.url(), **conf)
            closing.append(lambda: forget_queue(site, conf.get("task_default_queue", "celery")))
        current = site.current()
        current.__enter__()
        closing.append(lambda: current.__exit__(None, None, None))
        return site

    yield start
    for close in reversed(closing):
        close()


def forget_queue(site: Site, queue: str) -> None:
    with site.app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(queue)


def no_eta(runs: list[dict[str, Any]]) -> bool:
    """Whether none came as a message with an ETA, which a worker would have held."""
    return bool(runs) and all(run["request"]["eta"] is None for run in runs)


@pytest.mark.parametrize("broker", ["redis", "quorum queues"])
def test_whatever_has_a_countdown(start: Callable[[str], Site], broker: str) -> None:
    site = start(broker)
    site.expiry()
    site.ordinary()
    add, total = site.task("add"), site.task("total")

    plain = site.task().apply_async(("plain",), countdown=0.5)
    flaky = site.task("flaky").apply_async(("flaky", 2), priority=2, headers={"x-mine": "1"})
    chained = chain(add.s(1, 2), add.s(3).set(countdown=1), add.s(4)).apply_async()
    body = chord([add.s(10, 1), add.s(20, 2)], total.s().set(countdown=1)).apply_async()
    members = group(add.s(100 * n, 1).set(countdown=n) for n in (1, 2)).apply_async()
    linked = site.task().apply_async(("linked",), countdown=0.5, link=add.si(1000, 1).set(countdown=0.5))

    assert plain.get(timeout=TIMEOUT) == "plain"
    assert flaky.get(timeout=TIMEOUT) == "flaky"
    assert chained.get(timeout=TIMEOUT) == 10
    assert body.get(timeout=TIMEOUT) == 33
    assert members.get(timeout=TIMEOUT) == [101, 201]
    assert linked.get(timeout=TIMEOUT) == "linked"
    site.wait_run("1000+1")

    runs = site.runs()
    assert no_eta(runs)
    attempts = [run for run in runs if run["label"] == "flaky"]
    assert [run["request"]["retries"] for run in attempts] == [0, 1, 2]
    assert {run["request"]["id"] for run in attempts} == {flaky.id}
    assert {run["request"]["delivery_info"]["priority"] for run in attempts} == {2}
    assert all(run["request"]["x-mine"] == "1" for run in attempts)
    times = [run["at"] for run in attempts]
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] >= 2
    at = {run["label"]: run["at"] for run in runs}
    assert at["3+3"] - at["1+2"] >= 1
    assert at["total"] - max(at["10+1"], at["20+2"]) >= 1
    step = next(run for run in runs if run["label"] == "3+3")
    assert step["request"]["root_id"] == chained.parent.parent.id
    assert site.dead() == 0
    site.wait_forgotten()


def test_a_retry_outlives_its_worker(start: Callable[[str], Site]) -> None:
    """In a worker's memory it would wait for the visibility timeout, an hour."""
    site = start("redis")
    worker = site.ordinary()
    result = site.task("once_more").apply_async(("again", 2), root_id="root")
    eventually(site.waiting, what="the retry's timer")
    eventually(lambda: result.state == "RETRY", what="that it is retried")
    worker.kill()
    assert not site.queues.hlen("unacked")
    site.expiry()
    site.ordinary("another")
    assert result.get(timeout=TIMEOUT) == "again"
    first, second = site.runs("again")
    assert no_eta([first, second])
    assert second["at"] - first["at"] >= 2
    assert (second["request"]["retries"], second["request"]["root_id"]) == (1, "root")
    assert second["request"]["delivery_info"]["priority"] == 3
    assert second["request"]["x-mine"] == "1"
    site.drain(2)
    assert len(site.runs("again")) == 2


def test_what_expires_before_it_is_due(start: Callable[[str], Site]) -> None:
    """Its worker says so, as with a countdown, to the queue for replies of the process that called."""
    site = start("rabbitmq")
    site.expiry()
    site.ordinary()
    late = site.task().apply_async(("late",), countdown=2, expires=1)
    in_time = site.task().apply_async(("in time",), countdown=1, expires=60)
    assert in_time.get(timeout=TIMEOUT) == "in time"
    with pytest.raises(TaskRevokedError):
        late.get(timeout=TIMEOUT)
    assert site.runs("late") == []
