"""RabbitMQ: a stored message that can't be sent there harms no other of its batch."""

from __future__ import annotations

from celery_redis_expiry import schedule_on_expiry
from tests.fuzz.garbage import Damage, Part, Record, Victim
from tests.site import Site
from tests.waiting import eventually

LONG = "x" * 300  # AMQP's short strings have 255 bytes

HEADERS = [[], 5, {LONG: 1}, {"a": 10**30}, {"a": {"b": [None, {}]}}, {"": ""}]
DECLARED = [{"queue": {"name": LONG}}, {"exchange": {"name": "x", "type": "nosuch"}}, 5]
POISON: list[Damage] = [
    Record(b'1:1:x{"kind": "canvas"}'),
    Record(b"\xff"),
    *(Part("routing_key", value) for value in (LONG, ["celery"], "\ud800", 5)),
    *(Part("exchange", value) for value in (LONG, "nosuch", {"name": "x"})),
    *(Part("correlation_id", value) for value in (LONG, ["x"], {"a": 1}, 5)),
    *(Part("headers", value) for value in HEADERS),
    *(Part("priority", value) for value in ("high", 10**30, -1)),
    *(Part("expiration", value) for value in ("soon", -5, 10**30)),
    *(Part("delivery_mode", value) for value in ("x", 10**30)),
    *(Part(name, LONG) for name in ("reply_to", "message_id", "type", "app_id", "user_id", "content_type")),
    *(Part("declare", [value]) for value in DECLARED),
    *(Part("body", value) for value in (None, 5, {"a": 1}, [1])),
    Part("timestamp", "never"),
]


def test_no_other_message_of_the_batch_is_harmed(rabbit_site: Site) -> None:
    site = rabbit_site
    raw = site.server.raw_client()
    sane = [schedule_on_expiry(site.record(number), 0.5).id for number in range(10)]
    # RabbitMQ knows no expiry of more than ten years
    sane.append(schedule_on_expiry(site.record("long").set(expires=20 * 365 * 86400), 0.5).id)
    for number, damage in enumerate(POISON):
        result = schedule_on_expiry(site.record("bad"), 0.5, key=f"bad {number}")
        member = raw.hget(site.key("names"), f"bad {number}")
        assert member
        damage.apply(Victim(raw, site.key(""), member, f"bad {number}", result.id))
    worker = site.expiry()
    eventually(
        lambda: not site.redis.hmget(site.key("ids"), sane).count(None) < len(sane),
        what=lambda: f"the sane ones fired\n{worker.process.tail()}",
    )
    # the task ids of damaged messages are not known any more
    eventually(
        lambda: site.stored().keys() <= {"ids"},
        what=lambda: f"all settled: {site.stored()}\n{worker.process.tail()}",
    )
    assert "Traceback" not in worker.log, worker.log
    with site.app.connection_for_read() as connection:
        ids = []
        queue = connection.SimpleQueue("celery")
        while True:
            try:
                message = queue.get(timeout=0.5)
            except queue.Empty:
                break
            ids.append(message.headers.get("id"))
            message.ack()
    assert sorted(id for id in ids if id in sane) == sorted(sane)
    raw.close()
