"""The users that docs/settings.md lists can do their work, and are granted nothing they could do without."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord
from celery.schedules import crontab
from redis import RedisError

from celery_redis_expiry import (
    ExpiryError,
    StoreUnavailable,
    TimerExists,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.beat import sync
from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import PROBE, new_token
from celery_redis_expiry.selection import STATES, Selection
from celery_redis_expiry.store import Recurs, Shard, Store, purge, reshard, snapshot, store_of
from celery_redis_expiry.store import calls as store_calls
from celery_redis_expiry.timer import Claimed
from celery_redis_expiry.transfer import exported, imported
from celery_redis_expiry.worker import notifications, subscription
from celery_redis_expiry.worker.notifications import Notifications
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.subscription import Subscription
from tests.documented_acl import (
    BEAT,
    CONFIGURES,
    NAMESPACE,
    OPERATOR,
    PASSWORD,
    PRODUCER,
    TASKS,
    WORKER,
    Role,
    denied,
    filled,
    forget_denied,
    make_user,
)
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

USER = "minimal"


class Bench:
    """One namespace as two users see it: `full` prepares, `mine` is the one with the documented rights."""

    def __init__(
        self, server: RedisServer, folder: Path, *roles: Role, without: tuple[str, ...] = ()
    ) -> None:
        self.server = server
        self.full = Site(server, folder)
        self.mine = Site(server, folder, expiry_redis_url=make_user(server, USER, *roles, without=without))
        if OPERATOR in roles:  # who cuts timers into several shards
            self.full.redis.execute_command("ACL SETUSER", USER, f"~{{expiry.{NAMESPACE}.*}}:*")
        self.all_of_it: Store = store_of(self.full.app)
        self.all: Shard = self.all_of_it.shards[0]
        self.store: Store = store_of(self.mine.app)

    def close(self) -> None:
        self.full.close()
        self.mine.close()

    def entered(self) -> Shard:
        """What an expiry worker works on, once it has entered."""
        self.store.enter("broker")
        return self.store.shards[0]

    def subscription(self) -> Subscription:
        [primary] = self.store.primaries()
        return Subscription(primary, self.store.channels())

    def stored(self) -> dict[str, Any]:
        """Everything in the namespace but what a call is remembered by, and who announced to wake."""
        ours: dict[str, Any] = {}
        for key in self.full.redis.scan_iter(f"*expiry.{NAMESPACE}.*", count=1000):
            if ":answer:" in key or PROBE in key or key.endswith((":pacers", ":namespace")):
                continue
            kind = self.full.redis.type(key)
            read: Any = {
                "zset": lambda k: sorted(self.full.redis.zrange(k, 0, -1)),
                "hash": self.full.redis.hgetall,
            }
            ours[key] = read[kind](key) if kind in read else self.full.redis.get(key)
        return ours

    def timer(self, seconds: float = 0, **arguments: Any) -> str:
        """A timer of the full user's; answers its member."""
        result = schedule_on_expiry(self.full.record(1), seconds=seconds, **arguments)
        member = store_of(self.full.app).home(result.id).find(result.id)
        assert member
        if not seconds:
            time.sleep(0.003)  # a key lives until now > due
        return str(member)

    def claim(self, member: str, lease: float = 60.0) -> list[Claimed]:
        claims = self.all.claim([(member, True)], token=new_token(), lease=lease)
        assert claims
        return claims

    def trigger(self, member: str) -> str:
        return self.full.key(f"trigger:{member}")


Act = Callable[[], Any]
Calls = dict[str, Callable[[Bench], Act]]
"""By name: a function that prepares, and answers what the user with few rights is to do then."""


def calls(*prepares: Callable[[Bench], Act]) -> Calls:
    return {prepare.__name__: prepare for prepare in prepares}


# -- what a producer does


def schedule(bench: Bench) -> Act:
    return lambda: schedule_on_expiry(bench.mine.record(1), seconds=600)


def schedule_for_now(bench: Bench) -> Act:
    return lambda: schedule_on_expiry(bench.mine.record(1), seconds=0)


def schedule_past_a_sleeper(bench: Bench) -> Act:
    bench.all.look("sleeper", limit=10, parked=0)
    return lambda: schedule_on_expiry(bench.mine.record(1), seconds=5)


def schedule_a_canvas(bench: Bench) -> Act:
    add, total = bench.mine.task("add"), bench.mine.task("total")
    return lambda: schedule_on_expiry(chord([add.s(1, 1), add.s(2, 2)], total.s()), seconds=600)


def schedule_many(bench: Bench) -> Act:
    def act() -> None:
        assert schedule_many_on_expiry((bench.mine.record(n), 600 + n) for n in range(20)).scheduled == 20

    return act


def replace(bench: Bench) -> Act:
    bench.timer(600, key="name")
    return lambda: schedule_on_expiry(bench.mine.record(2), seconds=60, key="name")


def replace_parked(bench: Bench) -> Act:
    parked(bench, "name")
    return lambda: schedule_on_expiry(bench.mine.record(2), seconds=60, key="name")


def parked(bench: Bench, name: str) -> str:
    member = bench.timer(600, key=name)
    bench.full.redis.persist(bench.trigger(member))
    bench.all.touch([member])
    assert bench.full.redis.zcard(bench.full.key("parked"))
    return member


def extend(bench: Bench) -> Act:
    bench.timer(600, key="name")
    return lambda: schedule_on_expiry(bench.mine.record(2), seconds=60, key="name", if_exists="extend")


def keep(bench: Bench) -> Act:
    bench.timer(600, key="name")
    return lambda: schedule_on_expiry(bench.mine.record(2), seconds=60, key="name", if_exists="keep")


def be_told_that_it_exists(bench: Bench) -> Act:
    bench.timer(600, key="name")

    def act() -> None:
        with pytest.raises(TimerExists):
            schedule_on_expiry(bench.mine.record(2), seconds=60, key="name", if_exists="raise")

    return act


def replace_while_it_fires(bench: Bench) -> Act:
    bench.claim(bench.timer(key="name"))
    return lambda: schedule_on_expiry(bench.mine.record(2), seconds=60, key="name")


def move(bench: Bench) -> Act:
    bench.timer(600, key="name")

    def act() -> None:
        assert reschedule("name", seconds=60, app=bench.mine.app)

    return act


def call_off(bench: Bench) -> Act:
    bench.timer(600, key="name")

    def act() -> None:
        assert cancel("name", app=bench.mine.app)

    return act


def call_off_parked(bench: Bench) -> Act:
    parked(bench, "name")

    def act() -> None:
        assert cancel("name", app=bench.mine.app)

    return act


def call_off_too_late(bench: Bench) -> Act:
    bench.claim(bench.timer(key="name"))

    def act() -> None:
        assert not cancel("name", app=bench.mine.app)

    return act


def look_up(bench: Bench) -> Act:
    bench.timer(600, key="name")
    parked(bench, "parked")
    bench.claim(bench.timer(key="claimed"))

    def act() -> None:
        found = [get_timer(name, app=bench.mine.app) for name in ("name", "parked", "claimed", "nobody")]
        assert [timer and timer.state for timer in found] == ["waiting", "parked", "claimed", None]

    return act


PRODUCES = calls(
    schedule,
    schedule_for_now,
    schedule_past_a_sleeper,
    schedule_a_canvas,
    schedule_many,
    replace,
    replace_parked,
    replace_while_it_fires,
    extend,
    keep,
    be_told_that_it_exists,
    move,
    call_off,
    call_off_parked,
    call_off_too_late,
    look_up,
)


# -- what an expiry worker does


def enter(bench: Bench) -> Act:
    return lambda: bench.store.enter("broker")


def count(bench: Bench) -> Act:
    return lambda: bench.store.counts()


def count_what_is_overdue(bench: Bench) -> Act:
    return lambda: bench.store.overdue(0)


def look_at_a_backlog(bench: Bench) -> Act:
    for _ in range(4):
        bench.timer()
    return lambda: bench.entered().look("worker", limit=1, parked=10)


def touch(bench: Bench) -> Act:
    member = bench.timer()
    return lambda: bench.entered().touch([member])


def follow(bench: Bench) -> Act:
    member = bench.timer(600)
    bench.full.redis.expire(bench.trigger(member), 60)
    bench.all.look("sleeper", limit=10, parked=0)
    return lambda: bench.entered().touch([member])


def park(bench: Bench) -> Act:
    member = bench.timer(600)
    bench.full.redis.persist(bench.trigger(member))
    return lambda: bench.entered().touch([member])


def unpark(bench: Bench) -> Act:
    member = parked(bench, "name")
    bench.full.redis.expire(bench.trigger(member), 60)
    return lambda: bench.entered().touch([member])


def claim(bench: Bench) -> Act:
    member = bench.timer()
    return lambda: bench.entered().claim([(member, True)], token="token", lease=60)


def claim_what_was_moved(bench: Bench) -> Act:
    member = bench.timer(600)
    bench.full.redis.expire(bench.trigger(member), 900)
    return lambda: bench.entered().claim([(member, False)], token="token", lease=60)


def claim_what_was_parked(bench: Bench) -> Act:
    member = bench.timer(600)
    bench.full.redis.persist(bench.trigger(member))
    return lambda: bench.entered().claim([(member, False)], token="token", lease=60)


def claim_what_its_guard_lets_pass(bench: Bench) -> Act:
    return guarded(bench, unless_exists="user:1:nobody")


def claim_what_its_guard_calls_off(bench: Bench) -> Act:
    return guarded(bench, only_if_exists="user:1:nobody", key="name")


def guarded(bench: Bench, **guard: Any) -> Act:
    member = bench.timer(**guard)
    bench.full.redis.execute_command("ACL SETUSER", USER, "~user:*")

    def act() -> None:
        shard = bench.entered()
        claims = shard.claim([(member, True)], token="token", lease=60)
        shard.claim_guarded(claims.guarded, token="token", lease=60)

    return act


def prolong(bench: Bench) -> Act:
    [claimed] = bench.claim(bench.timer())
    return lambda: bench.entered().prolong(claimed.token, [claimed], 60)


def ack(bench: Bench) -> Act:
    [claimed] = bench.claim(bench.timer(key="name"))
    return lambda: bench.entered().ack(claimed.token, [claimed])


def release(bench: Bench) -> Act:
    [claimed] = bench.claim(bench.timer())
    bench.all.look("sleeper", limit=10, parked=0)
    return lambda: bench.entered().release(claimed.token, [claimed])


def recover(bench: Bench) -> Act:
    bench.claim(bench.timer(), lease=0.001)
    bench.all.look("sleeper", limit=10, parked=0)
    time.sleep(0.003)
    return lambda: bench.entered().recover(10)


def bury(bench: Bench) -> Act:
    [claimed] = bench.claim(bench.timer(key="name"))
    return lambda: bench.entered().bury(claimed, "no reason", "worker")


def prune(bench: Bench) -> Act:
    bench.timer(600)

    def act() -> None:
        worker = bench.entered()
        refs = worker.unused(-60, 10)
        assert refs == worker.templates_of(0)[1]
        assert worker.prune(refs, worker.now() + 60_000) == 1

    return act


def withdraw(bench: Bench) -> Act:
    bench.all.look("worker", limit=10, parked=0)
    return lambda: bench.entered().withdraw("worker")


def listen(bench: Bench) -> Act:
    def act() -> None:
        heard = bench.subscription()
        try:
            eventually(lambda: [one for one in heard.messages(0.1) if one.kind == "subscribed"], timeout=2)
            subscription.PING_AFTER, before = -1.0, subscription.PING_AFTER
            try:
                list(heard.messages(0))  # asks for a sign of life
                list(heard.messages(0.1))
            finally:
                subscription.PING_AFTER = before
        finally:
            heard.close()

    return act


def prove_notifications(bench: Bench) -> Act:
    bench.full.redis.config_set("notify-keyspace-events", "")

    def act() -> None:
        [primary] = bench.store.primaries()
        proving = Notifications(primary, configure=True, follow=True)
        proving.keys = bench.store.shards[0].keys
        patience, notifications.PATIENCE = notifications.PATIENCE, (0.001,)
        try:
            proving.check()
            proving.one_pass()
        finally:
            notifications.PATIENCE = patience

    return act


def due_again(bench: Bench) -> list[Recurs]:
    """A recurring timer that is due, as the claim tells of it."""
    made = schedule_on_expiry(bench.full.record(1), 0, every=600, key="again")
    time.sleep(0.003)
    member = bench.all.find(made.label)
    assert member
    return bench.all.claim([(member, False)], token=new_token(), lease=60).recurring


def recur(bench: Bench) -> Act:
    due = due_again(bench)

    def act() -> None:
        shard = bench.entered()
        occurrences, broken = Recurrence(bench.mine.app, Figures()).occurrences(shard, due)
        assert (len(occurrences), broken) == (1, {})

    return act


def skip(bench: Bench) -> Act:
    due = due_again(bench)
    bench.full.redis.set(bench.all.keys.running("again"), "an id")

    def act() -> None:
        assert Recurrence(bench.mine.app, Figures()).occurrences(bench.entered(), due) == ([], {})

    return act


def forget_the_running(bench: Bench) -> Act:
    bench.full.redis.set(bench.full.key("running:again"), "an id")

    def act() -> None:
        assert run(bench.store.calls.finish("again", "an id")) is True

    return act


WORKS = calls(
    enter,
    count,
    count_what_is_overdue,
    look_at_a_backlog,
    touch,
    follow,
    park,
    unpark,
    claim,
    claim_what_was_moved,
    claim_what_was_parked,
    claim_what_its_guard_lets_pass,
    claim_what_its_guard_calls_off,
    prolong,
    ack,
    release,
    recover,
    bury,
    prune,
    recur,
    skip,
    forget_the_running,
    withdraw,
    listen,
    prove_notifications,
)


# -- what sync-beat does


def entries(number: int, bound: bool = False) -> dict[str, Any]:
    schedule = 60 if bound else crontab(minute=0)
    return {f"e{i}": {"task": "ledger.record", "schedule": schedule, "args": (number,)} for i in range(2)}


def synced(bench: Bench, before: dict[str, Any], after: dict[str, Any], words: str) -> Act:
    bench.full.app.conf.beat_schedule = before
    list(sync(bench.full.app))
    bench.mine.app.conf.beat_schedule = after

    def act() -> None:
        assert {change.what for change in sync(bench.mine.app)} == set(words.split())

    return act


def sync_new(bench: Bench) -> Act:
    bench.all.look("sleeper", limit=10, parked=0)
    return synced(bench, {}, entries(1, bound=True), "added")


def sync_again(bench: Bench) -> Act:
    return synced(bench, entries(1), entries(1), "unchanged")


def sync_calls(bench: Bench) -> Act:
    return synced(bench, entries(1), entries(2), "changed")


def sync_schedules(bench: Bench) -> Act:
    return synced(bench, entries(1), entries(1, bound=True), "changed")


def sync_fewer(bench: Bench) -> Act:
    return synced(bench, entries(1), {}, "removed")


SYNCS = calls(sync_new, sync_again, sync_calls, sync_schedules, sync_fewer)


# -- what an operator does


def adopt(bench: Bench) -> Act:
    return lambda: bench.store.enter("another", adopt=True)


def dead_letter(bench: Bench) -> None:
    [claimed] = bench.claim(bench.timer(key=new_token()))
    bench.all.bury(claimed, "no reason", "worker")


def list_the_dead(bench: Bench) -> Act:
    dead_letter(bench)

    def act() -> None:
        assert bench.store.dead_letters()[0].reason == "no reason"

    return act


def retry(bench: Bench) -> Act:
    dead_letter(bench)
    [letter] = bench.all.dead_letters()
    return lambda: bench.store.retry(letter)


def discard(bench: Bench) -> Act:
    dead_letter(bench)
    [letter] = bench.all.dead_letters()
    return lambda: bench.store.discard(letter)


def cut_anew(bench: Bench) -> Act:
    for number in range(6):
        bench.timer(600, key=f"waiting {number}")
        parked(bench, f"parked {number}")
        [claimed] = bench.claim(bench.timer(key=f"dead {number}"))
        bench.all.bury(claimed, "no reason", "worker")
    bench.claim(bench.timer(), lease=0.001)
    time.sleep(0.003)
    return lambda: reshard(bench.store, 2)


def list_them(bench: Bench) -> Act:
    bench.timer(600, key="waiting")
    parked(bench, "parked")
    bench.claim(bench.timer(key="claimed"))

    def act() -> None:
        assert len(list(iter_timers(states=STATES, app=bench.mine.app))) == 3

    return act


def show_one(bench: Bench) -> Act:
    member = bench.timer(600, key="name")

    def act() -> None:
        assert bench.store.get("name")
        assert bench.store.shards[0].kept(member)[0]

    return act


def watch(bench: Bench) -> Act:
    bench.timer(600)

    def act() -> None:
        assert snapshot(bench.store, minutes=2, first=3).waiting == 1

    return act


def purge_them(bench: Bench) -> Act:
    bench.timer(600, key="waiting")
    parked(bench, "parked")

    def act() -> None:
        assert purge(bench.store, Selection()).purged == 2

    return act


def export_them(bench: Bench) -> Act:
    bench.timer(600, key="waiting")
    parked(bench, "parked")
    dead_letter(bench)

    def act() -> None:
        assert len(list(exported(bench.store))) == 5

    return act


def import_them(bench: Bench) -> Act:
    bench.timer(600, key="name")
    lines = list(exported(bench.all_of_it))
    assert cancel("name", app=bench.full.app)
    bench.timer(5, key="name")
    bench.all.look("sleeper", limit=10, parked=0)

    def act() -> None:
        assert imported(bench.store, lines, replace=True) == {"replaced": 1}

    return act


OPERATES = calls(
    *(count, adopt, list_the_dead, retry, discard, cut_anew),
    *(list_them, show_one, watch, purge_them, export_them, import_them),
    *(move, call_off, call_off_parked),
)

WHO: dict[str, tuple[tuple[Role, ...], Calls]] = {
    "producer": ((PRODUCER,), PRODUCES),
    "worker": ((WORKER, CONFIGURES), WORKS),
    "operator": ((OPERATOR,), OPERATES),
    "task": ((TASKS,), calls(forget_the_running)),
    "beat": ((PRODUCER, BEAT), SYNCS),
}
GRANTED = [
    (who, rule)
    for who, (roles, _) in WHO.items()
    for role in roles
    for rule in role.commands + role.channels
    if who == "producer" or role is not PRODUCER
]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(server: RedisServer, *roles: Role, without: tuple[str, ...] = ()) -> Bench:
        made.append(Bench(server, tmp_path, *roles, without=without))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def prepared(bench: Bench, prepare: Callable[[Bench], Act]) -> Act:
    """An empty namespace, made ready for one call; no script is loaded."""
    bench.full.redis.flushdb()
    act = prepare(bench)
    bench.full.redis.script_flush()
    forget_denied(bench.server)
    return act


@pytest.mark.parametrize("who", WHO)
def test_what_is_documented_is_enough(redis_server: RedisServer, make_bench: Any, who: str) -> None:
    roles, todo = WHO[who]
    bench = make_bench(redis_server, *roles)
    for name, prepare in todo.items():
        prepared(bench, prepare)()
        assert denied(redis_server, USER) == set(), name


def test_another_database_and_a_prefix(redis_server: RedisServer, tmp_path: Path) -> None:
    url = make_user(redis_server, USER, PRODUCER, WORKER, database=3, prefix="shop:")
    options = {"global_keyprefix": "shop:"}
    site = Site(redis_server, tmp_path, expiry_redis_url=url, expiry_redis_options=options)
    store = store_of(site.app)
    [primary] = store.primaries()
    heard = Subscription(primary, store.channels())
    forget_denied(redis_server)
    try:
        schedule_on_expiry(site.record(1), seconds=600)
        assert store.counts()["waiting"] == 1
        eventually(lambda: [one for one in heard.messages(0.1) if one.kind == "subscribed"], timeout=2)
    finally:
        heard.close()
        site.close()
    assert denied(redis_server, USER) == set()


@pytest.fixture
def server(shared_redis: Callable[..., RedisServer]) -> RedisServer:
    server = shared_redis(use="acl")
    server.reset()
    return server


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights are not asked for beforehand: as if they were taken away later."""

    async def permit(calls: Any, role: str) -> None: ...

    monkeypatch.setattr(store_calls.Calls, "permit", permit)


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(("who", "rule"), GRANTED)
def test_nothing_documented_is_superfluous(server: RedisServer, make_bench: Any, who: str, rule: str) -> None:
    """Without any one of them something is refused, and it is that."""
    roles, todo = WHO[who]
    bench = make_bench(server, *roles, without=(rule,))
    missed: set[str] = set()
    for prepare in todo.values():
        act = prepared(bench, prepare)
        with contextlib.suppress(ExpiryError, AssertionError, RedisError):
            act()
        missed |= denied(server, USER)
    assert missed == {filled(rule)[1:]}


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    ("who", "rule", "does"),
    [
        ("producer", "+evalsha", schedule),
        ("producer", "+hget", look_up),
        ("producer", "+time", schedule),
        ("producer", "+zscore", replace),
        ("worker", "+zcard", count),
        ("worker", "+zcount", count_what_is_overdue),
        ("worker", "+zrangebyscore", look_at_a_backlog),
        ("worker", "+psubscribe", listen),
        ("worker", "+ping", listen),
        ("worker", "+exists", prove_notifications),
        ("worker", WORKER.channels[0], listen),
        ("worker", WORKER.channels[1], listen),
    ],
)
def test_what_is_missing_is_named(
    redis_server: RedisServer, make_bench: Any, who: str, rule: str, does: Callable[[Bench], Act]
) -> None:
    roles, _ = WHO[who]
    bench = make_bench(redis_server, *roles, without=(rule,))
    act = prepared(bench, does)
    with pytest.raises(StoreUnavailable) as refused:
        act()
    told = str(refused.value)
    named = filled(rule).removeprefix("+")
    assert named.upper() in told.upper()
    assert "docs/settings.md" in told or "give it" in told or does is prove_notifications


def test_keys_that_are_not_granted_are_named(redis_server: RedisServer, make_bench: Any) -> None:
    bench = make_bench(redis_server, PRODUCER)
    bench.full.redis.execute_command("ACL SETUSER", USER, "resetkeys", "~other:*")
    with pytest.raises(StoreUnavailable, match=r"'minimal' lacks, as producer: ~\{expiry\.ledger\.0\}:\* "):
        schedule_on_expiry(bench.mine.record(1), seconds=600)
    assert bench.stored() == {}


def test_all_that_is_missing_is_named_at_once(redis_server: RedisServer, make_bench: Any) -> None:
    """Whatever an earlier missing right would keep from being reached; and what was granted is seen."""
    lacking = ("+zadd", "+hmget", "+hdel")
    for who, does in (("producer", schedule), ("worker", enter), ("operator", adopt)):
        roles, _ = WHO[who]
        bench = make_bench(redis_server, *roles, without=lacking)
        act = prepared(bench, does)
        told = (
            rf"'minimal' lacks, as {who}: \+hdel \+hmget \+zadd \(nothing was changed\): see docs/settings.md"
        )
        with pytest.raises(StoreUnavailable, match=told):
            act()
        assert not bench.full.redis.exists(bench.full.key("namespace"))
        assert bench.stored() == {}
        bench.full.redis.execute_command("ACL SETUSER", USER, *lacking)
        act()


def test_rights_are_asked_for_once(redis_server: RedisServer, make_bench: Any) -> None:
    """And not at all of the default user: each trial is an error in the statistics of the server."""
    bench = make_bench(redis_server, PRODUCER)

    def errors(site: Site) -> int:
        before = redis_server_errors()
        schedule_on_expiry(site.record(1), seconds=600, key="name")
        assert cancel("name", app=site.app)
        return redis_server_errors() - before

    def redis_server_errors() -> int:
        told = bench.full.redis.info("errorstats")
        return sum(each["count"] for name, each in told.items() if name != "errorstat_NOSCRIPT")

    assert errors(bench.full) == 0
    assert errors(bench.mine) > 0
    assert errors(bench.mine) == 0


@pytest.mark.timeout(120)
def test_rights_on_a_cluster(
    redis_cluster: RedisCluster, shared_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """Who has the first shard is asked, also where that is another than a moment ago."""

    def everywhere(*rules: str) -> None:
        for node in redis_cluster.up():
            with node.client() as client:
                client.execute_command("ACL SETUSER", USER, *rules)

    for node in redis_cluster.nodes:
        make_user(node, USER, PRODUCER, without=("+zadd",))
    keys, wake = f"~{{expiry.{NAMESPACE}.*}}:*", f"&{{expiry.{NAMESPACE}.[0-9]*}}:wake"
    everywhere(keys, "resetchannels", wake, "+cluster|slots", "+cluster|shards", "+command")
    url = redis_cluster.url(user=USER, password=PASSWORD)
    site = Site(redis_cluster, tmp_path, beside=shared_redis(), expiry_redis_url=url)
    try:
        store = store_of(site.app)
        assert store.link.client  # it knows by now who has what
        redis_cluster.kill(redis_cluster.owner(f"{{expiry.{NAMESPACE}.0}}:"))

        def told() -> str:
            with pytest.raises(StoreUnavailable) as refused:
                schedule_on_expiry(site.record(1), seconds=600)
            return str(refused.value)

        eventually(lambda: "lacks, as producer: +zadd (" in told(), what=told)
        assert store.recorded() == "64"
        assert not site.redis.exists(site.key("namespace"))
        everywhere("+zadd")
        for number in range(20):
            schedule_on_expiry(site.record(number), seconds=600)
    finally:
        site.close()


def half_done(bench: Bench, todo: Calls) -> list[str]:
    """The calls that were refused, and had changed something by then."""
    found = []
    for name, prepare in todo.items():
        act = prepared(bench, prepare)
        before = bench.stored()
        try:
            act()
        except (ExpiryError, RedisError):
            if bench.stored() != before:
                found.append(name)
        except AssertionError:
            pass  # it was answered, with something else
    return found


@pytest.mark.timeout(150)  # some forty users, and all that each of them can call
@pytest.mark.parametrize("who", WHO)
def test_refused_means_nothing_done(server: RedisServer, make_bench: Any, who: str) -> None:
    """A user who lacks one command of the list may not be refused in the middle of a change."""
    roles, todo = WHO[who]
    found = {}
    for role in roles:
        for command in role.commands:
            calls = half_done(make_bench(server, *roles, without=(command,)), todo)
            if calls:
                found[command] = calls
    assert found == {}
