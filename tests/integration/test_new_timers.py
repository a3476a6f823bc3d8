"""New timers are stored all at once, on connections that stay taken: what neither may change."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from celery_redis_expiry import (
    InvalidTimer,
    TimerExists,
    bulk,
    cancel,
    get_timer,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.bulk import BULK
from celery_redis_expiry.connections import Location, can_hold
from celery_redis_expiry.keys import new_id
from celery_redis_expiry.messages import prepare
from celery_redis_expiry.scripts import known_by, program
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import LATEST, Request
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.resp import Command
from tests.site import Site

HOLDS = pytest.mark.skipif(
    not can_hold(Location("redis://")), reason="this redis-py is too old: no connection is held"
)
ADD, SCHEDULE = (known_by(program(name)) for name in ("add", "schedule"))


@pytest.fixture
def afar(redis_server: RedisServer, make_site: Callable[..., Site], proxy: Proxy) -> Site:
    """A site whose way to Redis can fail, after a first call of each kind."""
    site = make_site(expiry_redis_url=redis_server.url(port=proxy.port))
    for key in (None, "known"):
        # scripts and template are there from now on
        assert schedule_on_expiry(site.record(0), seconds=600, key=key).cancel()
    proxy.clear()
    return site


def scripts(proxy: Proxy) -> list[str]:
    return [command[1] for command in proxy.seen if command[0].upper() == "EVALSHA"]


def request(site: Site, label: int, id: str, when: str = "+600000") -> Request:
    signature = site.record(label).set(task_id=id)
    return Request(prepare(signature, site.app).stored, when, "replace", None, id)


def test_one_script_for_new_timers(afar: Site, proxy: Proxy) -> None:
    schedule_on_expiry(afar.record(1), seconds=600)
    schedule_many_on_expiry([(afar.record(n), 600) for n in range(BULK)])
    assert scripts(proxy) == [ADD, ADD]
    assert afar.waiting() == 1 + BULK


@pytest.mark.parametrize("arguments", [{"key": "name"}, {"unless_exists": "paid"}])
def test_another_for_all_others(afar: Site, proxy: Proxy, arguments: dict[str, Any]) -> None:
    schedule_on_expiry(afar.record(1), seconds=600, **arguments)
    assert scripts(proxy) == [SCHEDULE]
    assert afar.waiting() == 1


def test_one_of_many_has_the_id_of_a_timer_that_waits(afar: Site, proxy: Proxy) -> None:
    first = schedule_on_expiry(afar.record(0), seconds=600)
    proxy.clear()
    items = [(afar.record(n), 600) for n in range(5)]
    items[2] = afar.record(2).set(task_id=first.id), 600
    summary = schedule_many_on_expiry(items)
    assert scripts(proxy) == [ADD, SCHEDULE]
    assert summary.scheduled == 4
    [bad] = summary.errors
    assert bad.position == 2
    assert isinstance(bad.error, TimerExists)
    assert afar.waiting() == 5


def test_two_of_many_begin_alike(site: Site) -> None:
    """Only one of them can be compact."""
    one = new_id()
    other = one[:-10] + new_id()[-10:]
    summary = schedule_many_on_expiry([(site.record(id).set(task_id=id), 600) for id in (one, other)])
    assert (summary.scheduled, summary.errors) == (2, [])
    for id in (one, other):
        timer = get_timer(id, app=site.app)
        assert timer is not None
        assert (timer.id, timer.args) == (id, f"('{id}',)")


def test_one_that_would_be_due_too_late_harms_no_other(site: Site) -> None:
    ids = [new_id() for _ in range(3)]
    requests = [request(site, n, id, f"+{LATEST if n == 1 else 600_000}") for n, id in enumerate(ids)]
    outcomes = store_of(site.app).schedule(requests)
    assert [outcome.status for outcome in outcomes] == ["scheduled", "late", "scheduled"]
    assert site.waiting() == 2


def test_a_user_s_id_may_be_any_uuid_or_none(site: Site) -> None:
    for id in (str(uuid.uuid1()), str(uuid.uuid4()).upper(), "invoice-7"):
        result = schedule_on_expiry(site.record(1).set(task_id=id), seconds=600)
        assert result.id == id
        assert cancel(id, app=site.app)


def test_an_error_after_what_was_sent_before_is_stored(site: Site) -> None:
    """The last of what was sent is waited for also where the items end in an error."""

    def items() -> Iterator[Any]:
        for n in range(BULK + 3):
            yield site.record(n), 600
        raise LookupError("no more rows")

    told: list[int] = []
    with pytest.raises(LookupError, match="no more rows"):
        schedule_many_on_expiry(items(), on_result=lambda position, _: told.append(position))
    assert told == list(range(BULK + 3))
    assert site.waiting() == BULK + 3


def test_the_iterable_fails_at_a_call_of_its_own(site: Site) -> None:
    """That is no failure of this one: what it gave until then is scheduled, and told of."""
    schedule_on_expiry(site.record("taken"), 600, key="taken")
    told: list[int] = []

    def items() -> Iterator[tuple[Any, int]]:
        for number in range(BULK + 20):
            yield site.record(number), 600
        schedule_on_expiry(site.record("again"), 600, key="taken", if_exists="raise")

    with pytest.raises(TimerExists) as caught:
        schedule_many_on_expiry(items(), on_result=lambda position, _: told.append(position))
    assert told == list(range(BULK + 20))
    assert caught.value.summary.scheduled == BULK + 20 == site.waiting() - 1


def test_items_that_come_slowly_don_t_keep_the_others_results(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LATE", -1.0)
    told: list[int] = []
    seen: list[int] = []

    def items() -> Iterator[Any]:
        for n in range(BULK + 2):
            seen.append(len(told))
            yield site.record(n), 600

    schedule_many_on_expiry(items(), on_result=lambda position, _: told.append(position))
    assert seen[:BULK] == [0] * BULK
    assert seen[-1] == BULK


def test_a_reply_lost_for_the_last_of_many(afar: Site, proxy: Proxy) -> None:
    for nth in (1, 2, 3):
        afar.reset()
        proxy.clear()
        proxy.drop_reply(lambda command: command[0] == "EVALSHA", nth=nth)
        told: list[Any] = []
        summary = schedule_many_on_expiry(
            [(afar.record(n), 600) for n in range(2 * BULK + 1)],
            on_result=lambda _, result, told=told: told.append(result.id),
        )
        assert len(proxy.dropped) == 1
        assert (summary.scheduled, summary.errors) == (2 * BULK + 1, [])
        assert afar.waiting() == len(set(told)) == 2 * BULK + 1


@HOLDS
def test_an_interrupted_call_leaves_no_answer_for_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule_on_expiry(site.record(0), seconds=600, key="mine")
    read = AbstractConnection.read_response

    def interrupted(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(AbstractConnection, "read_response", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(AbstractConnection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        schedule_on_expiry(site.record(1), seconds=600)
    # the answer of an interrupted call would be taken for this one's
    with pytest.raises(TimerExists):
        schedule_on_expiry(site.record(2), seconds=600, key="mine", if_exists="raise")
    assert cancel("mine", app=site.app)


def test_the_server_closes_the_connection_meanwhile(afar: Site, proxy: Proxy) -> None:
    schedule_on_expiry(afar.record(1), seconds=600)
    proxy.cut()
    schedule_on_expiry(afar.record(2), seconds=600)
    assert afar.waiting() == 2


def test_a_process_that_does_one_thing_at_a_time_has_one_connection(
    redis_server: RedisServer, make_site: Callable[..., Site]
) -> None:
    site = make_site(expiry_redis_url=f"{redis_server.url()}?client_name=one-at-a-time")
    for n in range(3):
        result = schedule_on_expiry(site.record(n), seconds=600)
        assert get_timer(result) is not None
        assert cancel(result)
        schedule_many_on_expiry([(site.record(n), 600)] * 3)
    with redis_server.client() as client:
        ours = [each for each in client.client_list() if each["name"] == "one-at-a-time"]
    assert len(ours) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(site: Site) -> None:
    """As with servers that load the application before they fork."""
    schedule_on_expiry(site.record(1), seconds=600)
    child = os.fork()
    if child == 0:
        try:
            for n in range(100):
                schedule_on_expiry(site.record(n), seconds=600)
            os._exit(0)
        finally:
            os._exit(1)
    results = [schedule_on_expiry(site.record(n), seconds=600) for n in range(100)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(get_timer(result) is not None for result in results)
    assert site.waiting() == 201


def test_who_listens_to_redis_py_hears_of_timers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as its instrumentation for traces."""
    heard: list[Command] = []
    execute = redis.Redis.execute_command

    def listening(self: Any, *command: Any, **options: Any) -> Any:
        heard.append(command)
        return execute(self, *command, **options)

    schedule_on_expiry(site.record(1), seconds=600)
    monkeypatch.setattr(redis.Redis, "execute_command", listening)
    schedule_on_expiry(site.record(2), seconds=600)
    assert [command[:2] for command in heard] == [("EVALSHA", ADD)]
    assert site.waiting() == 2


def test_nothing_is_stored_of_a_call_that_is_refused(site: Site) -> None:
    site.redis.set(site.key("used"), "of another type")
    before = site.stored()
    with pytest.raises(Exception, match="WRONGTYPE"):
        schedule_on_expiry(site.record(1), seconds=600)
    assert site.stored() == before
    with pytest.raises(InvalidTimer):
        schedule_on_expiry(site.record(1), seconds=-1)
