"""RabbitMQ as the broker: a message counts as published once RabbitMQ has confirmed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chain

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQServer
from tests.site import Site, once_each
from tests.waiting import eventually

MANY = 500


@pytest.fixture
def proxy(rabbitmq_server: RabbitMQServer) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", rabbitmq_server.port), redis=False)
    yield proxy
    proxy.close()


def test_end_to_end(rabbit_site: Site) -> None:
    rabbit_site.expiry()
    rabbit_site.ordinary()
    summary = schedule_many_on_expiry((rabbit_site.record(n), 0.5 + n / MANY) for n in range(MANY))
    assert summary.scheduled == MANY
    add = rabbit_site.task("add")
    canvas = schedule_on_expiry(chain(add.s(1, 2), add.s(3)), seconds=0.5)
    assert canvas.get(timeout=30) == 6
    once_each(rabbit_site.drain(MANY + 2), [*range(MANY), "1+2", "3+3"])
    assert rabbit_site.dead() == 0


def test_what_is_nacked_is_tried_again(rabbit_site: Site) -> None:
    """A full queue refuses: its message is neither acked away nor a dead letter, and harms no other."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with rabbit_site.app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.exchange_declare("bounded", "direct", durable=False, auto_delete=False)
        channel.queue_declare("full", durable=True, auto_delete=False, arguments=full)
        channel.queue_bind("full", "bounded", "full")
        worker = rabbit_site.expiry()
        for number in range(3):
            bounded = rabbit_site.record(number).set(exchange="bounded", routing_key="full", queue=None)
            schedule_on_expiry(bounded, seconds=0.3)
        schedule_on_expiry(rabbit_site.record("other"), seconds=0.3)
        worker.wait_for("the broker nacked it")
        arrived = []
        while len(arrived) < 3:
            message = eventually(lambda: channel.basic_get("full", no_ack=True), timeout=30, what="the next")
            arrived.append(message.headers["id"])
        assert len(set(arrived)) == 3
        rabbit_site.wait_forgotten()
        assert rabbit_site.dead() == 0
        assert channel.basic_get("full", no_ack=True) is None
        channel.queue_delete("full")
    rabbit_site.ordinary()
    rabbit_site.wait_run("other")


def test_unroutable_goes_to_the_dead_letters(rabbit_site: Site) -> None:
    """Without `mandatory` RabbitMQ would drop it and say nothing. The others of its batch must arrive."""
    with rabbit_site.app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.exchange_declare("nowhere", "direct", durable=False, auto_delete=False)
    worker = rabbit_site.expiry()
    lost = rabbit_site.record("lost").set(
        exchange="nowhere", routing_key="no queue is bound to it", queue=None
    )
    due = 1.0
    schedule_on_expiry(lost, seconds=due, key="lost")
    member = rabbit_site.redis.hget(rabbit_site.key("names"), "lost")
    for number in range(20):
        schedule_on_expiry(rabbit_site.record(number), seconds=due)
    eventually(lambda: rabbit_site.dead() == 1, what=lambda: f"the dead letter\n{worker.process.tail()}")
    assert rabbit_site.redis.zrange(rabbit_site.key("dead"), 0, -1) == [member]
    reason = rabbit_site.redis.hget(rabbit_site.key("reasons"), member)
    assert reason
    assert "rout" in reason.lower()
    rabbit_site.ordinary()
    once_each(rabbit_site.drain(20), range(20))


POISON: dict[str, dict[str, Any]] = {
    "a header that AMQP has no type for": {"headers": {"too big": 2**70}},
    "an exchange that is not there": {"exchange": "never declared", "routing_key": "x", "queue": None},
}


@pytest.mark.parametrize("poison", POISON)
def test_a_message_that_cannot_be_sent_harms_nobody(rabbit_site: Site, poison: str) -> None:
    """All of one batch: the bad one is buried, the others are sent, each once."""
    schedule_on_expiry(rabbit_site.record("bad").set(**POISON[poison]), seconds=0.5)
    schedule_many_on_expiry((rabbit_site.record(number), 0.5) for number in range(50))
    schedule_on_expiry(rabbit_site.record("mandatory").set(mandatory=True), seconds=0.5)
    due = rabbit_site.now() + 0.5
    eventually(lambda: rabbit_site.now() > due, what="all due")  # while nobody is there: one batch
    worker = rabbit_site.expiry()
    rabbit_site.ordinary()
    once_each(rabbit_site.drain(51), [*range(50), "mandatory"])
    assert rabbit_site.dead() == 1, worker.log


def test_queues_are_declared_as_by_apply_async(rabbit_site: Site, make_site: Callable[..., Site]) -> None:
    """A queue that nobody has declared yet, with the arguments that the app gives it."""
    name = "by timer"
    site = make_site(broker=rabbit_site.config["broker"], task_queue_max_priority=10)
    for priority in (1, 9, 5):
        schedule_on_expiry(site.record(priority).set(queue=name, priority=priority), seconds=0.2)
    worker = site.expiry()
    rabbit_site.wait_forgotten()
    assert rabbit_site.dead() == 0, worker.log
    with site.app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        site.app.amqp.queues[name].bind(channel).queue_declare()  # refused where the arguments differ
        messages = [channel.basic_get(name, no_ack=True) for _ in range(3)]
        channel.queue_delete(name)
    assert [message.properties["priority"] for message in messages] == [9, 5, 1]


def test_killed_while_all_fall_due(rabbit_site: Site) -> None:
    first = rabbit_site.expiry("first")
    schedule_many_on_expiry((rabbit_site.record(n), 1) for n in range(MANY))
    first.kill()
    due = rabbit_site.now() + 1.1
    eventually(lambda: rabbit_site.now() > due, what="all due")
    rabbit_site.expiry("second")
    rabbit_site.ordinary()
    once_each(rabbit_site.drain(MANY), range(MANY))


def test_broker_down_then_back(
    rabbit_site: Site, rabbitmq_server: RabbitMQServer, proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    behind = make_site(broker=rabbitmq_server.url(proxy.port))
    worker = behind.expiry()
    schedule_many_on_expiry((behind.record(n), 1) for n in range(50))
    proxy.refuse()
    due = behind.now() + 2
    eventually(lambda: behind.now() > due, what="all due, the broker away")
    assert worker.process.running
    assert behind.dead() == 0
    assert behind.waiting() + behind.redis.zcard(behind.key("claimed")) == 50
    proxy.accept_again()
    rabbit_site.ordinary()
    once_each(behind.drain(50, timeout=60), range(50))


def test_many_lost_connections(
    rabbit_site: Site, rabbitmq_server: RabbitMQServer, proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    """More than any pool of connections has places: each lost one must be given up for good."""
    behind = make_site(broker=rabbitmq_server.url(proxy.port))
    behind.expiry()
    rabbit_site.ordinary()
    for outage in range(12):
        schedule_on_expiry(behind.record(outage), seconds=0)
        behind.wait_run(outage)
        behind.wait_forgotten()
        proxy.cut()
    once_each(behind.drain(12), range(12))


@pytest.mark.timeout(180)
def test_an_alarm_multiplies_nothing(rabbit_site: Site, rabbitmq_server: RabbitMQServer) -> None:
    """RabbitMQ, short of memory, blocks publishers for longer than a lease: no message may come twice."""
    rabbit_site.expiry(expiry_lease=5.0)
    schedule_on_expiry(rabbit_site.record("before"), seconds=0)
    eventually(lambda: rabbit_site.waiting() == 0, what="the worker has its connection")
    rabbitmq_server.control("set_vm_memory_high_watermark", "0.00001")
    try:
        schedule_many_on_expiry((rabbit_site.record(n), 0.5) for n in range(50))
        # two leases, on Redis's clock: as soon as the first has ended they may be claimed again
        end = rabbit_site.now() + 11
        eventually(lambda: rabbit_site.now() > end, timeout=40, what="the alarm lasts")
        assert rabbit_site.dead() == 0
    finally:
        rabbitmq_server.control("set_vm_memory_high_watermark", "0.6")
    rabbit_site.ordinary()
    once_each(rabbit_site.drain(51, timeout=60), ["before", *range(50)])
