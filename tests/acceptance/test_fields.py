"""What a task sees of itself: the same by a timer as by apply_async."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from celery.canvas import Signature
from kombu import Exchange, Queue

from celery_redis_expiry import schedule_on_expiry
from tests.site import Site
from tests.waiting import eventually

# These differ between any two sendings of one signature.
OWN = {"id", "correlation_id", "delivery_tag", "root_id"}
FAR = datetime(2999, 1, 1, tzinfo=timezone.utc)
# What a signature may carry: the whole message that the broker gets must be as by apply_async.
SHAPES: dict[str, Callable[[Signature], Any]] = {
    "plain": lambda signature: signature,
    "priority": lambda signature: signature.set(priority=3),
    "headers": lambda signature: signature.set(headers={"tenant": "acme", "nested": {"a": [1, None]}}),
    "limits": lambda signature: signature.set(time_limit=30, soft_time_limit=20),
    "ignored": lambda signature: signature.set(ignore_result=True),
    "shadow": lambda signature: signature.set(shadow="another name"),
    "gzip": lambda signature: signature.set(compression="gzip"),
    "pickle": lambda signature: signature.set(serializer="pickle"),
    "reprs": lambda signature: signature.set(argsrepr="(secret)", kwargsrepr="{}"),
    "expires at": lambda signature: signature.set(expires=FAR),
    "link": lambda signature: signature.set(link=signature.clone(), link_error=signature.clone()),
    "transient": lambda signature: signature.set(delivery_mode=1),
    "retry": lambda signature: signature.set(retry=True, retry_policy={"max_retries": 1}),
    "replaced": lambda signature: signature.set(replaced_task_nesting=1),
    "group": lambda signature: signature.set(group_id="some-group", group_index=2),
    "reply to": lambda signature: signature.set(reply_to="somebody"),
    "stamps": lambda signature: signature.stamp(campaign="spring") or signature,
    "immutable": lambda signature: signature.set(immutable=True),
}


def in_broker(site: Site, queue: str) -> dict[str, Any]:
    """The one message in a queue, whatever its priority, without what is its own."""

    def look() -> list[str]:
        keys = [key for key in site.redis.scan_iter(f"{queue}*") if not key.startswith("_kombu")]
        return [message for key in keys for message in site.redis.lrange(key, 0, -1)]

    [told] = eventually(look, what=lambda: f"a message in {queue}; {site.stored()} stored")
    message: dict[str, Any] = json.loads(told)
    for part in (message, message["headers"], message["properties"]):
        for name in OWN:
            part.pop(name, None)
    if "expiration" in message["properties"]:
        message["properties"]["expiration"] = "milliseconds from the sending"
    body = base64.b64decode(message["body"])
    if body.startswith(b'{"task"'):  # task protocol 1 has everything in the body
        message["body"] = {name: value for name, value in json.loads(body).items() if name not in OWN}
    return message


def as_direct(message: dict[str, Any], site: Site) -> str:
    """A message as text, the names of its queue and of the one for replies, which nobody reads, made one.

    Who sends names that of its thread, a timer that of its app.
    """
    text = json.dumps(message, sort_keys=True).replace("timer ", "direct ")
    return text.replace(site.app.thread_oid, site.app.oid)


def test_the_message_is_the_one_of_apply_async(idle_site: Site) -> None:
    worker = idle_site.expiry()
    for shape, dress in SHAPES.items():
        dress(idle_site.record("x", 1, "two", three=[3])).set(queue=f"direct {shape}").apply_async()
        timed = dress(idle_site.record("x", 1, "two", three=[3])).set(queue=f"timer {shape}")
        schedule_on_expiry(timed, seconds=0.5)
    different = {}
    for shape in SHAPES:
        direct = in_broker(idle_site, f"direct {shape}")
        by_timer = in_broker(idle_site, f"timer {shape}")
        if as_direct(by_timer, idle_site) != as_direct(direct, idle_site):
            different[shape] = (direct, by_timer)
    assert not different, worker.log


VARIANTS: dict[str, dict[str, Any]] = {
    "protocol 1": {"task_protocol": 1},
    "sent events": {"task_send_sent_event": True},
    "pickle": {"task_serializer": "pickle"},
    "compressed": {"task_compression": "gzip"},
    "transient": {"task_default_delivery_mode": "transient"},
    "priority": {"task_default_priority": 6},
    "no results": {"task_ignore_result": True},
    "localized": {"timezone": "Asia/Kolkata", "enable_utc": False},
}


def test_settings_that_shape_messages(idle_site: Site, make_site: Callable[..., Site]) -> None:
    """The expiry worker has none of them: what a message looks like is settled when it is scheduled."""
    sites = {name: make_site(idle_site.server, **conf) for name, conf in VARIANTS.items()}
    for name, site in sites.items():
        site.record("x").set(queue=f"direct {name}").apply_async()
        schedule_on_expiry(site.record("x").set(queue=f"timer {name}"), seconds=0.3)
    worker = idle_site.expiry()
    different = {}
    for name, site in sites.items():
        direct, by_timer = (in_broker(idle_site, f"{how} {name}") for how in ("direct", "timer"))
        if as_direct(by_timer, site) != as_direct(direct, site):
            different[name] = (direct, by_timer)
    assert not different, worker.log


def test_routed_as_by_apply_async(idle_site: Site, make_site: Callable[..., Site]) -> None:
    """By the app's routes, by an exchange of one's own, and by topic."""
    routed = make_site(idle_site.server, task_routes={"ledger.record": {"queue": "by route", "priority": 5}})
    schedule_on_expiry(routed.record("x"), seconds=0)
    queue = Queue("by topic", Exchange("timer topic", "topic"), routing_key="news.*")
    own = idle_site.record("x").set(exchange="timer topic", routing_key="news.today", declare=[queue])
    schedule_on_expiry(own, seconds=0)
    idle_site.expiry()
    by_route = in_broker(idle_site, "by route")
    assert by_route["properties"]["priority"] == 5
    by_topic = in_broker(idle_site, "by topic")
    assert by_topic["properties"]["delivery_info"] == {"exchange": "timer topic", "routing_key": "news.today"}


@pytest.fixture
def fired(site: Site) -> Site:
    site.expiry()
    return site


def test_defaults_of_the_task(fired: Site) -> None:
    with_defaults = fired.task("with_defaults")
    with_defaults.s("direct").apply_async()
    result = schedule_on_expiry(with_defaults.s("timer"), seconds=0.5)
    due = result.due
    direct, by_timer = fired.wait_run("direct")["request"], fired.wait_run("timer")["request"]
    assert by_timer["timelimit"] == direct["timelimit"] == [77, 66]
    assert due is not None
    assert abs(_timestamp(by_timer["expires"]) - (due.timestamp() + 600)) < 0.5
    assert direct["expires"] is not None


def test_links_are_called(fired: Site) -> None:
    linked = fired.record("first").set(link=fired.record("linked").set(immutable=True))
    result = schedule_on_expiry(linked, seconds=0.2)
    assert fired.wait_run("linked")["request"]["parent_id"] == result.id
    failing = fired.task("fail").s("failing").set(link_error=fired.task("on_error").s())
    result = schedule_on_expiry(failing, seconds=0.2)
    fired.wait_run(result.id)  # the errback is told who failed
    assert len(fired.drain(4)) == 4


def test_scheduled_from_inside_a_task(fired: Site) -> None:
    """The timer's task belongs to the tree of the task that scheduled it."""
    spawned = fired.task("spawn").delay("child", 0.3)
    child = fired.wait_run("child")["request"]
    assert child["id"] == spawned.get(timeout=20)
    assert child["parent_id"] == spawned.id
    assert child["root_id"] == spawned.id


def test_stamps_arrive(fired: Site) -> None:
    stamped = fired.record("stamped")
    stamped.stamp(campaign="spring")
    schedule_on_expiry(stamped, seconds=0.2)
    request = fired.wait_run("stamped")["request"]
    assert request["stamped_headers"] == ["campaign"]
    assert request["stamps"] == {"campaign": ["spring"]} or request["stamps"] == {"campaign": "spring"}


def test_expires_counts_from_the_due_time(fired: Site) -> None:
    """One second to live, scheduled two seconds ahead: it runs, where counting from now would revoke it."""
    result = schedule_on_expiry(fired.record("fresh").set(expires=5), seconds=6)
    moved = schedule_on_expiry(fired.record("moved").set(expires=5), seconds=600)
    assert moved.reschedule(seconds=6) is True
    dues = {"fresh": result.due, "moved": moved.due}
    for label, due in dues.items():
        expires = fired.wait_run(label)["request"]["expires"]
        assert due is not None
        assert abs(_timestamp(expires) - (due.timestamp() + 5)) < 0.5


def test_it_expires_in_the_queue(idle_site: Site) -> None:
    """Nobody fetches it within its life: the worker that comes too late must not run it."""
    idle_site.expiry()
    result = schedule_on_expiry(idle_site.record("stale").set(expires=1), seconds=0.2)
    eventually(lambda: idle_site.redis.llen("celery") == 1, what="fired")
    message = json.loads(idle_site.redis.lindex("celery", 0) or "")
    assert int(message["properties"]["expiration"]) == 1000
    over = idle_site.now() + 1.5
    eventually(lambda: idle_site.now() > over, what="its life is over")
    worker = idle_site.ordinary("late")
    eventually(lambda: result.status == "REVOKED", what=lambda: f"revoked, not {result.status}\n{worker.log}")
    assert not idle_site.runs("stale")


def _timestamp(told: str) -> float:
    moment = datetime.fromisoformat(told)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
