"""`expiry_countdown_threshold`: calls of Celery's own become timers, wherever they come from."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Task, chain, chord, group, shared_task
from celery._state import _task_stack
from celery.beat import Scheduler
from celery.exceptions import Retry
from celery.result import AsyncResult, GroupResult
from kombu import Connection

from celery_redis_expiry import SCHEDULED, get_timer, schedule_on_expiry
from celery_redis_expiry.connections import RETRIES
from celery_redis_expiry.hooks import sending
from celery_redis_expiry.results import ScheduledResult
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Timer
from tests.events import watched
from tests.servers.processes import free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.workers import environment
from tests.site import Site
from tests.waiting import eventually

DELAY = 3600


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(expiry_countdown_threshold=60)


@pytest.fixture
def proxied(make_site: Callable[..., Site], redis_server: RedisServer, proxy: Proxy) -> Site:
    """The way to its timers leads by the proxy, that to its broker does not."""
    return make_site(expiry_countdown_threshold=60, expiry_redis_url=redis_server.url(port=proxy.port))


def anything() -> None: ...


def queued(site: Site) -> int:
    """How many messages lie in the broker's queue."""
    return int(site.queues.llen("celery"))


def timer_of(site: Site, result: Any) -> Timer:
    timer = get_timer(result, app=site.app)
    assert timer is not None
    return timer


@contextmanager
def running(task: Any, **request: Any) -> Iterator[None]:
    """As in a worker that runs the task."""
    task.push_request(called_directly=False, args=(1,), kwargs={}, delivery_info={}, **request)
    _task_stack.push(task)
    try:
        yield
    finally:
        _task_stack.pop()
        task.pop_request()


# -- every way to call a task


def by_own_producer(site: Site) -> Any:
    with site.app.producer_pool.acquire(block=True) as producer:
        return site.task().apply_async((1,), countdown=DELAY, producer=producer)


def by_own_connection(site: Site) -> Any:
    with site.app.connection_for_write() as connection:
        return site.task().apply_async((1,), countdown=DELAY, connection=connection)


def by_task_of_the_users_own(site: Site) -> Any:
    class Base(Task):
        def apply_async(self, *args: Any, **options: Any) -> Any:
            return super().apply_async(*args, **{**options, "countdown": DELAY})

    @site.app.task(base=Base, name="own", shared=False)
    def own() -> None: ...

    return own.delay()


# once: every app that is made from here on has it
@shared_task(name="drop_in.shared")
def shared() -> None: ...


def by_shared_task(site: Site) -> Any:
    with site.current():
        return shared.apply_async(countdown=DELAY)


def by_beat(site: Site) -> Any:
    site.app.conf.beat_schedule = {
        "late": {"task": "ledger.record", "schedule": 60, "options": {"countdown": DELAY}}
    }
    scheduler = Scheduler(app=site.app)
    return scheduler.apply_async(scheduler.schedule["late"], producer=scheduler.producer)


WAYS: dict[str, Callable[[Site], Any]] = {
    "countdown": lambda site: site.task().apply_async((1,), countdown=DELAY),
    "eta": lambda site: site.task().apply_async((1,), eta=datetime.now(timezone.utc) + timedelta(hours=1)),
    "signature": lambda site: site.record(1).apply_async(countdown=DELAY),
    "delay of a signature": lambda site: site.record(1).set(countdown=DELAY).delay(),
    "send_task": lambda site: site.app.send_task("elsewhere.task", (1,), countdown=DELAY),
    "positional": lambda site: site.app.send_task("ledger.record", (1,), {}, DELAY, None, "an-id"),
    "unknown task": lambda site: site.app.signature("elsewhere.task").apply_async(countdown=DELAY),
    "chain": lambda site: chain(site.record(1), site.record(2)).apply_async(countdown=DELAY).parent,
    "own producer": by_own_producer,
    "own connection": by_own_connection,
    "apply_async of the user's own": by_task_of_the_users_own,
    "shared task": by_shared_task,
    "beat": by_beat,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_a_timer(site: Site, way: str) -> None:
    result = WAYS[way](site)
    timer = timer_of(site, result)
    assert timer.remaining == pytest.approx(DELAY, abs=30)
    assert isinstance(result, AsyncResult)
    assert not isinstance(result, ScheduledResult)
    assert result.state == SCHEDULED
    assert (site.waiting(), queued(site)) == (1, 0)


CANVASES: dict[str, Callable[[Site], Any]] = {
    "group": lambda site: group(site.record(1), site.record(2)).apply_async(countdown=DELAY),
    "members": lambda site: group(site.record(n).set(countdown=DELAY) for n in (1, 2)).apply_async(),
    "skewed": lambda site: group(site.record(1), site.record(2)).skew(start=70, step=10).apply_async(),
    "header of a chord": lambda site: chord(
        [site.record(n).set(countdown=DELAY) for n in (1, 2)], site.task("total").s()
    ).apply_async(),
}


@pytest.mark.parametrize("canvas", CANVASES)
def test_members_are_timers(site: Site, canvas: str) -> None:
    with site.current():
        result = CANVASES[canvas](site)
    members = result.results if isinstance(result, GroupResult) else result.parent.results
    assert [member.state for member in members] == [SCHEDULED, SCHEDULED]
    assert (site.waiting(), queued(site)) == (2, 0)


def test_what_is_nearer_is_celerys(site: Site) -> None:
    for options in ({"countdown": 59}, {"countdown": 60}, {}, {"countdown": -5}):
        site.task().apply_async((1,), **options)
    assert (site.waiting(), queued(site)) == (0, 4)


def test_without_the_setting_all_is_as_it_was(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.task().apply_async((1,), countdown=DELAY).state == "PENDING"
    assert (site.waiting(), queued(site)) == (0, 1)


def test_a_task_says_so_itself(site: Site) -> None:
    for choice in (True, False):
        site.app.task(anything, name=f"chosen.{choice}", shared=False, expiry=choice)
        site.app.send_task(f"chosen.{choice}", countdown=30)
        site.app.tasks[f"chosen.{choice}"].apply_async(countdown=DELAY)
    assert (site.waiting(), queued(site)) == (2, 2)


def test_eager(make_site: Callable[..., Site]) -> None:
    site = make_site(expiry_countdown_threshold=60, task_always_eager=True)
    assert site.task("add").apply_async((1, 2), countdown=DELAY).get() == 3
    with pytest.warns(UserWarning, match="task_always_eager"):
        site.app.send_task("ledger.record", countdown=DELAY)
    assert site.stored() == {}


def test_another_brokers_connection_is_followed(site: Site) -> None:
    with Connection("memory://elsewhere") as connection:
        connection.SimpleQueue("celery").clear()
        site.task().apply_async((1,), countdown=DELAY, connection=connection)
        site.task().apply_async((1,), countdown=DELAY, producer=connection.Producer())
        assert connection.default_channel.queue_declare("celery", passive=True).message_count == 2
    assert (site.waiting(), queued(site)) == (0, 0)


def test_schedule_on_expiry_is_not_caught(site: Site) -> None:
    """Nor is a task whose apply_async adds a countdown: what is recorded already has its due time."""

    class Late(Task):
        def apply_async(self, *args: Any, **options: Any) -> Any:
            return super().apply_async(*args, **{**options, "countdown": 7 * DELAY})

    late = site.app.task(anything, base=Late, name="late", shared=False)
    result = schedule_on_expiry(late.s(), seconds=DELAY)
    assert isinstance(result, ScheduledResult)
    assert timer_of(site, result).remaining == pytest.approx(DELAY, abs=30)
    assert (site.waiting(), queued(site)) == (1, 0)


# -- what a result is


def test_revoke_cancels(site: Site) -> None:
    result = site.task().apply_async((1,), countdown=DELAY)
    result.revoke()
    assert site.stored() == {}


def test_ignored(site: Site) -> None:
    assert site.task().apply_async((1,), countdown=DELAY, ignore_result=True).ignored
    assert not site.task().apply_async((1,), countdown=DELAY).ignored


def test_nobody_subscribes_to_the_result_for_days(site: Site) -> None:
    def subscribed(result: Any) -> Any:
        return site.redis.pubsub_channels(f"celery-task-meta-{result.id}")

    waiting = site.task().apply_async((1,), countdown=DELAY)
    sent = site.task().apply_async((1,))
    eventually(lambda: subscribed(sent), what="the subscription that Celery makes")
    assert not subscribed(waiting)


def test_a_result_class_of_the_users_own(site: Site) -> None:
    class Result(AsyncResult):
        pass

    assert type(site.app.send_task("ledger.record", countdown=DELAY, result_cls=Result)) is Result


# -- in a worker


def test_a_retry(site: Site) -> None:
    task = site.task()
    for retries in range(2):
        with running(task, id="again", retries=retries), pytest.raises(Retry):
            task.retry(countdown=DELAY)
        result = site.app.AsyncResult("again")
        timer = timer_of(site, result)
        assert (timer.remaining, timer.retries) == (pytest.approx(DELAY, abs=30), retries + 1)
        # its worker is about to say RETRY, which must be the first that is heard of it
        assert result.state == "PENDING"
        # it fires, and its worker retries before it is acked
        assert site.waiting() == 1
        claim_it(site)
    assert (site.waiting(), queued(site)) == (0, 0)


def claim_it(site: Site) -> None:
    """As an expiry worker that has published, and not acked yet."""
    [member] = site.redis.zrange(site.key("due"), 0, -1)
    site.redis.delete(*site.redis.scan_iter("*trigger*"))
    [shard] = store_of(site.app).shards
    assert shard.claim([(member, True)], token="claimed", lease=60)


def test_a_task_id_that_waits_already_replaces_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Celery sends both, and so both run."""
    site.task().apply_async((1,), countdown=DELAY, task_id="mine")
    with caplog.at_level(logging.WARNING):
        result = site.task().apply_async((2,), countdown=2 * DELAY, task_id="mine")
    assert result.id == "mine"
    assert timer_of(site, result).remaining == pytest.approx(DELAY, abs=30)
    assert timer_of(site, result).args == "(1,)"
    assert (site.waiting(), queued(site)) == (1, 1)
    [record] = caplog.records
    assert (record.expiry_event, record.expiry_task_id) == ("no_timer", "mine")  # type: ignore[attr-defined]


def test_it_is_the_childs_parent_once(site: Site, proxied: Site, proxy: Proxy) -> None:
    for each in (site, proxied):
        parent = each.task("spawn")
        with running(parent, id="parent", root_id="root"):
            child = each.task().apply_async((1,), countdown=DELAY)
            each.task().apply_async((1,), countdown=DELAY, add_to_parent=False)
            assert parent.request.children == [child]
        proxy.refuse()


# -- when Redis is away


def test_the_ordinary_way_with_a_warning(
    proxied: Site, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = proxied.task()
    task.apply_async((1,), countdown=DELAY)
    proxy.refuse()
    proxy.seen.clear()
    with caplog.at_level(logging.WARNING), running(task, id="retried", retries=1):
        with pytest.raises(Retry):
            task.retry(countdown=DELAY)
        with pytest.raises(Retry):
            task.retry(countdown=DELAY)
    assert (proxied.waiting(), queued(proxied)) == (1, 2)
    assert [record.expiry_event for record in caplog.records] == ["no_timer"] * 2  # type: ignore[attr-defined]
    # only the first of them tried
    assert "a moment ago" not in caplog.records[0].message
    assert "a moment ago" in caplog.records[1].message

    proxy.accept_again()
    task.apply_async((1,), countdown=DELAY)
    assert (proxied.waiting(), queued(proxied)) == (1, 3)
    monkeypatch.setitem(sending._paused, proxied.app, 0.0)
    task.apply_async((1,), countdown=DELAY)
    assert (proxied.waiting(), queued(proxied)) == (2, 3)


def test_nobody_knows_whether_the_timer_is_there(proxied: Site, proxy: Proxy) -> None:
    """Better twice than never; under one task id."""
    task = proxied.task()
    task.apply_async(("other",), countdown=DELAY)
    for _ in range(RETRIES + 1):
        proxy.drop_reply(lambda command: command[0].upper() == "EVALSHA")
    result = task.apply_async((1,), countdown=DELAY)
    assert len(proxy.dropped) == RETRIES + 1
    assert timer_of(proxied, result).remaining
    [message] = [json.loads(each) for each in proxied.queues.lrange("celery", 0, -1)]
    assert message["headers"]["id"] == result.id
    assert message["headers"]["eta"]


@pytest.mark.parametrize("bad", ["a setting", "no Redis at all", "an id that is no text", "full"])
def test_no_trouble_of_ours_is_the_callers(
    make_site: Callable[..., Site], bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    conf: dict[str, Any] = {"expiry_countdown_threshold": 60}
    if bad == "a setting":
        conf["expiry_countdown_threshold"] = "60"
    if bad == "no Redis at all":
        conf["expiry_redis_url"] = f"redis://127.0.0.1:{free_port()}/0"
    site = make_site(**conf)
    options = {"task_id": "a\nb"} if bad == "an id that is no text" else {}
    if bad == "full":
        site.redis.set("there", "x" * 1000)
        site.redis.config_set("maxmemory", "100kb")
    try:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(Exception, match="maxmemory") if bad == "full" else nothing(),
        ):
            site.task().apply_async((1,), countdown=DELAY, retry=False, **options)
    finally:
        site.redis.config_set("maxmemory", "0")
    assert [record.expiry_event for record in caplog.records] == ["no_timer"]  # type: ignore[attr-defined]
    assert (site.waiting(), queued(site)) == (0, 0 if bad == "full" else 1)


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_what_celery_refuses_it_refuses_still(site: Site) -> None:
    with pytest.raises(Exception, match="serializ"):
        site.task().apply_async((object(),), countdown=DELAY)
    with pytest.raises(TypeError, match="must be a mapping"):
        site.app.send_task("ledger.record", (1,), "no mapping", countdown=DELAY)
    with pytest.raises(TypeError):
        site.task("add").apply_async((1, 2, 3), countdown=DELAY)
    assert site.stored() == {}


def test_a_timer_that_too_few_replicas_have_is_there(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site(expiry_countdown_threshold=60, expiry_wait_replicas=1, expiry_wait_replicas_timeout=0.1)
    with caplog.at_level(logging.WARNING):
        result = site.task().apply_async((1,), countdown=DELAY)
    assert result.state == SCHEDULED
    assert (site.waiting(), queued(site)) == (1, 0)
    assert [record.expiry_event for record in caplog.records] == ["not_replicated"]  # type: ignore[attr-defined]


# -- the rest


def received(event: Any) -> Any:
    return event if event is not None and event.received else None


def test_a_pool_of_one_connection_is_enough(make_site: Callable[..., Site]) -> None:
    """A group holds a producer while it is applied; who waited for another would wait for ever."""
    site = make_site(expiry_countdown_threshold=60, broker_pool_limit=1, task_send_sent_event=True)
    site.redis.zadd(site.key("pacers"), {"expiry@here:1": site.now() * 1000 + 60_000})
    made: list[GroupResult] = []

    def apply() -> None:
        made.append(group(site.record(1), site.record(2)).apply_async(countdown=DELAY))

    with watched(site.app) as told:
        applying = threading.Thread(target=apply, daemon=True)
        applying.start()
        applying.join(20)
        assert not applying.is_alive()
        for member in made[0].results:
            event = eventually(lambda id=member.id: received(told(id)), what="its events")
            assert event.name == "ledger.record"
            assert datetime.fromisoformat(event.eta) == timer_of(site, member).due
        assert "expiry@here" in told.state.workers
    assert site.waiting() == 2


APP = """
import sys
from celery import Celery
{imported}
app = Celery("ledger", broker=sys.argv[1], backend=sys.argv[1])
app.conf.expiry_countdown_threshold = 60

@app.task
def task(): ...

print(task.apply_async(countdown=3600).state)
"""


@pytest.mark.parametrize("imported", ["import celery_redis_expiry", ""])
def test_the_setting_and_an_import_are_enough(site: Site, imported: str) -> None:
    """In a process that is no `celery` command: a web server's, say."""
    done = run(site, APP.format(imported=imported), site.config["broker"])
    assert done == ("SCHEDULED" if imported else "PENDING")
    assert (site.waiting(), queued(site)) == ((1, 0) if imported else (0, 1))


DJANGO = """
import os, sys
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
import django
django.setup()
from celery import Celery
from celery.contrib.django.task import DjangoTask
from django.db import transaction
import celery_redis_expiry
app = Celery("ledger", broker=sys.argv[1], backend=sys.argv[1], task_cls=DjangoTask)
app.conf.expiry_countdown_threshold = 60

@app.task(expiry=True)
def task(): ...

def waiting():
    return len(list(celery_redis_expiry.iter_timers(app=app)))

class Rolled(Exception): ...

with transaction.atomic():
    task.apply_async_on_commit(countdown=3600)
    before = waiting()
after = waiting()
try:
    with transaction.atomic():
        task.apply_async_on_commit(countdown=3600)
        raise Rolled
except Rolled:
    print(before, after, waiting())
"""


def test_a_task_of_django_on_commit(site: Site) -> None:
    assert run(site, DJANGO, site.config["broker"]) == "0 1 1"
    assert queued(site) == 0


def run(site: Site, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment(site.config),
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
