"""The fixtures: see docs/testing.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry.testing.attaching import expiry_clock_of
from celery_redis_expiry.testing.clock import ExpiryClock
from celery_redis_expiry.testing.seen import PendingTimer

#: Fixtures of celery.contrib.pytest and pytest-celery: who has one of the first has an app by it, who has one
#: of the second a worker.
APPS = ("celery_app", "celery_session_app")
WORKERS = ("celery_worker", "celery_session_worker")
#: What the marker takes.
OPTIONS = ("redis_url", "run")
#: What Celery calls the app that it makes where there is none.
NO_APP = "default"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "expiry_redis_url",
        "a Redis for tests, in which expiry_clock keeps timers; default: memory://, without any Redis",
        default="memory://",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "expiry(redis_url=…, run='here' | 'worker'): where expiry_clock keeps the timers of this test, and "
        "where the tasks run that fire",
    )


@pytest.fixture
def expiry_app(request: pytest.FixtureRequest) -> Any:
    """The Celery app whose timers `expiry_clock` keeps: of `celery_app` or `celery_session_app` where the
    test has one of them, else the current one. Override it where that is not yours."""
    for name in APPS:
        if name in request.fixturenames:
            return request.getfixturevalue(name)
    from celery import current_app

    app = current_app._get_current_object()
    if app.main == NO_APP:
        pytest.fail(
            "expiry_clock: no Celery app is current here. Import yours in conftest.py and call "
            "app.set_default() where it is made, or override the fixture expiry_app to return it",
            pytrace=False,
        )
    return app


@pytest.fixture
def expiry_clock(request: pytest.FixtureRequest, expiry_app: Any) -> Iterator[ExpiryClock]:
    """Keeps the timers of this test in a store of their own; `expiry_clock.advance(days=1)` fires them."""
    marker = request.node.get_closest_marker("expiry")
    given = dict(marker.kwargs) if marker else {}
    if marker and (marker.args or given.keys() - set(OPTIONS)):
        pytest.fail(f"the marker expiry takes {' and '.join(OPTIONS)}, by name", pytrace=False)
    given.setdefault("redis_url", request.config.getini("expiry_redis_url"))
    has_worker = any(name in request.fixturenames for name in WORKERS)
    given.setdefault("run", "worker" if has_worker else "here")
    with expiry_clock_of(expiry_app, **given) as clock:
        yield clock


@pytest.fixture
def pending_timers(expiry_clock: ExpiryClock) -> Callable[..., list[PendingTimer]]:
    """What waits, soonest first: `pending_timers()`, `pending_timers(task="referrals.*")`."""
    return expiry_clock.pending


@pytest.fixture
def expiry_redis(expiry_clock: ExpiryClock) -> Any:
    """A client of redis-py for the Redis of this test's timers, real or in memory: for the keys of guards and
    the like."""
    return expiry_clock.redis
