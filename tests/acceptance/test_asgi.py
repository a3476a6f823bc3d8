"""A FastAPI app that schedules: its event loop goes on whatever Redis does, and each timer fires once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.asgi import ASGIServer
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site, once_each

#: Seconds that an answer of Redis takes: more than this machine holds a process up.
FAR = 0.8
CLIENTS = 20


@pytest.fixture
def proxy(shared_redis: Callable[..., RedisServer]) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", shared_redis(use="idle").port))
    yield proxy
    proxy.close()


@pytest.fixture
def serve(tmp_path: Path, show_log: Any) -> Iterator[Callable[[Site], ASGIServer]]:
    made: list[ASGIServer] = []

    def start(site: Site) -> ASGIServer:
        server = ASGIServer(site.config, tmp_path)
        made.append(server)
        show_log(lambda: ("log of uvicorn", server.process.tail()))
        return server.wait_ready()

    yield start
    for server in made:
        server.process.kill()


def test_scheduled_by_a_web_app(
    make_site: Any, shared_redis: Callable[..., RedisServer], serve: Callable[[Site], ASGIServer]
) -> None:
    site: Site = make_site(shared_redis(use="idle"))
    server = serve(site)
    names = [f"n{number}" for number in range(300)]
    ids = server.ask(*(f"POST /awaited/{name}?seconds=1" for name in names), clients=CLIENTS)
    assert len(set(ids)) == 300
    assert server.ask("POST /awaited/later", "GET /timer/later", "DELETE /timer/later", "GET /timer/later")[
        2:
    ] == [True, None]
    site.expiry()
    site.ordinary()
    runs = site.drain(300)
    once_each(runs, names)
    assert {run["request"]["id"] for run in runs} == set(ids)
    # it ends as it is told to, with nothing left open that it would complain of
    assert server.process.stop() in (0, -15)
    assert "Traceback" not in server.process.text()


def test_a_redis_that_is_far_away(
    make_site: Any,
    shared_redis: Callable[..., RedisServer],
    proxy: Proxy,
    serve: Callable[[Site], ASGIServer],
) -> None:
    """The loop is never held up for as long as an answer takes; by a call that blocks it is."""
    redis = shared_redis(use="idle")
    site: Site = make_site(redis, broker=redis.url(), expiry_redis_url=redis.url(port=proxy.port))
    server = serve(site)
    server.ask("POST /awaited/first", "POST /blocking/first")  # what is loaded once
    proxy.delay_back = FAR
    server.ask("POST /lags")
    server.ask(*(f"POST /awaited/{number}" for number in range(60)), clients=CLIENTS)
    [awaited] = server.ask("POST /lags")
    assert len(awaited) > 100
    assert max(awaited) < FAR
    server.ask("POST /blocking/blocking")
    [blocked] = server.ask("POST /lags")
    assert max(blocked) >= FAR * 0.9
    assert site.waiting() == 62
