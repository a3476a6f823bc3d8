"""Users' own keys, case by case: the table of docs/own-keys.md, on every Redis version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Delivery, Note, NotLeading, new_store
from celery_redis_expiry.worker.watching import deliveries
from celery_redis_expiry.worker.watching.stream import Stream
from tests.documented_acl import CONFIGURES, WATCHER, WORKER, denied, forget_denied, make_user
from tests.own_keys import Watchers
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

KEY = "session:key"
SOON = 150  # ms
LATER = 100_000
ALL = ("expired", "deleted", "evicted")
Command = tuple[Any, ...]


@pytest.fixture
def watchers(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Watchers]]:
    made: list[Watchers] = []

    def make(*handlers: dict[str, Any], **conf: Any) -> Watchers:
        chosen = handlers or ({"pattern": "session:*", "on": ALL},)
        patterns = len({each["pattern"] for each in chosen})
        made.append(Watchers(make_site(handlers=chosen, **conf), caplog, patterns))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def run(site: Site, *commands: Command) -> None:
    """Run commands, in which DUMP stands for a dumped string."""
    client = site.server.raw_client()
    client.set("dumped", "x")
    dump = client.dump("dumped")
    for command in commands:
        client.execute_command(*(dump if word == "DUMP" else word for word in command))


def each_on_its_own_key(listening: Watchers, cases: list[list[Command]], wait: float = 0.0) -> list[Any]:
    """What is told of a key with a TTL that met the commands of a case, for each case."""
    for number, commands in enumerate(cases):
        key = f"session:{number}"
        run(
            listening.site,
            ("SET", key, "x", "PX", LATER),
            *(tuple(key if word == KEY else word for word in command) for command in commands),
        )
    time.sleep(wait)
    told = listening.settled()
    return [
        brief([each for each in told if each["key"] == f"session:{number}"]) for number in range(len(cases))
    ]


def gone(site: Site, key: str = KEY) -> None:
    """Wait until a key is gone, without asking for it: that would make Redis tell."""
    eventually(lambda: site.redis.dbsize() == 0 or key not in site.redis.scan(count=1000)[1])


def brief(events: list[dict[str, Any]]) -> list[tuple[str, bool, bool]]:
    return [(each["event"], each["missed"], each["certain"]) for each in events]


EXPIRED = [("expired", False, True)]
DELETED = [("deleted", False, True)]


# -- while a worker listens


def test_expired(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", SOON))
    [event] = eventually(listening.told)
    due = event.pop("due")
    assert abs(listening.site.now() - _moment(due)) < 10
    assert event == {
        "key": KEY,
        "pattern": "session:*",
        "channel": f"__keyspace@0__:{KEY}",
        "event": "expired",
        "missed": False,
        "certain": True,
        "value": None,
        "value_at": None,
    }
    assert brief(listening.settled()) == EXPIRED


def test_expired_and_there_again_at_once(watchers: Callable[..., Watchers]) -> None:
    """Each expiry is told of, though the key was set again in the same millisecond."""
    listening = watchers().caught_up()
    client = listening.site.server.raw_client()
    for _ in range(5):
        client.set(KEY, "x", px=5)
        eventually(lambda: client.set(KEY, "again", nx=True, px=LATER), every=0)
    assert brief(listening.settled()) == EXPIRED * 5
    assert list(listening.ledger()) == [KEY.encode()]


DELETED_BY = [
    [("DEL", KEY)],
    [("UNLINK", KEY)],
    [("GETDEL", KEY)],
    [("EXPIRE", KEY, 0)],
    [("EXPIREAT", KEY, 1)],
    [("GETEX", KEY, "PXAT", 1)],
    [("RESTORE", KEY, 1, "DUMP", "REPLACE", "ABSTTL")],
    [("SINTERSTORE", KEY, "nothing")],
    [("SORT", "nothing", "STORE", KEY)],
    [("DEL", KEY), ("RPUSH", KEY, "x"), ("EXPIRE", KEY, 100), ("LPOP", KEY)],
    [("RENAME", KEY, "elsewhere")],
    [("MOVE", KEY, 9)],
]


def test_deleted(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    told = each_on_its_own_key(listening, DELETED_BY)
    # a key that was deleted first to become a list counts as well
    twice = [commands[0][0] == "DEL" and len(commands) > 1 for commands in DELETED_BY]
    assert told == [DELETED * (1 + each) for each in twice]
    assert not listening.ledger()


def test_migrated(watchers: Callable[..., Watchers], shared_redis: Callable[..., RedisServer]) -> None:
    listening = watchers().caught_up()
    other = shared_redis(listening.site.server.version, "beside")
    run(
        listening.site,
        ("SET", KEY, "x", "PX", LATER),
        ("MIGRATE", "127.0.0.1", other.port, KEY, 9, 1000, "REPLACE"),
    )
    assert brief(listening.settled()) == DELETED


LOST_ITS_TTL = [
    [("SET", KEY, "y")],
    [("GETSET", KEY, "y")],
    [("MSET", KEY, "y")],
    [("PERSIST", KEY)],
    [("GETEX", KEY, "PERSIST")],
    [("SADD", "s", "x"), ("SINTERSTORE", KEY, "s")],
    [("ZADD", "z", 1, "x"), ("ZUNIONSTORE", KEY, 1, "z")],
    [("RPUSH", "l", "x"), ("SORT", "l", "ALPHA", "STORE", KEY)],
    [("SET", "b", "x"), ("BITOP", "NOT", KEY, "b")],
    [("SET", "plain", "x"), ("RENAME", "plain", KEY)],
    [("SET", "plain", "x"), ("COPY", "plain", KEY, "REPLACE")],
    [("RESTORE", KEY, 0, "DUMP", "REPLACE")],
]


def test_lost_its_ttl(watchers: Callable[..., Watchers]) -> None:
    """It neither expired nor was deleted, and will not: the ledger forgets it."""
    listening = watchers().caught_up()
    assert each_on_its_own_key(listening, LOST_ITS_TTL) == [[]] * len(LOST_ITS_TTL)
    assert not listening.ledger()


ANOTHER_TTL = [
    [("PEXPIRE", KEY, SOON)],
    [("SET", KEY, "y", "PX", SOON)],
    [("PSETEX", KEY, SOON, "y")],
    [("GETEX", KEY, "PX", SOON)],
    [("SET", "other", "x", "PX", SOON), ("RENAME", "other", KEY)],
    [("SET", "other", "x", "PX", SOON), ("COPY", "other", KEY, "REPLACE")],
    [("RESTORE", KEY, SOON, "DUMP", "REPLACE")],
    [("PERSIST", KEY), ("PEXPIRE", KEY, SOON)],
]


def test_another_ttl(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    before = listening.site.now()
    assert each_on_its_own_key(listening, ANOTHER_TTL, SOON / 1000) == [EXPIRED] * len(ANOTHER_TTL)
    for event in listening.told():
        assert SOON / 1000 <= _moment(event["due"]) - before < LATER / 2000


def test_extended_again_and_again(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    # beyond its first due time, and no test that stands still for a while lets it expire
    run(listening.site, ("SET", KEY, "x", "PX", 1000))
    for _ in range(20):
        time.sleep(0.06)
        run(listening.site, ("PEXPIRE", KEY, 1000))
    assert listening.told() == []
    eventually(listening.told)
    assert brief(listening.settled()) == EXPIRED


def test_evicted(watchers: Callable[..., Watchers], start_redis: Callable[..., RedisServer]) -> None:
    listening = watchers(
        {"pattern": "session:*", "on": ALL, "url": start_redis(maxmemory_policy="volatile-ttl").url()}
    )
    [handler] = listening.site.config["handlers"]
    import redis

    client = redis.Redis.from_url(handler["url"])
    listening.caught_up()
    client.set(KEY, "x" * 100_000, px=LATER)
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 10_000)
    eventually(lambda: _refused(client) or listening.told(), every=0.05)
    client.config_set("maxmemory", 0)
    assert brief(eventually(listening.told)) == [("evicted", False, True)]


def _refused(client: Any) -> None:
    """Write something, so that Redis sees to its memory."""
    import contextlib

    import redis

    with contextlib.suppress(redis.ResponseError):
        client.set("more", "x" * 1000)


@pytest.mark.parametrize("command", [("FLUSHDB",), ("SWAPDB", 0, 9)], ids=["FLUSHDB", "SWAPDB"])
def test_what_sends_no_event(
    watchers: Callable[..., Watchers], shared_redis: Callable[..., RedisServer], command: Command
) -> None:
    """FLUSHDB and the like: at its due time the key is found gone, and it has not expired."""
    server = shared_redis(use="flushed")
    listening = watchers({"pattern": "session:*", "on": ALL, "url": server.url()}).caught_up()
    client = server.client()
    client.set(KEY, "x", px=SOON)
    eventually(listening.ledger)
    client.execute_command(*command)
    assert brief(eventually(listening.told)) == [("deleted", True, False)]


def _moment(iso: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(iso).timestamp()


# -- values

VALUES: dict[str, tuple[list[Command], Any]] = {
    "text": ([("SET", KEY, "Grüße")], "Grüße"),
    "bytes": ([("SET", KEY, b"\xff\x00")], b"\xff\x00"),
    "list": ([("RPUSH", KEY, "a", b"\xff")], ["a", b"\xff"]),
    "set": ([("SADD", KEY, "b", "a")], ["a", "b"]),
    "hash": ([("HSET", KEY, "name", "x", "data", b"\xff")], {"name": "x", "data": b"\xff"}),
    "names that are bytes": ([("HSET", KEY, b"\xff", "x")], [[b"\xff", "x"]]),
    "sorted set": ([("ZADD", KEY, "1.5", "a")], [["a", 1.5]]),
    "stream": ([("XADD", KEY, "1-0", "name", "x")], [["1-0", {"name": "x"}]]),
    "too large": ([("SET", KEY, "x" * 100_000)], None),
    "too many": ([("SADD", KEY, *range(2000))], None),
}


def test_the_value_that_it_had(watchers: Callable[..., Watchers]) -> None:
    listening = watchers({"pattern": "session:*", "with_value": True}).caught_up()
    for name, (commands, _) in VALUES.items():
        key = f"session:{name}"
        replaced = [tuple(key if word == KEY else word for word in command) for command in commands]
        run(listening.site, *replaced, ("PEXPIRE", key, 400))
    eventually(lambda: len(listening.told()) == len(VALUES))
    for event in listening.told():
        wanted = VALUES[event["key"].partition(":")[2]][1]
        assert event["value"] == wanted, event["key"]
        assert (event["value_at"] is None) == (wanted is None)
        if wanted is not None:
            assert event["value_at"] < event["due"]


def test_a_value_that_changes_is_read_again(watchers: Callable[..., Watchers]) -> None:
    """Also where it does so within the seconds in which snapshots are taken; and after it was overwritten."""
    listening = watchers({"pattern": "session:*", "with_value": True}).caught_up()
    run(listening.site, ("HSET", KEY, "step", "1"), ("PEXPIRE", KEY, 500))
    time.sleep(0.1)
    run(listening.site, ("HSET", KEY, "step", "2"))
    time.sleep(0.1)
    run(listening.site, ("HSET", KEY, "step", "3"))
    [event] = eventually(listening.told)
    assert event["value"] == {"step": "3"}


def test_a_value_is_read_before_its_time_comes(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that nobody touches again after it was set has its turn when its due time draws near."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.snapshots.AHEAD", 0.8)
    listening = watchers({"pattern": "session:*", "with_value": True}).caught_up()
    for number in range(20):
        run(listening.site, ("SET", f"session:{number}", number, "PX", 1000 + 10 * number))
    eventually(lambda: len(listening.told()) == 20)
    assert [(each["key"], each["value"]) for each in listening.told()] == sorted(
        (f"session:{number}", str(number)) for number in range(20)
    )
    assert not listening.site.redis.exists(*listening.values())


def test_a_snapshot_that_somebody_damaged(watchers: Callable[..., Watchers]) -> None:
    """It is none, and holds nobody up."""
    listening = watchers({"pattern": "session:*", "with_value": True}).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", 1000), ("SET", "session:2", "x", "PX", 1000))
    eventually(lambda: any(listening.site.redis.hlen(name) == 2 for name in listening.values()))
    [name] = [name for name in listening.values() if listening.site.redis.hlen(name)]
    listening.site.redis.hset(name, KEY, "{")
    listening.site.redis.hset(name, "session:2", "[]")
    eventually(lambda: len(listening.told()) == 2)
    assert [each["value"] for each in listening.settled()] == [None, None]


def test_the_value_outlives_the_worker(watchers: Callable[..., Watchers]) -> None:
    """What was read before a gap is told after it; what was not is absent."""
    listening = watchers({"pattern": "session:*", "with_value": True}).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", 600))
    eventually(lambda: any(listening.site.redis.hlen(name) for name in listening.values()))
    listening.stop()
    run(listening.site, ("SET", "session:2", "x", "PX", 600))
    time.sleep(0.8)
    listening.caught_up()
    [event] = eventually(listening.told)
    assert (event["key"], event["value"], event["missed"]) == (KEY, "x", True)


# -- after a gap: nobody listened for a while


def after_a_gap(listening: Watchers, *commands: Command, ttl: int = LATER, wait: float = 0.0) -> list[Any]:
    """What is told of a key that was in the ledger, and met these commands while nobody listened."""
    listening.caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", ttl))
    eventually(listening.ledger)
    listening.stop()
    run(listening.site, *commands)
    if wait:
        time.sleep(wait)
    listening.caught_up()
    return brief(listening.settled())


def test_gap_expired(watchers: Callable[..., Watchers]) -> None:
    """Redis had deleted it before anybody asked, so it is not certain; or it is told of when we ask."""
    told = after_a_gap(watchers(), ttl=SOON, wait=0.4)
    assert [(event, missed) for event, missed, _ in told] == [("expired", True)]


def test_gap_expired_but_not_deleted(watchers: Callable[..., Watchers]) -> None:
    """Redis had not got round to deleting it: asked, it tells, and that is certain."""
    listening = watchers()
    if listening.site.server.version != "6.2":
        pytest.skip("later versions must be started with enable-debug-command")
    run(listening.site, ("DEBUG", "SET-ACTIVE-EXPIRE", 0))
    try:
        told = after_a_gap(listening, ttl=SOON, wait=0.4)
    finally:
        run(listening.site, ("DEBUG", "SET-ACTIVE-EXPIRE", 1))
    assert told == [("expired", True, True)]


def test_gap_deleted_before_its_time(watchers: Callable[..., Watchers]) -> None:
    assert after_a_gap(watchers(), ("DEL", KEY)) == [("deleted", True, False)]


def test_gap_deleted_then_its_time_passed(watchers: Callable[..., Watchers]) -> None:
    """Nobody can know: it is told as expired, and not as certain."""
    assert after_a_gap(watchers(), ("DEL", KEY), ttl=SOON, wait=0.3) == [("expired", True, False)]


def test_gap_extended(watchers: Callable[..., Watchers]) -> None:
    listening = watchers()
    assert after_a_gap(listening, ("PEXPIRE", KEY, LATER), ttl=300, wait=0.5) == []
    assert list(listening.ledger()) == [KEY.encode()]


def test_gap_lost_its_ttl(watchers: Callable[..., Watchers]) -> None:
    listening = watchers()
    assert after_a_gap(listening, ("PERSIST", KEY), ttl=300, wait=0.5) == []
    assert not listening.ledger()


def test_gap_expired_and_there_again(watchers: Callable[..., Watchers]) -> None:
    """Nobody can see that it expired meanwhile: it is there."""
    told = after_a_gap(watchers(), ("DEL", KEY), ("SET", KEY, "again", "PX", LATER), ttl=SOON, wait=0.3)
    assert told == []


def test_gap_created_and_still_there(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    listening.stop()
    run(listening.site, ("SET", KEY, "x", "PX", 400))
    listening.caught_up()
    eventually(listening.told)
    assert brief(listening.settled()) == EXPIRED


def test_gap_created_and_gone(watchers: Callable[..., Watchers]) -> None:
    """Nobody can see it."""
    listening = watchers().caught_up()
    listening.stop()
    run(listening.site, ("SET", KEY, "x", "PX", 1))
    gone(listening.site)
    listening.caught_up()
    assert listening.settled() == []


def test_connection_lost(watchers: Callable[..., Watchers]) -> None:
    """A gap too, and a short one: what expired meanwhile is told of once."""
    listening = watchers().caught_up()
    keys = [f"session:{number}" for number in range(50)]
    for number, key in enumerate(keys):
        run(listening.site, ("SET", key, "x", "PX", 100 + 10 * number))
    for _ in range(3):
        time.sleep(0.15)
        listening.site.redis.client_kill_filter(_type="pubsub")
    eventually(lambda: len(listening.told()) >= len(keys))
    assert sorted(each["key"] for each in listening.settled()) == sorted(keys)


def test_flags_taken_away(watchers: Callable[..., Watchers]) -> None:
    """They are added again when a key was gone at its time and no event had told of it."""
    listening = watchers().caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", SOON))
    eventually(listening.ledger)
    listening.site.redis.config_set("notify-keyspace-events", "")
    assert brief(eventually(listening.told)) == [("expired", True, False)]
    eventually(lambda: "e" in listening.site.redis.config_get("*keyspace*")["notify-keyspace-events"])
    assert brief(listening.settled()) == [("expired", True, False)]


# -- several


def test_two_patterns_that_overlap_both_run(watchers: Callable[..., Watchers]) -> None:
    listening = watchers({"pattern": "session:*"}, {"pattern": "s*:key"}).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", SOON))
    eventually(lambda: len(listening.told()) == 2)
    assert sorted(each["pattern"] for each in listening.settled()) == ["s*:key", "session:*"]


def test_two_tasks_of_one_pattern_both_run(watchers: Callable[..., Watchers]) -> None:
    listening = watchers(
        {"pattern": "session:*"}, {"pattern": "session:*", "label": "too"}, {"pattern": "other:*"}
    ).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", SOON), ("SET", "third:1", "x", "PX", 1))
    eventually(lambda: len(listening.told()) == 2)
    assert brief(listening.told()) == EXPIRED * 2


def test_more_events_at_once_than_are_told_within_a_lease(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy leader goes on leading: it makes no gap of its own, in which it would lose what it was told."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.LEASE", 0.3)
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 0.1)
    monkeypatch.setattr("celery_redis_expiry.worker.watching.deliveries.MOST", 5)
    signature_with = deliveries.signature_with

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.01)
        return signature_with(*arguments)

    monkeypatch.setattr(deliveries, "signature_with", slowly)
    listening = watchers().caught_up()
    pipe = listening.site.redis.pipeline()
    for number in range(100):
        pipe.set(f"session:{number}", "x", px=SOON)
    pipe.execute()
    eventually(lambda: len(listening.told()) >= 100)
    assert brief(listening.settled()) == EXPIRED * 100


def test_a_database_that_takes_longer_to_look_through_than_a_lease(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are acted upon meanwhile, and the lease is kept, though none of its keys is one of ours."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.LEASE", 0.3)
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 0.1)
    monkeypatch.setattr("celery_redis_expiry.worker.watching.source.COUNT", 1)
    listening = watchers()
    listening.site.redis.mset({f"other:{number}": "" for number in range(5000)})
    listening.start()
    eventually(lambda: listening.site.redis.pubsub_numpat())
    run(listening.site, ("SET", KEY, "x", "PX", 10))
    eventually(listening.told)
    assert not listening.listening()
    eventually(listening.listening)
    assert brief(listening.settled()) == EXPIRED


def test_three_listeners_one_tells(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    listening.start().start()
    for number in range(100):
        run(listening.site, ("SET", f"session:{number}", "x", "PX", SOON))
    eventually(lambda: len(listening.told()) >= 100)
    assert len(listening.settled()) == 100


def test_a_key_that_is_no_utf8(watchers: Callable[..., Watchers]) -> None:
    listening = watchers().caught_up()
    run(listening.site, ("SET", b"session:\xff", "x", "PX", SOON))
    [event] = eventually(listening.told)
    assert event["key"] == b"session:\xff"
    assert event["channel"] == b"__keyspace@0__:session:\xff"


def test_every_key_but_our_own(watchers: Callable[..., Watchers], caplog: pytest.LogCaptureFixture) -> None:
    listening = watchers({"pattern": "*"}).caught_up()
    assert "watches every key" in caplog.text
    run(listening.site, ("SET", KEY, "x", "PX", SOON), ("SET", "{expiry.ledger.0}:x", "x", "PX", 1))
    eventually(listening.told)
    assert [each["key"] for each in listening.settled()] == [KEY]


def test_more_keys_than_the_limit(
    watchers: Callable[..., Watchers], caplog: pytest.LogCaptureFixture
) -> None:
    """Told of all the same while somebody listens; the ledger does not grow."""
    listening = watchers(expiry_watch_limit=3).caught_up()
    for number in range(5):
        run(listening.site, ("SET", f"session:{number}", "x", "PX", LATER))
    eventually(lambda: "expiry_watch_limit" in caplog.text)
    assert len(listening.ledger()) == 3
    for number in range(5):
        run(listening.site, ("PEXPIRE", f"session:{number}", SOON))
    for number in range(5):
        eventually(lambda number=number: not listening.site.redis.exists(f"session:{number}"))
    assert brief(listening.settled()) == EXPIRED * 5


def test_another_server(watchers: Callable[..., Watchers], shared_redis: Callable[..., RedisServer]) -> None:
    """Keys elsewhere, in another database; the same names with the timers mean nothing."""
    other = shared_redis(use="beside")
    listening = watchers(expiry_watch_url=other.url(3)).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", 1))
    other.client(3).set("session:2", "x", px=SOON)
    [event] = eventually(listening.told)
    assert (event["key"], event["channel"]) == ("session:2", "__keyspace@3__:session:2")


def test_under_a_user_of_an_acl(watchers: Callable[..., Watchers], redis_server: RedisServer) -> None:
    user = make_user(redis_server, "watcher", WORKER, WATCHER, CONFIGURES)
    forget_denied(redis_server)
    listening = watchers(expiry_redis_url=user).caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", SOON))
    assert brief(eventually(listening.told)) == EXPIRED
    assert brief(listening.settled()) == EXPIRED
    assert not denied(redis_server, "watcher")


def test_a_right_is_missing(
    watchers: Callable[..., Watchers], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is watched before it is granted, and the log says which it is."""
    without = ("+zscan", "&__keyspace@<db>__:<pattern>")
    user = make_user(redis_server, "watcher", WORKER, WATCHER, CONFIGURES, without=without)
    listening = watchers(expiry_redis_url=user).start()
    eventually(lambda: "lacks, as watcher: +zscan" in caplog.text)
    redis_server.client().execute_command("ACL SETUSER", "watcher", "+zscan")
    eventually(lambda: "the channel &__keyspace@0__:session:*" in caplog.text)
    redis_server.client().execute_command("ACL SETUSER", "watcher", "&__keyspace@0__:session:*")
    eventually(listening.listening)


def test_without_the_right_to_configure(
    watchers: Callable[..., Watchers], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Found out by the clock, and called uncertain; once the flags are set, exact."""
    user = make_user(redis_server, "watcher", WORKER, WATCHER)
    listening = watchers(expiry_redis_url=user)
    run(listening.site, ("SET", KEY, "x", "PX", 2000))  # who catches up must find it, on a busy machine too
    listening.caught_up()
    assert "may not arrive: the server refuses CONFIG" in caplog.text
    assert brief(eventually(listening.told)) == [("expired", True, False)]
    redis_server.client().config_set("notify-keyspace-events", "Kgxe$lsz")
    run(listening.site, ("SET", "session:2", "x", "PX", SOON))
    eventually(lambda: len(listening.told()) == 2)
    assert brief([each for each in listening.told() if each["key"] == "session:2"]) == EXPIRED


def test_who_stalled_beyond_its_lease_tells_nothing(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scripts are refused once another leads, although it does not know yet."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 60)
    listening = watchers().caught_up()
    run(listening.site, ("SET", KEY, "x", "PX", 300))
    eventually(listening.ledger)
    [leader] = list(listening.site.redis.scan_iter(listening.site.key("leader:*").replace("{", "?")))
    listening.site.redis.set(leader, "another", px=1500)
    eventually(lambda: not listening.site.redis.exists(KEY))
    time.sleep(0.3)
    assert listening.told() == []
    # when the other is gone it leads again, and catches up
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 0.5)
    assert brief(eventually(listening.told)) == [("expired", True, False)]
    assert brief(listening.settled()) == [("expired", True, False)]


def test_a_full_redis(
    watchers: Callable[..., Watchers],
    start_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it was told of before is told all the same, and somebody leads: also who begins only now."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.LEASE", 0.4)
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 0.1)
    full = start_redis()
    listening = watchers(expiry_redis_url=full.url(), expiry_watch_url=full.url(3))
    listening.site.server = full
    listening.site.redis = full.client()
    listening.caught_up()
    keys = full.client(3)
    keys.set("session:1", "x", px=1500)
    keys.set("session:2", "x", px=2500)
    eventually(lambda: len(listening.ledger()) == 2)
    full.client().config_set("maxmemory", 1)
    eventually(lambda: len(listening.told()) == 1)
    assert brief(listening.told()) == EXPIRED
    listening.stop()
    listening.start()
    eventually(lambda: len(listening.told()) == 2)
    assert [each["key"] for each in listening.told()] == ["session:1", "session:2"]


def test_the_ledger_is_its_leaders(make_site: Callable[..., Site]) -> None:
    """What one that stalled would write down may be forgotten by another long since, and told of."""
    shard = new_store(make_site().app).shards[0]
    assert shard.lead("watch", "leader", 60) == "taken"
    with pytest.raises(NotLeading):
        shard.note("watch", "stalled", [Note(b"session:1", 1000)], 10)
    assert shard.known("watch", [b"session:1"]) == [(None, None)]


def test_an_outdated_snapshot_is_forgotten(make_site: Callable[..., Site]) -> None:
    """Its value has changed, and its turn to be read again has not come: none is better than a wrong one."""
    shard = new_store(make_site().app).shards[0]
    shard.lead("watch", "leader", 60)
    for value, kept in ((b"old", b"old"), (None, b"old"), (b"", None)):
        shard.note("watch", "leader", [Note(b"session:1", 1000, value)], 10)
        [(due, snapshot)] = shard.known("watch", [b"session:1"])
        assert (due is not None, snapshot) == (True, kept)


def test_another_led_during_a_stall(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told of the key, and is gone: what lies in the stream of the one that stalled is told already."""
    monkeypatch.setattr("celery_redis_expiry.worker.watching.ledger.RENEW", 0.1)
    stalls, stalled, goes_on = threading.Event(), threading.Event(), threading.Event()
    following = Stream._next

    def stall(stream: Stream, timeout: float) -> list[Any]:
        if not stalls.is_set():
            return following(stream, timeout)
        stalled.set()
        goes_on.wait(10)
        stalls.clear()
        return []

    monkeypatch.setattr(Stream, "_next", stall)
    listening = watchers().caught_up()
    site = listening.site
    run(site, ("SET", KEY, "x", "PX", 400))
    eventually(listening.ledger)
    before = listening.listening()
    stalls.set()
    assert stalled.wait(10)
    eventually(lambda: not site.redis.exists(KEY))
    [leader] = list(site.redis.scan_iter(site.key("leader:*").replace("{", "?"), count=1000))
    watch = leader.rpartition(":")[2]
    shard = new_store(site.app).shards[0]
    site.redis.delete(leader)
    shard.lead(watch, "another", 60)
    shard.deliver(watch, "another", Delivery(new_token(), [KEY.encode()], []))
    site.redis.delete(leader)
    goes_on.set()
    # it lost the lead, so it listens anew; a sentinel that lives and dies in that gap is nobody's
    eventually(lambda: listening.listening() > before)
    assert listening.settled() == []
