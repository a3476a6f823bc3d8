"""`celery expiry rescue`: messages with a countdown that lie in a Redis broker already become timers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from celery import chain, chord, group
from kombu import Exchange, Queue

from celery_redis_expiry import get_timer, schedule_on_expiry
from celery_redis_expiry.blocking import run
from celery_redis_expiry.messages.recording import record
from celery_redis_expiry.rescue import Broker, Rescue
from celery_redis_expiry.rescue.found import Looking
from celery_redis_expiry.store import store_of
from celery_redis_expiry.store.users import Users
from celery_redis_expiry.timer import Lying, Stored
from tests.documented_acl import OPERATOR, PASSWORD, RESCUER, denied, make_user
from tests.integration.commands import expiry, told
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.site import Site

HOUR = 3600


@pytest.fixture
def make_site(shared_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """On one version of Redis: what differs between them is `test_on_every_version`'s."""
    server = shared_redis(use="rescue")
    server.reset()
    made: list[Site] = []

    def make(**options: Any) -> Site:
        made.append(Site(server, tmp_path, **options))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture(params=["in place", "apart"])
def here(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """The broker's queues in the timers' database, and in another one."""
    conf = {} if request.param == "in place" else {"expiry_redis_url": make_site().server.url(2)}
    return make_site(**conf)


def rescue(site: Site, **how: Any) -> dict[str, int]:
    run = Rescue(site.app, store_of(site.app), Broker(site.app), min_delay=60, **how)
    run.finish()
    for name in list(site.app.amqp.queues):
        run.queue(name)
    return {verdict: count for verdict, count in run.counts.items() if count}


def dumped(site: Site) -> dict[bytes, bytes]:
    """All that lies in the databases of broker and timers."""
    found = {}
    for database in (0, 2):
        with site.server.raw_client(database) as client:
            found |= {b"%d %s" % (database, key): client.dump(key) for key in client.scan_iter()}
    return found


def lying(site: Site, queue: str = "celery") -> list[str]:
    """The task ids of the messages in a queue, newest first."""
    return [json.loads(raw)["headers"]["id"] for raw in site.queues.lrange(queue, 0, -1)]


def nothing_is_held(site: Site) -> bool:
    return not site.queues.exists("unacked", "unacked_index")


def test_from_the_queue_to_a_timer(here: Site) -> None:
    add = here.task("add")
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    wanted = add.apply_async((1, 2), eta=at, queue="celery")
    high = add.apply_async((3, 4), countdown=HOUR, priority=9)
    soon, plain = add.apply_async((5, 6), countdown=30), add.delay(7, 8)
    assert rescue(here) == {"rescued": 2, "soon": 1, "plain": 1}
    assert lying(here) == [plain.id, soon.id]
    assert not here.queues.exists("celery\x06\x169")
    assert nothing_is_held(here)
    timer = get_timer(wanted.id, app=here.app)
    assert timer is not None
    assert timer.due is not None
    assert timedelta() <= timer.due - at < timedelta(milliseconds=1)
    assert (timer.name, timer.task, timer.args, timer.queue) == (None, "ledger.add", "(1, 2)", "celery")
    assert get_timer(high.id, app=here.app).priority == 9  # type: ignore[union-attr]
    # once more: nothing is left to do
    assert rescue(here) == {"soon": 1, "plain": 1}


@pytest.mark.parametrize("apart", [False, True])
def test_on_every_version(redis_server: RedisServer, tmp_path: Path, apart: bool) -> None:
    site = Site(redis_server, tmp_path, **({"expiry_redis_url": redis_server.url(2)} if apart else {}))
    ids = [site.record(n).apply_async(countdown=HOUR, priority=n % 2 * 3).id for n in range(120)]
    plain = [site.record(n).delay().id for n in range(60)]
    schedule_on_expiry(site.record(0).set(task_id=ids[0]), HOUR, app=site.app)
    assert rescue(site) == {"rescued": 119, "known": 1, "plain": 60}
    assert sorted(store_of(site.app).waiting_of(ids)) == sorted(ids)
    assert lying(site) == plain[::-1]
    assert nothing_is_held(site)
    site.close()


def sent_and_recorded(site: Site, signature: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is stored of a message with a countdown, and of a timer of the same signature."""
    scheduled = record(signature, site.app).stored
    signature.clone().set(task_id=scheduled.id).apply_async(countdown=HOUR)
    [key] = [key for key in site.queues.scan_iter("*") if site.queues.type(key) == "list"]
    [raw] = site.queues.lrange(key, 0, -1)
    site.queues.delete(key)
    looking = Looking(site.app, lambda *path: set(), 0)
    found = looking.at(Lying(raw.encode(), key, "", ""), key.partition("\x06")[0])
    assert (found.verdict, found.id) == ("fit", scheduled.id)
    assert found.stored is not None
    if "reply_to" not in signature.options:
        # of a thread that sends, and of the app that schedules: nobody reads either
        assert found.stored.content["arguments"].pop("reply_to")
        assert scheduled.content["arguments"].pop("reply_to")
    # as it comes back from Redis
    return tuple(Stored.decode(each.encode()).content for each in (found.stored, scheduled))  # type: ignore[return-value]


def test_it_is_stored_as_if_it_had_been_scheduled(make_site: Callable[..., Site]) -> None:
    site = make_site(result_extended=True)
    task = site.task("add")
    for signature in (
        task.s(1, 2),
        task.s("ü", b"\xff").set(priority=5, link=task.s(3), link_error=site.task("on_error").s()),
        task.s(1, 2).set(serializer="pickle"),
        task.s(datetime(2030, 1, 1), None),
        task.s(1, 2).set(compression="gzip", queue="elsewhere"),
        task.s(1, 2).set(headers={"x": 1}, retries=2, root_id="root", parent_id="parent", shadow="else"),
        task.s(1, 2).set(expires=datetime.now(timezone.utc) + timedelta(hours=2), time_limit=9),
        task.s(1, 2).set(ignore_result=True, reply_to="queue", message_id="mine", delivery_mode=1),
        task.s(1, 2).set(group_id="group", group_index=3, stamped_headers=["a"], a="b"),
    ):
        sent, scheduled = sent_and_recorded(site, signature)
        if "expires" in signature.options:
            # until when is told by the header; how long from now on, by each at its time
            assert abs(sent["arguments"].pop("expiration") - scheduled["arguments"].pop("expiration")) < 10
        assert sent == scheduled


def test_of_task_protocol_1(make_site: Callable[..., Site]) -> None:
    site = make_site(task_protocol=1)
    sent, scheduled = sent_and_recorded(site, site.task("add").s(1, 2).set(retries=1))
    assert sent == scheduled


@pytest.mark.parametrize(
    "canvas",
    [
        lambda s: chain(s.record(1), s.record(2)),
        lambda s: group(s.record(1), s.record(2)),
        lambda s: chord([s.record(n).set(countdown=HOUR) for n in range(2)], s.task("total").s()),
    ],
)
def test_parts_of_a_canvas(here: Site, canvas: Callable[[Site], Any]) -> None:
    canvas(here).apply_async(countdown=HOUR)
    there = len(lying(here))
    assert there >= 1
    assert rescue(here) == {"rescued": there}


def test_what_stays_and_why(here: Site) -> None:
    def push(change: Callable[[dict[str, Any]], None]) -> None:
        here.task().apply_async(("x",), countdown=HOUR)
        envelope = json.loads(here.queues.lpop("celery"))
        change(envelope)
        here.queues.lpush("celery", json.dumps(envelope))

    push(lambda it: it["headers"].update(eta="tomorrow"))
    push(lambda it: it["headers"].update(id="\n"))
    push(lambda it: it["headers"].update(id=None))
    push(lambda it: it["headers"].pop("task"))
    push(lambda it: it.pop("properties"))
    push(lambda it: it["properties"]["delivery_info"].update(routing_key="elsewhere"))
    push(lambda it: it["properties"]["delivery_info"].update(exchange="unheard of"))
    push(lambda it: it["headers"].update(eta="1999-01-01T00:00:00"))
    here.queues.lpush("celery", "no JSON", "[]", "\x00")
    before = dumped(here)
    assert rescue(here) == {"unfit": 8, "shared": 2, "soon": 1}
    assert dumped(here) == before


def test_exchanges(here: Site) -> None:
    exchange = Exchange("all", type="topic")
    here.app.amqp.queues = here.app.amqp.Queues(
        [Queue(name, exchange, routing_key=key) for name, key in (("one", "one.*"), ("two", "#.both"))]
    )
    with here.app.connection_for_write() as connection:
        for queue in here.app.amqp.queues.values():
            # an earlier test's connection of the pool believes that it has declared them
            queue(connection.default_channel).declare()
    for key in ("one.only", "one.both", "two.both"):
        here.task().apply_async((key,), countdown=HOUR, queue=key[:3], routing_key=key)
    assert (here.queues.llen("one"), here.queues.llen("two")) == (2, 2)
    # what an exchange brings to both would come to both again
    assert rescue(here) == {"rescued": 2, "shared": 2}
    assert (here.queues.llen("one"), here.queues.llen("two")) == (1, 1)


def test_who_waits_already_is_never_replaced(here: Site) -> None:
    """Another timer with the task id; and one that an earlier run stored before it was killed."""
    for label, seconds in (("other", 9000), ("same", HOUR)):
        here.record("same").set(task_id=label).apply_async(countdown=HOUR)
        schedule_on_expiry(here.record(label).set(task_id=label), seconds, app=here.app)
    assert rescue(here) == {"kept": 1, "known": 1}
    assert lying(here) == ["other"]
    assert nothing_is_held(here)
    assert get_timer("other", app=here.app).remaining > 8000  # type: ignore[union-attr, operator]


def test_the_same_message_twice(here: Site) -> None:
    """kombu gives back after its visibility timeout what a worker still holds."""
    here.record(1).apply_async(countdown=HOUR)
    [raw] = here.queues.lrange("celery", 0, -1)
    envelope = json.loads(raw)
    envelope["headers"]["redelivered"] = True
    here.queues.rpush("celery", json.dumps(envelope), raw)
    assert rescue(here) == {"rescued": 1, "known": 2}
    assert not here.queues.exists("celery")


def test_a_dry_run_changes_nothing(here: Site) -> None:
    for n in range(120):
        here.record(n).apply_async(countdown=HOUR)
        here.record(n).delay()
    before = dumped(here)
    [counts] = told(here.app, "rescue", "--dry-run")
    assert counts["rescued"] == 120
    assert "120 rescued (dry run" in expiry(here.app, "rescue", "--dry-run", "--unacked").stdout
    assert dumped(here) == before
    assert [counts] == told(here.app, "rescue")


def test_while_others_push_and_take(here: Site) -> None:
    """Whatever happens at both ends of the queue: each message is taken once, by the consumer or by us."""
    for n in range(40):
        here.record(n).apply_async(countdown=HOUR) if n % 3 else here.record(n).delay()
    pattern = [json.loads(raw) for raw in here.queues.lrange("celery", 0, -1)]
    for queue, count in (("celery", 40), ("stock", 15)):
        for n in range(count):
            for envelope in pattern:
                envelope["headers"]["id"] = f"{queue} {n} {envelope['properties']['delivery_tag']}"
            here.queues.lpush(queue, *map(json.dumps, pattern))
    given = lying(here)
    taken: list[str] = []
    over = threading.Event()

    def push() -> None:
        with here.server.client() as client:
            while not over.is_set() and (raw := client.rpop("stock")):
                given.append(json.loads(raw)["headers"]["id"])
                client.lpush("celery", raw)

    def take() -> None:
        with here.server.client() as client:
            while not over.is_set() and (raw := client.rpop("celery")):
                taken.append(json.loads(raw)["headers"]["id"])

    others = [threading.Thread(target=push), threading.Thread(target=take)]
    for thread in others:
        thread.start()
    counts = rescue(here)
    over.set()
    for thread in others:
        thread.join()
    left = lying(here)
    waiting = store_of(here.app).waiting_of(given)
    assert counts["rescued"] == len(waiting) > 100
    assert len(taken) > 100
    assert sorted([*waiting, *taken, *left]) == sorted(given)
    assert nothing_is_held(here)
    # of what lay there at the beginning none with an ETA was passed over
    envelopes = [json.loads(raw)["headers"] for raw in here.queues.lrange("celery", 0, -1)]
    assert not [it["id"] for it in envelopes if it["eta"] and it["id"].startswith("celery")]


class Killed(BaseException):
    """As kill -9: nothing is tidied up."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["hold", "schedule", "ack"])
def test_killed_at_any_step(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    site = make_site(expiry_redis_url=make_site().server.url(2))
    ids = sorted(site.record(n).apply_async(countdown=HOUR).id for n in range(120))
    owner: Any = Users if step == "schedule" else Broker
    original, calls = getattr(owner, step), 0

    def dying(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 and moment == "before":
            raise Killed
        answer = original(self, *args)
        if calls == 2:
            if step == "schedule":
                run(answer)
            raise Killed
        return answer

    monkeypatch.setattr(owner, step, dying)
    with pytest.raises(Killed):
        rescue(site)
    monkeypatch.undo()
    # in the queue, held, or a timer: none is nowhere
    held = [json.loads(entry)[0]["headers"]["id"] for entry in site.queues.hvals("unacked")]
    waiting = store_of(site.app).waiting_of(ids)
    assert set(ids) == {*lying(site), *held, *waiting}
    assert not set(lying(site)) & {*held, *waiting}
    # those that wait fire, for all that the broker knows
    fired = [id for id in waiting if store_of(site.app).cancel(id)]
    assert len(fired) == len(waiting) >= 50
    rescue(site)
    assert sorted([*fired, *store_of(site.app).waiting_of(ids)]) == ids
    with site.server.client(2) as timers:
        # an answer that nobody will ask for any more is forgotten, in a week where we were killed just then
        assert len(list(timers.scan_iter("*answer:*.*"))) == ((step, moment) == ("ack", "after"))
    assert not site.queues.exists("celery")
    assert nothing_is_held(site)


def test_timers_in_a_cluster(
    redis_cluster: RedisCluster,
    make_site: Callable[..., Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call is one for each of its shards: those that were stored are not stored again."""
    site = Site(redis_cluster, tmp_path, beside=cast("RedisServer", make_site().server))
    store = store_of(site.app)
    ids = [site.record(n).apply_async(countdown=HOUR).id for n in range(60)]
    ack, calls = Broker.ack, 0

    def dying(self: Broker, tags: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise Killed
        ack(self, tags)

    monkeypatch.setattr(Broker, "ack", dying)
    with pytest.raises(Killed):
        rescue(site)
    monkeypatch.undo()
    fired = [id for id in store.waiting_of(ids) if store.cancel(id)]
    assert len(fired) >= 7
    rescue(site)
    assert sorted([*fired, *store.waiting_of(ids)]) == sorted(ids)
    assert nothing_is_held(site)
    site.close()


def test_killed_and_not_repeated(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu itself gives back what was held: the entry is one of its own."""
    site = make_site(
        expiry_redis_url=make_site().server.url(2), broker_transport_options={"visibility_timeout": 0}
    )
    id = site.record(1).apply_async(countdown=HOUR, priority=3).id

    async def killed(*args: Any) -> Any:
        raise Killed

    monkeypatch.setattr(Users, "schedule", killed)
    with pytest.raises(Killed):
        rescue(site)
    assert site.queues.zcard("unacked_index") == 1
    with site.app.connection_for_read() as connection:
        connection.default_channel.qos.restore_visible(interval=1)
    assert nothing_is_held(site)
    assert lying(site, "celery\x06\x163") == [id]


def test_the_reply_is_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py sends the call once more: the answer is the first one."""
    link = store_of(site.app).link
    original, rescues = link.call, 0

    async def twice(script: str, **given: Any) -> Any:
        nonlocal rescues
        first = await original(script, **given)
        if script == "rescue":
            rescues += 1
            assert await original(script, **given) == first
        return first

    monkeypatch.setattr(link, "call", twice)
    for n in range(3):
        site.record(n).apply_async(countdown=HOUR)
    assert rescue(site) == {"rescued": 3}
    assert rescues == 1


def test_a_full_redis(here: Site) -> None:
    for n in range(3):
        here.record(n).apply_async(countdown=HOUR)
    here.redis.config_set("maxmemory", "1")
    try:
        assert "maxmemory" in expiry(here.app, "rescue", code=1).stderr
        assert len(lying(here)) == 3
        assert nothing_is_held(here)
    finally:
        here.redis.config_set("maxmemory", "0")
    assert rescue(here) == {"rescued": 3}


def test_names_of_the_brokers_own(make_site: Callable[..., Site]) -> None:
    options = {
        "global_keyprefix": "p:",
        "priority_steps": [0, 5],
        "sep": ":",
        "unacked_key": "mine",
        "unacked_index_key": "mine_index",
    }
    site = make_site(broker_transport_options=options, expiry_redis_url=make_site().server.url(2))
    site.record(1).apply_async(countdown=HOUR, priority=7)
    site.record(2).apply_async(countdown=HOUR)
    assert {"p:celery", "p:celery:5"} <= set(site.queues.keys("p:*"))
    assert rescue(site) == {"rescued": 2}
    assert not site.queues.exists("p:celery", "p:celery:5", "p:mine", "mine")


# -- what workers held


@pytest.fixture
def consumed(here: Site) -> Iterator[tuple[Site, Any]]:
    """Messages that a consumer holds, as a worker does."""
    for n in range(120):
        here.record(n).apply_async(countdown=HOUR)
    connection = here.app.connection_for_read()
    channel: Any = connection.channel()
    channel.qos.restore_at_shutdown = False
    while channel.basic_get("celery"):
        pass
    for tag, message in channel.qos._delivered.items():
        channel.qos.append(message, tag)
    assert here.queues.hlen("unacked") == 120
    yield here, connection
    connection.release()


def test_what_is_held_is_left_to_workers(consumed: tuple[Site, Any]) -> None:
    site, _ = consumed
    result = expiry(site.app, "rescue")
    assert result.stdout == "0 rescued\n"
    assert "120 messages more are held by workers" in result.stderr
    assert site.queues.hlen("unacked") == 120


def test_what_killed_workers_held(consumed: tuple[Site, Any]) -> None:
    site, _ = consumed
    site.record("lies in the queue").apply_async(countdown=HOUR)
    [counts] = told(site.app, "rescue", "--unacked", "--timeout", "0.1", "-Q", "celery")
    assert counts["rescued"] == 121
    assert nothing_is_held(site)
    assert not lying(site)


def test_of_other_queues(consumed: tuple[Site, Any]) -> None:
    site, _ = consumed
    [counts] = told(site.app, "rescue", "--unacked", "--timeout", "0.1", "-Q", "other")
    assert counts["rescued"] == 0
    assert site.queues.hlen("unacked") == 120


def test_while_somebody_consumes(consumed: tuple[Site, Any]) -> None:
    site, _ = consumed
    with site.server.client() as client:
        client.brpop("nothing", timeout=0.01)
        error = expiry(site.app, "rescue", "--unacked", "--timeout", "0.1", code=1).stderr
        assert "stop the workers first" in error
        assert "a client at 127.0.0.1" in error
        assert site.queues.hlen("unacked") == 120
        assert "120 rescued" in expiry(site.app, "rescue", "--unacked", "--live").stdout


# -- rights

EXTRA = ("+llen", "+lrange", "+lset", "+lrem", "+hexists", "+hscan", "+smembers")


@pytest.fixture
def limited(make_site: Callable[..., Site]) -> Callable[..., Site]:
    """The site as the documented user sees it, who may not do everything; it is the broker's user, too."""
    server = make_site().server

    def make(*without: str) -> Site:
        make_user(server, "rescuer", OPERATOR, RESCUER, without=without)
        with server.client() as client:
            keys = ("~celery*", "~unacked*", "~_kombu.binding.*")
            granted = [rule for rule in ("+hscan", "+smembers") if rule not in without]
            client.execute_command("ACL SETUSER", "rescuer", *keys, *granted)
            client.execute_command("ACL LOG RESET")
        return make_site(broker=server.url(user="rescuer", password=PASSWORD), expiry_redis_url=None)

    return make


def with_messages(site: Site) -> Site:
    exchange = Exchange("celery", type="direct")
    with site.app.connection_for_write() as connection:
        Queue("celery", exchange, "celery")(connection.default_channel).declare()
    for n in range(3):
        site.record(n).apply_async(countdown=HOUR)
    envelope = json.loads(site.queues.lpop("celery"))
    envelope["properties"]["delivery_info"]["exchange"] = "celery"
    site.queues.lpush("celery", json.dumps(envelope))
    schedule_on_expiry(site.record(1).set(task_id=lying(site)[1]), HOUR, app=site.app)
    return site


def test_the_documented_rights_are_enough(
    make_site: Callable[..., Site], limited: Callable[..., Site]
) -> None:
    full = with_messages(make_site())
    [counts] = told(limited().app, "rescue")
    assert (counts["rescued"], counts["known"] + counts["kept"]) == (2, 1)
    assert denied(full.server, "rescuer") <= {"info"}  # only asked for where two URLs differ


@pytest.mark.parametrize("lacking", EXTRA)
def test_without_one_of_them_nothing_is_done(
    make_site: Callable[..., Site], limited: Callable[..., Site], lacking: str
) -> None:
    full = with_messages(make_site())
    before = dumped(full)
    assert lacking in expiry(limited(lacking).app, "rescue", code=1).stderr.lower().replace("run ", "+")
    after = dumped(full)
    assert {key: after.get(key) for key in before} == before


def test_no_redis_broker(make_site: Callable[..., Site]) -> None:
    site = make_site(broker="memory://")
    assert "is no Redis" in expiry(site.app, "rescue", code=1).stderr


def test_a_duration_is_asked_for(site: Site) -> None:
    assert "must be a duration" in expiry(site.app, "rescue", "--min-delay", "2030-01-01", code=2).stderr
    for seconds in (500, 700):
        site.record(seconds).apply_async(countdown=seconds)
    [counts] = told(site.app, "rescue", "--min-delay", "10m")
    assert (counts["rescued"], counts["soon"]) == (1, 1)
