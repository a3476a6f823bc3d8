"""The calls of asyncio, where they are another thing than those that block. What is the same: see `face`."""

from __future__ import annotations

import asyncio
import inspect
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from celery.canvas import chain

import celery_redis_expiry
from celery_redis_expiry import (
    InvalidTimer,
    StoreUnavailable,
    acancel,
    aget_timer,
    areschedule,
    aschedule_many_on_expiry,
    aschedule_on_expiry,
    schedule_on_expiry,
    steps,
)
from celery_redis_expiry.store import new_store, reshard
from celery_redis_expiry.store.async_link import CONNECTIONS
from tests.faces import CALLS, event_loop
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.resp import Command
from tests.site import Site
from tests.waiting import eventually

Run = Callable[[Any], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    with event_loop() as run:
        yield run


@pytest.fixture
def afar(redis_server: RedisServer, make_site: Callable[..., Site], proxy: Proxy) -> Site:
    """Its timers are behind a proxy that can fail."""
    return make_site(expiry_redis_url=redis_server.url(port=proxy.port))


def is_schedule(command: Command) -> bool:
    """The script that stores: it has the most keys."""
    return command[0].upper() == "EVALSHA" and int(command[2]) > 10


@pytest.mark.parametrize("name", CALLS)
def test_the_same_arguments(name: str) -> None:
    blocking, awaited = (
        inspect.signature(getattr(celery_redis_expiry, each)).parameters for each in (name, f"a{name}")
    )
    assert list(awaited) == list(blocking)
    for argument, parameter in blocking.items():
        assert awaited[argument].default == parameter.default, argument
        assert awaited[argument].kind == parameter.kind, argument
        if argument not in ("items", "on_commit"):  # which may be asynchronous, too; which is refused
            assert awaited[argument].annotation == parameter.annotation, argument


@pytest.mark.parametrize("on_commit", [True, "default"])
def test_on_commit_is_refused(site: Site, run: Run, on_commit: Any) -> None:
    """Django's transactions are a thread's: an event loop has none open, so it would be stored at once."""
    with pytest.raises(InvalidTimer, match=r"no on_commit: .* sync_to_async"):
        run(aschedule_on_expiry(site.record(1), 600, on_commit=on_commit))
    assert site.stored() == {}
    run(aschedule_on_expiry(site.record(1), 600, on_commit=False))
    assert site.waiting() == 1


async def names_there(site: Site, *names: str) -> list[str]:
    timers = [await aget_timer(name, app=site.app) for name in names]
    return [str(timer.name) for timer in timers if timer]


def connections(site: Site) -> int:
    return len(site.redis.client_list())


def test_each_loop_has_its_own_connections_and_closes_them(site: Site) -> None:
    async def life(name: str) -> list[str]:
        await aschedule_on_expiry(site.record(1), 600, key=name)
        assert await areschedule(name, 700, app=site.app)
        return await names_there(site, name)

    before = connections(site)
    with warnings.catch_warnings():
        for what in (ResourceWarning, RuntimeWarning):
            warnings.simplefilter("error", what)
        assert [asyncio.run(life("a")), asyncio.run(life("b"))] == [["a"], ["b"]]
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda name=name: found.extend(asyncio.run(life(name))))
            for name in "cdef"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(found) == ["c", "d", "e", "f"]
    eventually(lambda: connections(site) == before, what=lambda: f"closed: {site.redis.client_list()}")


def test_a_loop_that_was_just_closed_holds_nothing_up(site: Site) -> None:
    """Nobody told its asynchronous generators; its successor has a connection of its own."""
    for name in ("a", "b"):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(aschedule_on_expiry(site.record(1), 600, key=name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.close()
    assert site.waiting() == 2


def test_many_at_once_leave_room_for_others(site: Site, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that begin together one computes, then all that the loop has to do, then the next."""
    turns = 0
    prepared_in: list[int] = []

    def prepare(*args: Any, **given: Any) -> Any:
        prepared_in.append(turns)
        return really(*args, **given)

    really = steps.prepare
    monkeypatch.setattr(steps, "prepare", prepare)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def all_at_once() -> int:
        counting = asyncio.create_task(count_turns())
        results = await asyncio.gather(*(aschedule_on_expiry(site.record(n), 600) for n in range(100)))
        counting.cancel()
        return len({result.id for result in results})

    assert run(all_at_once()) == site.waiting() == 100
    assert len(set(prepared_in)) == 100


def test_many_at_once_take_few_connections(afar: Site, proxy: Proxy, run: Run) -> None:
    before = connections(afar)

    async def all_at_once() -> int:
        await aschedule_on_expiry(afar.record("first"), 600)
        proxy.delay_back = 0.3
        calls = [
            asyncio.create_task(aschedule_on_expiry(afar.record(number), 600))
            for number in range(3 * CONNECTIONS)
        ]
        most = 0
        while not all(call.done() for call in calls):
            most = max(most, await asyncio.to_thread(connections, afar))
        await asyncio.gather(*calls)
        return most - before

    assert 10 < run(all_at_once()) <= CONNECTIONS
    assert afar.waiting() == 3 * CONNECTIONS + 1


def test_many_learn_of_another_number_of_shards(site: Site, run: Run) -> None:
    """Whoever learns of it late makes nobody repeat what has succeeded already."""
    run(aschedule_on_expiry(site.record("before"), 600))
    reshard(new_store(site.app), 8)

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(aschedule_on_expiry(site.record(n), 600) for n in range(100)))

    assert len({result.id for result in run(all_at_once())}) == 100
    assert new_store(site.app).counts()["waiting"] == 101


def test_items_that_come_one_by_one(site: Site, run: Run) -> None:
    async def rows() -> AsyncIterator[Any]:
        for number in range(120):
            await asyncio.sleep(0)
            yield site.record(number), 600 if number != 7 else -1

    told: list[int] = []
    summary = run(aschedule_many_on_expiry(rows(), on_result=lambda position, _: told.append(position)))
    assert summary.scheduled == site.waiting() == 119
    assert [bad.position for bad in summary.errors] == [7]
    assert told == [number for number in range(120) if number != 7]


def test_a_bulk_is_cancelled(site: Site, run: Run) -> None:
    """What it told of is stored; what was gathered meanwhile is not stored after its end."""
    told: list[int] = []
    stalled = asyncio.Event()

    async def rows() -> AsyncIterator[Any]:
        for number in range(120):
            yield site.record(number), 600
        stalled.set()
        await asyncio.Event().wait()

    async def cancelled() -> None:
        bulk = asyncio.create_task(
            aschedule_many_on_expiry(rows(), on_result=lambda position, _: told.append(position))
        )
        await asyncio.wait_for(stalled.wait(), 20)
        bulk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk

    run(cancelled())
    assert told == list(range(100))
    assert site.waiting() == 100


def test_cancelled_before_the_answer(afar: Site, proxy: Proxy, run: Run) -> None:
    """The timer may be there, and is; who comes next gets no answer that was another's."""

    async def cancelled() -> list[Any]:
        await aschedule_on_expiry(afar.record(0), 600, key="before")
        proxy.delay_back = 0.5
        proxy.hold_at(is_schedule)
        call = asyncio.create_task(aschedule_on_expiry(afar.record(1), 600, key="cut"))
        while not proxy.holding:
            await asyncio.sleep(0.01)
        proxy.release()
        while afar.waiting() < 2:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        proxy.clear()
        afterwards = await asyncio.gather(
            aschedule_on_expiry(afar.record(2), 600, key="after"),
            aget_timer("cut", app=afar.app),
            aget_timer("before", app=afar.app),
        )
        assert await acancel("cut", app=afar.app)
        return list(afterwards)

    after, cut, before = run(cancelled())
    assert (cut.name, before.name) == ("cut", "before")
    assert after.timer.name == "after"
    assert sorted(afar.redis.hkeys(afar.key("names"))) == ["after", "before"]


def test_a_timeout_of_the_caller_s(afar: Site, proxy: Proxy, run: Run) -> None:
    """A Redis that hangs holds nobody up for longer than he says."""

    async def timed_out() -> list[str]:
        await aschedule_on_expiry(afar.record(0), 600, key="before")
        proxy.swallow()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aschedule_on_expiry(afar.record(1), 600, key="hangs"), 0.3)
        proxy.accept_again()
        await aschedule_on_expiry(afar.record(2), 600, key="after")
        return await names_there(afar, "before", "hangs", "after")

    assert run(timed_out()) == ["before", "after"]


def test_the_loop_goes_on_while_monitors_are_told(
    redis_server: RedisServer, make_site: Callable[..., Site], proxy: Proxy, run: Run
) -> None:
    """kombu can only block: while a broker holds its events up, the loop does other things."""
    site = make_site(
        broker=redis_server.url(port=proxy.port),
        task_send_sent_event=True,
        expiry_redis_url=redis_server.url(),
    )

    async def told() -> int:
        await aschedule_on_expiry(site.record(0), 600)  # connects
        proxy.hold_at(lambda command: command[0].upper() == "PUBLISH")
        call = asyncio.create_task(aschedule_on_expiry(site.record(1), 600, key="told"))
        while not proxy.holding:
            await asyncio.sleep(0.01)
        timers = [await aget_timer("told", app=site.app) for _ in range(20)]
        assert not call.done()
        proxy.release()
        await call
        return sum(timer is not None for timer in timers)

    assert run(told()) == 20


def test_a_backend_that_can_only_block(make_site: Callable[..., Site], run: Run) -> None:
    site = make_site(result_backend="rpc://")
    with pytest.raises(InvalidTimer, match=r"RPCBackend .* ignore_result=True"):
        run(aschedule_on_expiry(site.record(1), 600))
    assert site.stored() == {}
    run(aschedule_on_expiry(site.record(1).set(ignore_result=True), 600))
    run(aschedule_on_expiry(chain(site.record(1), site.record(2)), 600))
    assert site.waiting() == 2


def test_a_cancel_that_the_backend_is_told_of(make_site: Callable[..., Site], run: Run) -> None:
    site = make_site(expiry_mark_revoked=True)
    result = run(aschedule_on_expiry(site.record(1), 600))
    assert run(acancel(result)) is True
    assert result.state == "REVOKED"


def test_at_once_where_tasks_are_eager(make_site: Callable[..., Site], run: Run) -> None:
    site = make_site(task_always_eager=True, expiry_redis_url="redis://nowhere.invalid")
    assert run(aschedule_on_expiry(site.task("add").s(2, 3), 600)).get() == 5
    assert run(aschedule_many_on_expiry([(site.task("add").s(2, 3), 600)])).scheduled == 1
    assert run(acancel("x", app=site.app)) is False
    assert run(areschedule("x", 1, app=site.app)) is False
    assert run(aget_timer("x", app=site.app)) is None


def test_those_that_block_can_be_called_on_a_loop(site: Site, run: Run) -> None:
    """They hold it up, but they work: in a script that is asynchronous by chance."""

    async def blocks() -> None:
        schedule_on_expiry(site.record(1), 600, key="a").reschedule(700)
        await aschedule_on_expiry(site.record(1), 600, key="b")

    run(blocks())
    assert site.waiting() == 2


def test_a_redis_that_comes_back(afar: Site, proxy: Proxy, run: Run) -> None:
    async def there_again() -> None:
        await aschedule_on_expiry(afar.record(0), 600, key="before")
        proxy.refuse()
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            await aschedule_on_expiry(afar.record(1), 600, key="lost")
        proxy.accept_again()
        assert await names_there(afar, "before", "lost") == ["before"]

    run(there_again())
