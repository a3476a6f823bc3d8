"""Firing in place: what lands in the queue is what kombu would have put there, once; nothing is half done."""

from __future__ import annotations

import json
import pickle
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count as counted
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery, chain
from kombu import Exchange, Queue
from kombu.compression import decompress

from celery_redis_expiry import cancel, get_timer, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.errors import StoreUnreachable
from celery_redis_expiry.keys import label_of, new_token, place, text
from celery_redis_expiry.store import SLICE, Filled, Fired, Shard, store_of
from celery_redis_expiry.store.firing import NEWEST, OLDEST
from celery_redis_expiry.worker.firing import InPlace, in_place
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.publishing import Publisher
from celery_redis_expiry.worker.reporting.figures import Figures
from tests.documented_acl import IN_PLACE, NAMESPACE, WORKER, denied, forget_denied, make_user
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

NEVER_NAMED = "\N{SNOWMAN} \"quoted\" 'both' \\ back\nline \x7f \U0001f600"


class Bench:
    """One app, the queues and timers of which lie in one Redis, and what its expiry worker fires with."""

    def __init__(self, server: RedisServer, **conf: Any) -> None:
        self.server = server
        self.app = Celery("bench", broker=server.url(), set_as_current=False)
        self.app.conf.update(conf)
        self.app.task(_anything, name="bench.task", shared=False)
        self.task = self.app.tasks["bench.task"]
        self.shard: Shard = store_of(self.app).shards[0]
        self.redis = server.client()
        self.raw = redis.Redis(port=server.port)
        self.figures = Figures()
        self.publisher = Publisher(self.app)
        self.publisher.connect()
        self.in_place = self.another()

    def another(self) -> InPlace:
        """As another expiry worker has it, which knows of nothing."""
        return InPlace(self.app, store_of(self.app), self.publisher, Lanes(), self.figures, wanted=True)

    def close(self) -> None:
        self.publisher.close()
        self.redis.close()
        self.raw.close()

    def due(self) -> list[tuple[str, bool]]:
        time.sleep(0.003)  # a key lives until now > due
        return [(member, False) for member, _ in self.shard.look("bench", limit=1000, parked=0).due]

    def fire(self) -> list[tuple[str, bool]]:
        """Fire what is due; what is left."""
        return [*self.in_place.fire(self.shard, self.due())]

    def queue(self, name: str = "celery") -> list[str]:
        """The messages in a queue, the oldest first."""
        return self.redis.lrange(name, 0, -1)[::-1]

    def left(self) -> set[str]:
        """What is stored of timers, by key."""
        kinds = {key.partition("}:")[2].partition(":")[0] for key in self.redis.scan_iter("*{expiry.*")}
        return kinds - {"namespace", "pacers", "answer", "templates", "used"}


def _anything(*args: Any, **kwargs: Any) -> None: ...


@pytest.fixture
def make_bench(redis_server: RedisServer) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**conf: Any) -> Bench:
        made.append(Bench(redis_server, **conf))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


# -- the contract

ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((1, "two", None, 3.5, True), {}),
    (tuple(range(1000)), {}),
    ((), {"only": "named"}),
    (([1, {"nested": ["deep", []]}],), {"key": {"a": NEVER_NAMED}}),
    ((NEVER_NAMED,), {}),
    (("back\\slash", "it's"), {}),
    (("x" * 3000,), {"y": "z" * 3000}),
    (({"__type__": "datetime"}, datetime(2030, 1, 1)), {}),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 0},
    {"priority": 4},
    {"priority": 9},
    {"queue": "other", "priority": 7},
    {"routing_key": "celery", "exchange": ""},
    {"headers": {"own": {"a": [1, NEVER_NAMED]}, "more": None}},
    {"time_limit": 10, "soft_time_limit": 5.5},
    {"shadow": "a shadow"},
    {"ignore_result": True},
    {"task_id": "no uuid", "root_id": "root", "parent_id": "parent", "group_id": "group"},
    {"compression": "gzip"},
    {"compression": "bzip2", "serializer": "pickle"},
    {"reply_to": "elsewhere", "delivery_mode": 1},
    {"argsrepr": "<hidden>", "kwargsrepr": NEVER_NAMED},
]
SERIALIZERS = ["json", "yaml", "pickle", "msgpack"]


def fields(message: str, app: Celery) -> dict[str, Any]:
    """Everything that a message says, but for its delivery tag, which is its own.

    A stored message names the process for replies, and not its thread, where nobody waits for one.
    """
    told: dict[str, Any] = json.loads(message)
    if told["properties"]["reply_to"] == app.thread_oid:
        told["properties"]["reply_to"] = app.oid
    if told["content-type"] == "application/x-python-serialize":
        # pickle writes equal objects in several ways
        body = b64decode(told["body"])
        compression = told["headers"].get("compression")
        told["body"] = pickle.loads(decompress(body, compression) if compression else body)
    assert str(UUID(told["properties"].pop("delivery_tag"), version=4))
    return told


def compare(bench: Bench, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> None:
    """What a timer puts into the queue, beside what `apply_async` with the same task id does."""
    options = {"task_id": f"5f2c41cd-0000-4000-8000-{len(bench.queue()):012}", **options}
    schedule_on_expiry(bench.task.signature(args, kwargs, **options), 0, app=bench.app)
    assert bench.fire() == [], "fired in place"
    bench.task.signature(args, kwargs, **options).apply_async()
    [*_, key] = sorted(key for key in bench.redis.scan_iter(_type="list"))
    ours, theirs = bench.queue(key)
    bench.redis.delete(key)
    assert fields(ours, bench.app) == fields(theirs, bench.app)
    assert ours != theirs


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_arguments(make_bench: Callable[..., Bench], serializer: str) -> None:
    if serializer in ("yaml", "msgpack"):
        pytest.importorskip(serializer)
    bench = make_bench(task_serializer=serializer)
    for args, kwargs in ARGUMENTS:
        if serializer != "pickle" and any(isinstance(arg, dict) and "__type__" in arg for arg in args):
            continue
        compare(bench, args, kwargs)
        compare(bench, args, kwargs, task_id="named")
    assert bench.left() == set()


def test_options(bench: Bench) -> None:
    for options in OPTIONS:
        compare(bench, (1, "two"), {"three": 4}, **options)
        compare(bench, (), {}, link=bench.task.s(1), link_error=bench.task.si("e"), **options)
    assert bench.left() == set()


@pytest.mark.parametrize(
    "transport",
    [
        {"global_keyprefix": "{shop}:"},
        {"sep": ":", "priority_steps": [0, 2, 4, 8], "queue_order_strategy": "priority"},
    ],
    ids=["prefix", "steps"],
)
def test_options_of_the_transport(make_bench: Callable[..., Bench], transport: dict[str, Any]) -> None:
    bench = make_bench(broker_transport_options=transport)
    for priority in (None, *range(10)):
        compare(bench, (1,), {}, priority=priority)


def test_each_has_its_own_delivery_tag_and_keeps_its_turn(bench: Bench) -> None:
    for number in range(400):
        schedule_on_expiry(bench.task.s(number), 0, app=bench.app)
    assert bench.fire() == []
    messages = [json.loads(message) for message in bench.queue()]
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 400
    assert len({message["headers"]["id"] for message in messages}) == 400
    assert bench.figures.snapshot().in_place == 400
    assert bench.left() == set()


def test_the_queue_is_declared(make_bench: Callable[..., Bench]) -> None:
    """Where nobody has published or consumed before, its binding is what tells others of it."""
    bench = make_bench(task_queues=[Queue("mine", Exchange("mine"), routing_key="mine")])
    schedule_on_expiry(bench.task.s().set(queue="mine", exchange="", routing_key="mine"), 0, app=bench.app)
    assert bench.fire() == []
    assert bench.redis.exists("_kombu.binding.mine") == 1


# -- what is not fired in place, and of what nothing is done then


def declared_with_a_time_to_live(bench: Bench) -> Any:
    bench.app.amqp.queues.add(Queue("short", expires=60))
    return bench.task.s().set(queue="short")


def through_an_exchange(bench: Bench) -> Any:
    bench.app.amqp.queues.add(Queue("topical", Exchange("topics", "topic"), routing_key="a.#"))
    return bench.task.s().set(queue="topical", exchange="topics", routing_key="a.b")


ELSEWHERE: dict[str, Callable[[Bench], Any]] = {
    "a number of seconds to live": lambda bench: bench.task.s().set(expires=60),
    "a time to live": lambda bench: bench.task.s().set(expires=datetime.now(timezone.utc) + timedelta(1)),
    "a canvas": lambda bench: chain(bench.task.s(), bench.task.s(), app=bench.app),
    "an exchange": through_an_exchange,
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_is_published(bench: Bench, kind: str) -> None:
    schedule_on_expiry(ELSEWHERE[kind](bench), 0, app=bench.app)
    before = bench.left()
    assert len(bench.fire()) == 1
    assert bench.left() == before
    assert bench.queue() == []


def test_a_queue_with_a_time_to_live(bench: Bench) -> None:
    """Only kombu 5.7 has them: it gives its list another one with each message."""
    schedule_on_expiry(declared_with_a_time_to_live(bench), 0, app=bench.app)
    left = bench.fire()
    assert len(left) + len(bench.queue("short")) == 1
    bench.task.apply_async(queue="short")
    assert bool(left) == (bench.redis.pttl("short") > 0)


def test_a_guard(bench: Bench) -> None:
    schedule_on_expiry(bench.task.s(), 0, unless_exists="paid", app=bench.app)
    assert len(bench.fire()) == 1


def test_where_it_is_not_exact(
    redis_server: RedisServer, make_bench: Callable[..., Bench], proxy: Proxy
) -> None:
    def why(**conf: Any) -> str:
        bench = make_bench(**conf)
        schedule_on_expiry(bench.task.s(), 0, app=bench.app)
        assert len(bench.fire()) == 1
        bench.redis.flushall()
        return bench.in_place.why_not

    port = redis_server.port
    assert "database" in why(expiry_redis_url=f"redis://127.0.0.1:{port}/3")
    assert "another address" in why(expiry_redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    assert "several broker URLs" in why(broker_url=[redis_server.url(), redis_server.url()])
    assert "no Redis" in why(broker_url="memory://", expiry_redis_url=redis_server.url())


# -- each branch of the script


def one(bench: Bench, **arguments: Any) -> str:
    """A timer that is due; its member."""
    schedule_on_expiry(bench.task.s(1), 0, app=bench.app, **arguments)
    [(member, _)] = bench.due()
    return member


def test_what_is_not_due_is_left_alone(bench: Bench) -> None:
    for expired in (False, True):
        schedule_on_expiry(bench.task.s(1), 60, key="later", app=bench.app)
        member = bench.redis.hget(bench.shard.keys.names, "later")
        bench.in_place.fire(bench.shard, [(member, expired)])
        assert bench.queue() == []
        assert get_timer("later", app=bench.app).state == "waiting"


def test_gone_by_its_event_before_its_indexed_time(bench: Bench) -> None:
    """Another client gave it an earlier expiry."""
    schedule_on_expiry(bench.task.s(1), 60, key="early", app=bench.app)
    member = bench.redis.hget(bench.shard.keys.names, "early")
    bench.redis.pexpire(bench.shard.keys.trigger(member), 1)
    time.sleep(0.01)
    assert bench.in_place.fire(bench.shard, [(member, False)]) == []
    assert bench.queue() == []
    assert bench.in_place.fire(bench.shard, [(member, True)]) == []
    assert len(bench.queue()) == 1
    assert bench.figures.snapshot().by_event.count == 1


@pytest.mark.parametrize("ttl", [None, 60_000], ids=["parked", "moved"])
def test_moved_by_another_client(bench: Bench, ttl: int | None) -> None:
    """That is for the claim to see to; its neighbours fire."""
    member = one(bench)
    bench.redis.set(bench.shard.keys.trigger(member), "0", px=ttl)
    schedule_on_expiry(bench.task.s(2), 0, app=bench.app)
    assert bench.fire() == [(member, False)]
    assert len(bench.queue()) == 1
    assert bench.shard.claim([(member, False)], token="t", lease=60) == []
    assert bench.due() == []


def test_an_older_generation(bench: Bench) -> None:
    for key in ("named", None):
        member = one(bench, key=key)
        assert cancel(key or member.partition(":")[2], app=bench.app)
        schedule_on_expiry(bench.task.s(2).set(task_id=member.partition(":")[2]), 60, key=key, app=bench.app)
        assert bench.in_place.fire(bench.shard, [(member, True)]) == []
        assert bench.queue() == []
        bench.redis.flushall()


def test_an_event_of_what_is_no_member(bench: Bench) -> None:
    """What stands in the index is only the beginning of a member, and has no trigger key."""
    result = schedule_on_expiry(bench.task.s(1), 60, app=bench.app)
    [stands] = bench.raw.zrange(bench.shard.keys.due, 0, -1)
    for cut in (stands, stands[:5], stands + b"12345678", b"\x01", b"", b"\x01" * 21):
        assert bench.in_place.fire(bench.shard, [(text(cut), True)]) == []
    assert bench.queue() == []
    assert get_timer(result, app=bench.app) is not None


def test_claimed_by_another(bench: Bench) -> None:
    member = one(bench)
    claims = bench.shard.claim([(member, True)], token="another", lease=60)
    bench.in_place.fire(bench.shard, [(member, True)])
    assert bench.queue() == []
    assert bench.shard.ack("another", claims) == 1


def test_recovered_from_one_that_died(bench: Bench) -> None:
    """It may come twice, as the lease promises; its lateness counts from its first due time."""
    member = one(bench)
    bench.shard.claim([(member, True)], token="dead", lease=0.001)
    time.sleep(0.05)
    assert bench.shard.recover(10) == 1
    assert bench.in_place.fire(bench.shard, [(member, False)]) == []
    assert len(bench.queue()) == 1
    assert bench.left() == set()
    assert 0.05 <= bench.figures.snapshot().recent.max < 30


def test_twice_in_one_call(bench: Bench) -> None:
    member = one(bench)
    bench.in_place.fire(bench.shard, [(member, True), (member, False)])
    assert len(bench.queue()) == 1


def test_of_two_workers_one_fires(bench: Bench) -> None:
    members = [one(bench, key="n")]
    other = bench.another()
    for worker in (bench.in_place, other, bench.in_place):
        assert worker.fire(bench.shard, [(member, True) for member in members]) == []
    assert len(bench.queue()) == 1
    assert bench.figures.snapshot().in_place == 1


def test_a_message_that_is_lost(bench: Bench) -> None:
    """The claim makes it a dead letter; once it is gone from the index there is nothing to do."""
    member = one(bench)
    bench.raw.hdel(bench.shard.keys.timers, place(member))
    assert len(bench.fire()) == 1
    bench.raw.zrem(bench.shard.keys.due, place(member))
    assert bench.in_place.fire(bench.shard, [(member, True)]) == []


DAMAGED = {
    "nothing": b"",
    "no text": b"\xff\x00garbage",
    "cut off": lambda record: record[:15],
    "no JSON": lambda record: record[:16] + b'\0broken " string\0[1]',
    "two strings": lambda record: record[:16] + b'\0a", "b\0[1]',
    "no flags": lambda record: record[:16] + b"\xf0[1]",
    "headers": lambda record: record[:16] + b'\x09"a": 1}, {"b": 2\0[1]',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_message_poisons_no_queue(bench: Bench, damage: str) -> None:
    """The claim makes it a dead letter. Its neighbours fire, and what lands in the queue can be read."""
    for _ in range(2):
        schedule_on_expiry(bench.task.s(1), 0, app=bench.app)
    [(member, _), (other, _)] = bench.due()
    record = bench.raw.hget(bench.shard.keys.timers, place(member))
    assert record is not None
    how = DAMAGED[damage]
    bench.raw.hset(bench.shard.keys.timers, place(member), how if isinstance(how, bytes) else how(record))
    bench.in_place.fire(bench.shard, [(member, True), (other, True)])
    left: list[tuple[str, bool]] = []
    bench.in_place._drain(bench.shard, left)
    assert len(left) == 1, "as the index has it, too"
    assert [json.loads(message)["headers"]["id"] for message in bench.queue()] == [other.partition(":")[2]]


def test_another_message_by_then(bench: Bench) -> None:
    """What was made of an older one is not put into the queue; the claim sees to what is stored now."""
    member = one(bench, key="named")
    shard = bench.shard
    [due] = shard.read_due([(member, True)])
    filled = bench.in_place._filled(shard, [due], [])
    record = bench.raw.hget(shard.keys.timers, member)
    bench.raw.hset(shard.keys.timers, member, record.replace(b"[1]", b"[2]"))
    assert shard.fire(filled, token=new_token()).outcomes == "e"
    assert bench.queue() == []
    assert bench.in_place.fire(shard, [(member, True)]) == []
    assert b64decode(json.loads(bench.queue()[0])["body"]).startswith(b"[[2]")


def test_a_missing_template(bench: Bench) -> None:
    """The claim makes it a dead letter."""
    one(bench)
    bench.redis.delete(bench.shard.keys.templates)
    assert len(bench.fire()) == 1
    assert bench.queue() == []


def test_envelopes_of_another_configuration_are_not_used(
    bench: Bench, make_bench: Callable[..., Bench]
) -> None:
    one(bench)
    bench.fire()
    other = make_bench(broker_transport_options={"global_keyprefix": "new:"}, expiry_redis_url=None)
    template = bench.raw.hgetall(bench.shard.keys.templates)
    one(other)
    assert other.fire() == []
    assert len(other.queue("new:celery")) == 1
    assert template


# -- read ahead


def soon(bench: Bench, seconds: float = 0.3, **arguments: Any) -> str:
    """A timer that falls due next, of which that was told; its member."""
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    schedule_on_expiry(bench.task.s(1), at=at, app=bench.app, **arguments)
    look = bench.shard.look("bench", limit=10, parked=0, ahead=20)
    bench.in_place.expect(0, look.next)
    bench.in_place.expect(0, [])  # by the look that follows
    [due] = look.next
    return due.member


def wait_due(bench: Bench, member: str) -> None:
    """Wait until its time has come, on Redis's clock; its trigger key is then gone."""
    while bench.redis.exists(bench.shard.keys.trigger(member)):
        time.sleep(0.005)


def test_what_falls_due_next_is_told_with_its_message(bench: Bench) -> None:
    at = (datetime.now(timezone.utc) + timedelta(seconds=60)).replace(microsecond=0)
    for key in (None, "a", "b"):
        schedule_on_expiry(bench.task.s(1), at=at, key=key, app=bench.app)
    schedule_on_expiry(bench.task.s(1), at=at + timedelta(seconds=1), key="later", app=bench.app)
    assert len(bench.shard.look("bench", limit=10, parked=0, ahead=2).next) == 2
    assert bench.shard.look("bench", limit=10, parked=0).next == []
    schedule_on_expiry(bench.task.s("large" * 4000), at=at, key="large", app=bench.app)
    look = bench.shard.look("bench", limit=10, parked=0, ahead=20)
    assert look.next_due == int(at.timestamp() * 1000)
    assert look.wake == look.next_due + 1
    assert len(look.next) == 3
    assert {label_of(due.member) for due in look.next} > {"a", "b"}
    assert list(look.next) == bench.shard.read_due([(due.member, False) for due in look.next])


def test_what_was_read_ahead_is_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    member = soon(bench)
    monkeypatch.setattr(Shard, "read_due", lambda *_: pytest.fail("it was read again"))
    assert bench.in_place.fire(bench.shard, [(member, False)]) == [(member, False)], "its time has not come"
    assert bench.queue() == []
    wait_due(bench, member)
    assert bench.in_place.fire(bench.shard, [(member, True)]) == []
    assert len(bench.queue()) == 1
    assert bench.figures.snapshot().by_event.count == 1
    assert bench.left() == set()


def test_what_was_read_ahead_with_others_is_read_again(bench: Bench) -> None:
    member = soon(bench)
    schedule_on_expiry(bench.task.s(2), 0, app=bench.app)
    wait_due(bench, member)
    assert {due for due, _ in bench.due()} > {member}
    assert bench.fire() == []
    assert len(bench.queue()) == 2


def test_what_was_read_ahead_and_cancelled(bench: Bench) -> None:
    member = soon(bench, key="named")
    assert cancel("named", app=bench.app)
    assert bench.in_place.fire(bench.shard, [(member, True)]) == []
    assert bench.queue() == []


@pytest.mark.parametrize("key", ["named", None])
def test_what_was_read_ahead_and_put_off(bench: Bench, key: str | None) -> None:
    member = soon(bench, key=key)
    label = label_of(member)
    if key is None:
        assert cancel(label, app=bench.app)
    again = bench.task.s(2) if key else bench.task.s(2).set(task_id=label)
    schedule_on_expiry(again, 60, key=key, app=bench.app)
    assert bench.in_place.fire(bench.shard, [(member, False)]) == []
    assert bench.queue() == []
    assert get_timer(label, app=bench.app).state == "waiting"


def test_what_was_read_ahead_and_changed(bench: Bench) -> None:
    """The claim sees to what is stored now."""
    member = soon(bench, key="named")
    record = bench.raw.hget(bench.shard.keys.timers, member)
    bench.raw.hset(bench.shard.keys.timers, member, record.replace(b"[1]", b"[2]"))
    wait_due(bench, member)
    assert bench.in_place.fire(bench.shard, [(member, False)]) == [(member, False)]
    assert bench.queue() == []


def test_what_was_read_ahead_and_fired_by_another(bench: Bench) -> None:
    member = soon(bench)
    wait_due(bench, member)
    assert bench.another().fire(bench.shard, [(member, False)]) == []
    assert bench.in_place.fire(bench.shard, [(member, False)]) == []
    assert len(bench.queue()) == 1


# -- all of it or nothing


def test_the_reply_is_lost(bench: Bench) -> None:
    """The repetition gets the first answer, and pushes nothing."""
    one(bench)
    bench.fire()
    dues, token = bench.shard.read_due([(one(bench), True)]), new_token()
    filled = bench.in_place._filled(bench.shard, dues, [])
    first = bench.shard.fire(filled, token=token)
    assert first.outcomes == "f"
    assert bench.shard.fire(filled, token=token) == first
    assert len(bench.queue()) == 2


def many(bench: Bench, count: int) -> None:
    items = [(bench.task.s(number), 0) for number in range(count)]
    assert schedule_many_on_expiry(items, app=bench.app).scheduled == count


def ids(bench: Bench) -> list[str]:
    return [json.loads(message)["headers"]["id"] for message in bench.queue()]


def test_of_many_the_rest_is_found_in_the_index(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were handed over say that there are more; each fires once, also what comes again."""
    monkeypatch.setattr(in_place, "TURN", 30)
    count = SLICE + 2 * OLDEST + 50
    many(bench, count)
    due = bench.due()[:SLICE]
    assert bench.in_place.fire(bench.shard, due) == []
    assert len(bench.queue()) == len(set(ids(bench))) == count
    assert bench.in_place.fire(bench.shard, due) == []
    assert len(bench.queue()) == count == bench.figures.snapshot().in_place
    assert bench.left() == set()


def test_of_many_the_newest_do_not_wait_behind_the_others(bench: Bench) -> None:
    many(bench, 3 * OLDEST)
    time.sleep(0.005)
    newest = schedule_on_expiry(bench.task.s("newest"), 0, app=bench.app)
    time.sleep(0.005)
    members = [due.member for due in bench.shard.read_oldest()]
    assert len(members) == OLDEST + NEWEST
    assert label_of(members[0]) == newest.id
    dues = [timer[1] for timer in bench.raw.zrange(bench.shard.keys.due, 0, OLDEST - 1, withscores=True)]
    assert [bench.raw.zscore(bench.shard.keys.due, place(each)) for each in members[NEWEST:]] == dues


def test_of_many_some_must_be_claimed(bench: Bench) -> None:
    """They are handed back once, and hold nobody up."""
    guarded = [schedule_on_expiry(bench.task.s(), 0, unless_exists="no", app=bench.app).id for _ in range(5)]
    many(bench, SLICE + 20)
    left = bench.fire()
    assert sorted(label_of(member) for member, _ in left) == sorted(guarded)
    many(bench, SLICE + 20)
    bench.in_place.fire(bench.shard, [each for each in bench.due() if each not in left])
    assert len(bench.queue()) == 2 * (SLICE + 20)


@pytest.mark.parametrize("count", [12, SLICE + 12])
def test_large_messages_are_fired_a_few_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What one command can't carry would never fire, and nothing behind it."""
    monkeypatch.setattr(in_place, "LARGE", 100_000)
    sizes: list[int] = []
    see_to = in_place.InPlace._see_to

    def seen(self: InPlace, shard: Shard, fired: Fired, left: list[tuple[str, bool]]) -> None:
        sizes.append(sum(len(timer.message) for timer in fired.timers))
        see_to(self, shard, fired, left)

    monkeypatch.setattr(in_place.InPlace, "_see_to", seen)
    for number in range(count):
        schedule_on_expiry(bench.task.s(number, "x" * 20_000), 0, app=bench.app)
    schedule_on_expiry(bench.task.s("x" * 200_000), 0, app=bench.app)
    # of more than a slice, the rest is found in the index
    assert bench.in_place.fire(bench.shard, bench.due()[:SLICE]) == []
    assert len(bench.queue()) == count + 1
    assert len(sizes) >= 4
    assert sorted(sizes)[-2] <= 100_000
    assert max(sizes) < 300_000, "the largest goes alone"


def test_of_large_ones_fewer_are_read(bench: Bench) -> None:
    for _ in range(220):
        schedule_on_expiry(bench.task.s("x" * 6_000), 0, app=bench.app)
    time.sleep(0.005)
    assert len(bench.shard.read_oldest()) == 200
    assert all(due.record for due in bench.shard.read_oldest())


def test_what_a_decoder_refuses_holds_nobody_up(bench: Bench) -> None:
    """Of a type in a header of its own; the claim makes it a dead letter."""
    odd = {"headers": {"own": {"__type__": "datetime", "__value__": "2030-01-01"}}}
    schedule_on_expiry(bench.task.s(1).set(**odd), 0, app=bench.app)
    [(place, record)] = bench.raw.hgetall(bench.shard.keys.timers).items()
    assert b'"2030-01-01"' in record
    bench.raw.hset(bench.shard.keys.timers, place, record.replace(b'"2030-01-01"', b"20300101"))
    schedule_on_expiry(bench.task.s(2), 0, app=bench.app)
    assert len(bench.fire()) == 1
    assert len(bench.queue()) == 1


def between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[int], None]) -> None:
    """Let something happen before each slice is made, by its number."""
    filled, numbers = in_place.InPlace._filled, counted()

    def before(self: InPlace, *arguments: Any) -> list[Filled]:
        happens(next(numbers))
        return filled(self, *arguments)

    monkeypatch.setattr(in_place.InPlace, "_filled", before)


def test_the_scripts_are_forgotten_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are on their way are asked for anew."""
    monkeypatch.setattr(in_place, "TURN", 30)
    many(bench, 3 * OLDEST)
    given = bench.due()[:SLICE]
    between(monkeypatch, lambda number: bench.redis.script_flush())
    assert bench.in_place.fire(bench.shard, given) == []
    assert len(bench.queue()) == len(set(ids(bench))) == 3 * OLDEST


def test_the_connection_is_lost_in_the_middle(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way then fires or does not; what had fired does not again, and the rest does."""
    monkeypatch.setattr(in_place, "TURN", 30)
    bench = make_bench()
    many(bench, 6 * SLICE)
    given = bench.due()[:SLICE]

    def cut_off(number: int) -> None:
        if number == 3:
            bench.redis.client_kill_filter(_type="normal", skipme=True)

    with monkeypatch.context() as patched:
        between(patched, cut_off)
        with pytest.raises(StoreUnreachable):
            bench.in_place.fire(bench.shard, given)
    assert SLICE <= len(bench.queue()) < 6 * SLICE
    assert [*bench.in_place.fire(bench.shard, bench.due())] == []
    assert len(bench.queue()) == len(set(ids(bench))) == 6 * SLICE


@pytest.mark.parametrize("refused", range(3))
def test_redis_refuses_one_of_many(bench: Bench, monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    """Whatever else was on its way, nobody reads an answer that is not theirs, and each fires once."""
    monkeypatch.setattr(in_place, "TURN", 30)
    lines: list[Any] = []
    firing = type(bench.shard).firing

    @contextmanager
    def seen(shard: Shard) -> Iterator[Any]:
        with firing(shard) as line:
            lines.append(line._line._connection)
            yield line

    monkeypatch.setattr(type(bench.shard), "firing", seen)
    schedule_on_expiry(bench.task.s(0).set(queue="odd"), 0, app=bench.app)
    assert bench.fire() == []
    many(bench, SLICE)
    given = bench.due()
    for queue in [*["celery"] * refused, "odd", "celery", "celery"]:
        time.sleep(0.002)  # the next in the index
        items = [(bench.task.s(number).set(queue=queue), 0) for number in range(SLICE)]
        schedule_many_on_expiry(items, app=bench.app)
    # how messages go there is known by now
    bench.redis.set("odd", "no list")
    time.sleep(0.003)
    assert bench.in_place.fire(bench.shard, given) == given
    assert bench.in_place.why_not
    assert [connection._sock for connection in lines] == [None]
    bench.redis.delete("odd")
    assert [*bench.another().fire(bench.shard, bench.due())] == []
    assert len(bench.queue("odd")) == SLICE
    assert len(bench.queue()) == len(set(ids(bench))) == (refused + 3) * SLICE


def test_a_full_redis_takes_nothing_and_loses_nothing(bench: Bench) -> None:
    """As it takes no message of `apply_async`; and all of a slice follows when there is memory again."""
    one(bench)
    bench.fire()
    for number in range(3):
        schedule_on_expiry(bench.task.s(number), 0, key=f"{number}", app=bench.app)
    due = bench.due()
    bench.redis.config_set("maxmemory", "1")
    try:
        assert bench.in_place.fire(bench.shard, due) == due
    finally:
        bench.redis.config_set("maxmemory", "0")
    assert len(bench.queue()) == 1
    assert bench.in_place.possible
    assert bench.fire() == []
    assert len(bench.queue()) == 4
    assert bench.left() == set()


def test_a_queue_of_another_type(bench: Bench) -> None:
    """It fails before the first write; for a while all is published, which tells messages apart."""
    for queue in ("celery", "other"):
        schedule_on_expiry(bench.task.s().set(queue=queue), 0, app=bench.app)
    bench.fire()
    bench.redis.delete("other")
    bench.redis.set("other", "a string")
    for queue in ("celery", "other"):
        schedule_on_expiry(bench.task.s().set(queue=queue), 0, app=bench.app)
    due = bench.due()
    assert bench.in_place.fire(bench.shard, due) == due
    assert "WRONGTYPE" in bench.in_place.why_not
    assert len(bench.queue()) == 1
    assert len(bench.due()) == 2


def test_the_documented_rights_are_enough_and_all_needed(
    redis_server: RedisServer, make_bench: Callable[..., Bench]
) -> None:
    full = make_bench(expiry_namespace=NAMESPACE)
    for lacking in (None, *IN_PLACE.commands):
        url = make_user(redis_server, "minimal", WORKER, IN_PLACE, without=[lacking] if lacking else [])
        mine = make_bench(expiry_namespace=NAMESPACE, expiry_redis_url=url)
        due = [(one(full), True)]
        forget_denied(redis_server)
        left = [*mine.in_place.fire(mine.shard, due)]
        if lacking is None:
            assert (left, denied(redis_server, "minimal")) == ([], set())
        else:
            assert denied(redis_server, "minimal"), lacking
            assert left == due
        redis_server.reset()


@pytest.mark.parametrize("lacking", ["+lpush", "~celery*"])
def test_who_may_not_push(redis_server: RedisServer, make_bench: Callable[..., Bench], lacking: str) -> None:
    granted = {"~{expiry.*", "+@all", "-lpush", "+lpush", "~celery*", "~_kombu*"} - {lacking}
    with redis_server.client() as client:
        rules = sorted(granted, key=lambda rule: (rule == "+lpush", rule))
        client.execute_command("ACL SETUSER", "timers", "reset", "on", ">secret", "allchannels", *rules)
    bench = make_bench(expiry_redis_url=redis_server.url(user="timers", password="secret"))
    one(bench)
    before = bench.left()
    assert len(bench.fire()) == 1
    assert "may not" in bench.in_place.why_not
    assert bench.left() == before
    assert bench.queue() == []
