"""The ears: they come whenever Redis does, and stay although something else fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import get_timer, schedule_on_expiry
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.store import Store, new_store
from celery_redis_expiry.worker.hearing import Hearing
from celery_redis_expiry.worker.lanes import Lanes
from tests.servers.redis import RedisServer
from tests.waiting import eventually


@pytest.fixture
def server(start_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    server = start_redis()
    yield server
    server.remove()


@pytest.fixture
def app(server: RedisServer) -> Celery:
    app = Celery("ears", broker=server.url(), set_as_current=False)

    @app.task(shared=False, name="ears.task")
    def task(*args: Any) -> None: ...

    return app


@pytest.fixture
def listen(app: Celery) -> Iterator[Callable[..., tuple[Store, Hearing]]]:
    made: list[Hearing] = []

    def start() -> tuple[Store, Hearing]:
        store = new_store(app, timeout=1.0, retries=0)
        hearing = Hearing(store, Lanes(), configure=True, follow=True)
        made.append(hearing)
        hearing.start()
        return store, hearing

    yield start
    for hearing in made:
        hearing.stop(10)


def test_an_ear_that_could_not_be_made_at_the_start_is_made_later(
    server: RedisServer, listen: Callable[..., tuple[Store, Hearing]]
) -> None:
    server.kill()
    _, hearing = listen()
    assert not hearing.settle(0.1)
    server.start()
    eventually(lambda: hearing.wakes(0) and hearing.events(0), what="it hears")


def test_a_change_that_could_not_be_followed_is_followed_later(
    app: Celery, server: RedisServer, listen: Callable[..., tuple[Store, Hearing]]
) -> None:
    """The subscription is well meanwhile: nobody takes it for lost."""
    store, hearing = listen()
    eventually(lambda: hearing.events(0), what="it hears")
    touch, calls = store.shards[0].touch, []

    def failing(members: list[str]) -> None:
        calls.append(members)
        if len(calls) == 1:
            raise StoreUnavailable("not now")
        touch(members)

    store.shards[0].touch = failing  # type: ignore[method-assign, assignment]
    result = schedule_on_expiry(app.tasks["ears.task"].s(), 600, app=app, key="x")
    timer = get_timer("x", app=app)
    assert timer is not None
    with server.client() as client:
        client.expire(timer.trigger_key, 60)
        due = "{expiry.ears.0}:due"
        eventually(
            lambda: client.zrange(due, 0, 0, withscores=True)[0][1] / 1000 < client.time()[0] + 100,
            what="the index follows",
        )
    assert len(calls) > 1
    assert hearing.wakes(0)
    assert result.cancel()
