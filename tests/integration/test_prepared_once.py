"""Messages of a known kind arrive as Celery sends them, though kombu has prepared only the first of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from celery.canvas import Signature
from kombu import Producer
from kombu.entity import Exchange, Queue

from celery_redis_expiry.messages import prepare
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Claimed, Templated
from celery_redis_expiry.worker.publishing import Parcel, Publisher
from tests.servers.redis import RedisServer
from tests.site import Site

QUEUE = "kinds"
ARGUMENTS = [("x",), ("100 %s %(id)s",), ('"\\', "ü€\U0001f600"), ([1, {"a": None}],)]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority": 7},
    "bytes": {"serializer": "pickle"},
    "compressed": {"compression": "zlib"},
    "yaml": {"serializer": "yaml"},
    "limits and reply": {"time_limit": 7, "soft_time_limit": 5, "reply_to": "answers", "shadow": "50 %"},
    "headers": {"headers": {"tenant": "a", "nested": {"deep": [1, "ü"]}}},
}


class Held:
    """A lease that holds."""

    seconds = 60.0

    def holds(self, claim: Claimed) -> bool:
        return True

    def keep_up(self) -> None:
        pass

    def prolong(self) -> bool:
        return True


@pytest.fixture(params=["redis", "redis, prefixed", "amqp"])
def site(
    request: pytest.FixtureRequest, shared_redis: Callable[..., RedisServer], tmp_path: Path
) -> Iterator[Site]:
    server = shared_redis(use="kinds")
    options: dict[str, Any] = {}
    server.reset()
    if request.param == "amqp":
        options["broker"] = request.getfixturevalue("rabbitmq_server").url()
    elif "prefixed" in request.param:
        options["broker_transport_options"] = {"global_keyprefix": "p%:"}
    site = Site(server, tmp_path, **options)
    yield site
    site.close()


@pytest.fixture
def publisher(site: Site) -> Iterator[Publisher]:
    with site.app.connection_for_write() as connection:
        queue = Queue(QUEUE, Exchange(""), QUEUE, max_priority=9)(connection.default_channel)
        queue.declare()
        site.app.amqp.queues.add(queue)
        queue.purge()
        publisher = Publisher(site.app)
        publisher.connect()
        yield publisher
        publisher.close()
        queue.delete()


def parcel(signature: Signature, site: Site) -> Parcel:
    stored = prepare(signature, site.app).stored
    parts = stored.split()
    assert parts is not None, "stored whole"
    template, rest = parts
    claim = Claimed(f"g:{stored.id}", stored.id, 0, 0, stored, id=stored.id)
    return Parcel(Templated(stored.id, template, template.parts(rest)), claim)


def spoil(parcel: Parcel, **parts: Any) -> None:
    assert isinstance(parcel.stored, Templated)
    parcel.stored = Templated(parcel.stored.id, parcel.stored.template, parcel.stored.parts._replace(**parts))


def publish(publisher: Publisher, parcels: list[Parcel]) -> list[str | None]:
    publisher.publish(parcels, Held())  # type: ignore[arg-type]
    return [each.outcome for each in parcels]


def arrived(site: Site) -> list[dict[str, Any]]:
    """All that is in the queue, in order, each as its transport has it."""
    found = []
    with site.app.connection_for_write() as connection:
        channel = connection.channel()
        while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
            found.append(
                {
                    "body": message.body,
                    "headers": message.headers,
                    "properties": message.properties,
                    "content type": (message.content_type, message.content_encoding),
                    "delivery": {**message.delivery_info, "delivery_tag": None},
                    "tag": message.delivery_tag,
                }
            )
    return found


def without_tags(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for each in found:
        each["properties"].pop("delivery_tag", None)
        each["delivery"].pop("message_count", None)
        del each["tag"]
    return found


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_as_apply_async_sends_them(publisher: Publisher, site: Site, options: dict[str, Any]) -> None:
    signatures = [
        site.task().s(*arguments, **keywords).set(task_id=f"id-{number}-%", queue=QUEUE, **options)
        for number, (arguments, keywords) in enumerate(zip(ARGUMENTS, ({}, {}, {"k": "v"}, {}), strict=True))
    ]
    publish(publisher, [parcel(each.clone().set(task_id="teacher"), site) for each in signatures])
    arrived(site)

    for signature in signatures:
        signature.apply_async()
    expected = without_tags(arrived(site))
    for each in expected:
        if "reply_to" not in options:
            # of a thread that sends, and of the app that schedules: nobody reads either
            assert each["properties"]["reply_to"] == site.app.thread_oid
            each["properties"]["reply_to"] = site.app.oid

    parcels = [parcel(signature, site) for signature in signatures]
    assert publish(publisher, parcels) == ["published"] * len(parcels)
    if "amqp" in site.config["broker"] or hasattr(Producer, "batch"):
        assert all(each.kind for each in parcels), "kombu has prepared each of them"
    found = arrived(site)
    assert len({each["tag"] for each in found}) == len(found)
    assert without_tags(found) == expected


@pytest.mark.parametrize("expires", [60, 20 * 365 * 86400], ids=["a minute", "longer than RabbitMQ takes"])
def test_kombu_goes_on_where_messages_differ(publisher: Publisher, site: Site, expires: int) -> None:
    """A number in `expires` is another time, and another time to live, for each."""
    expiring = [parcel(site.record(n).set(queue=QUEUE, expires=expires), site) for n in range(3)]
    for number, each in enumerate(expiring):
        each.claim.due = number * 86_400_000
        assert publish(publisher, [each]) == ["published"]
    told = [datetime.fromisoformat(each["headers"]["expires"]).timestamp() for each in arrived(site)]
    assert told == [number * 86400 + expires for number in range(3)]


def test_one_that_cannot_be_sent_harms_no_other(publisher: Publisher, site: Site) -> None:
    parcels = [parcel(site.record(n).set(queue=QUEUE), site) for n in range(6)]
    publish(publisher, parcels[:1])
    arrived(site)
    spoil(parcels[2], extra={"odd": object()})
    spoil(parcels[4], body="\ud800")
    outcomes = publish(publisher, parcels[1:])
    assert outcomes == ["published", "refused", "published", "refused", "published"]
    assert [json.loads(each["body"])[0] for each in arrived(site)] == [[1], [3], [5]]


def test_a_large_message(publisher: Publisher, site: Site) -> None:
    """Larger than a frame, between two small ones."""
    parcels = [parcel(site.record(text).set(queue=QUEUE), site) for text in ("a", "b", "c" * 300_000, "d")]
    publish(publisher, parcels[:1])
    assert publish(publisher, parcels[1:]) == ["published"] * 3
    assert [json.loads(each["body"])[0][0][:1] for each in arrived(site)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("site", ["amqp"], indirect=True)
def test_headers_that_rabbitmq_does_not_take(publisher: Publisher, site: Site) -> None:
    parcels = [parcel(site.record(n).set(queue=QUEUE), site) for n in range(4)]
    publish(publisher, parcels[:1])
    spoil(parcels[2], extra={"large": "x" * 200_000})
    assert publish(publisher, parcels[1:]) == ["published", "refused", "published"]
    assert len(arrived(site)) == 3


def test_what_follows_upon_a_lost_connection_is_known_to_be_unsent(publisher: Publisher, site: Site) -> None:
    """A pass publishes several times: those without a guard, those with one, occurrences."""
    publisher.close()
    assert publish(publisher, [parcel(site.app.signature("one"), site)]) == ["unsent"]
    assert arrived(site) == []


def test_nothing_claimed_is_nothing_to_prolong(site: Site) -> None:
    """A claim made ahead may turn out empty."""
    assert store_of(site.app).prolong("token", [], 1.0) == set()
