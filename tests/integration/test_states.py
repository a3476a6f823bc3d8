"""`AsyncResult(id).state` of a waiting timer is SCHEDULED, with any result backend; all else is as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult

from celery_redis_expiry import SCHEDULED, get_timer, schedule_on_expiry
from celery_redis_expiry.hooks import patch
from tests.servers.processes import free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import BACKEND_DB, Site

BACKENDS: dict[str, Callable[[Site, Path], str | None]] = {
    "redis": lambda site, folder: site.server.url(BACKEND_DB),
    "file": lambda site, folder: f"file://{folder}",
    "cache": lambda site, folder: "cache+memory://",
    "rpc": lambda site, folder: "rpc://",
    "none": lambda site, folder: None,
}


def with_backend(site: Site, url: str | None) -> Celery:
    app = Celery(site.config["main"], broker=site.config["broker"], backend=url, set_as_current=False)

    @app.task(name="ledger.record", shared=False)
    def record(label: Any) -> None: ...

    return app


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_waiting_timer_is_scheduled(site: Site, backend: str, tmp_path: Path) -> None:
    app = with_backend(site, BACKENDS[backend](site, tmp_path))
    timed = schedule_on_expiry(app.tasks["ledger.record"].s(1), seconds=600, key="name", app=app)
    # by another app object: another process that knows no more than the task id
    result = AsyncResult(timed.id, app=with_backend(site, BACKENDS[backend](site, tmp_path)))
    assert (result.state, result.status) == (SCHEDULED, SCHEDULED)
    timer = get_timer("name", app=app)
    assert timer is not None
    assert result.info == {"eta": timer.due.isoformat() if timer.due else "", "name": "name"}
    assert result.name == "ledger.record"
    assert (result.ready(), result.successful(), result.failed()) == (False, False, False)
    timed.reschedule(seconds=1200)
    assert datetime.fromisoformat(result.info["eta"]) == timed.due
    assert timed.cancel()
    if backend != "none":
        assert (result.state, result.info) == ("PENDING", None)


def test_a_parked_timer_has_no_eta(site: Site) -> None:
    timed = schedule_on_expiry(site.record(1), seconds=600)
    site.redis.persist(get_timer(timed, app=site.app).trigger_key)  # type: ignore[union-attr]
    assert (timed.state, timed.info) == (SCHEDULED, {"eta": None, "name": None})


def test_get_waits(site: Site) -> None:
    timed = schedule_on_expiry(site.record(1), seconds=600)
    with pytest.raises(CeleryTimeoutError):
        timed.get(timeout=0.2)


def test_the_backend_has_the_last_word(site: Site) -> None:
    """A task that runs and reschedules itself under its own id, say, has the state that it reports."""
    timed = schedule_on_expiry(site.record(1), seconds=600)
    site.app.backend.store_result(timed.id, {"done": 3}, "PROGRESS")
    assert timed.state == "PROGRESS"


def test_the_error_of_an_app_without_backend_is_celerys_own(site: Site) -> None:
    app = with_backend(site, None)
    with pytest.raises((NotImplementedError, AttributeError)):
        _ = AsyncResult("unknown", app=app).state


def test_the_proxy_of_the_current_app(site: Site) -> None:
    """`celery.current_app` is one, and can't be the key of a weak dictionary."""
    timed = schedule_on_expiry(site.record(1), seconds=600)
    with site.current():
        assert AsyncResult(timed.id, app=current_app).state == SCHEDULED
        assert AsyncResult("unknown", app=current_app).state == "PENDING"


def test_switched_off(make_site: Callable[..., Site]) -> None:
    site = make_site(expiry_scheduled_state=False)
    assert schedule_on_expiry(site.record(1), seconds=600).state == "PENDING"


def test_an_app_without_timers_is_as_it_was(tmp_path: Path) -> None:
    app = Celery("plain", broker="memory://", backend=f"file://{tmp_path}", set_as_current=False)
    assert AsyncResult("unknown", app=app).state == "PENDING"


def test_a_redis_that_is_away_is_no_error_and_not_asked_again_at_once(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(("127.0.0.1", redis_server.port))
    app = Celery("away", broker="memory://", backend=f"file://{tmp_path}", set_as_current=False)
    app.conf.expiry_redis_url = redis_server.url(port=proxy.port)
    try:
        assert AsyncResult("unknown", app=app).state == "PENDING"
        proxy.refuse()
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert AsyncResult("unknown", app=app).state == "PENDING"
        assert len(caplog.records) == 1, caplog.text
    finally:
        proxy.close()


@pytest.mark.parametrize("marked", [True, False])
def test_the_result_of_a_cancelled_timer(make_site: Callable[..., Site], marked: bool) -> None:
    site = make_site(expiry_mark_revoked=marked)
    timed = schedule_on_expiry(site.record(1), seconds=600)
    assert timed.cancel()
    if marked:
        assert timed.state == "REVOKED"
        with pytest.raises(TaskRevokedError):
            timed.get(timeout=5)
    else:
        assert timed.state == "PENDING"
        assert site.app.backend.client.keys("celery-task-meta-*") == []


def test_a_backend_that_is_away_takes_no_cancel_back(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    retries = {"retry_policy": {"max_retries": 0}}
    site = make_site(expiry_mark_revoked=True, result_backend=away, result_backend_transport_options=retries)
    timed = schedule_on_expiry(site.record(1), seconds=600)
    assert timed.cancel() is True
    assert site.waiting() == 0
    assert "could not be marked as revoked" in caplog.text


class Unknown:
    """A Celery that has changed."""

    def broadcast(self, what: Any) -> None: ...


@pytest.mark.parametrize("method", ["broadcast", "gone"])
def test_a_celery_that_is_not_known_is_refused(method: str) -> None:
    with pytest.raises(ImportError, match=f"does not know Celery .*{method}"):
        patch.wrap(Unknown, method, ("self", "command"), lambda original: None)


def test_a_method_is_wrapped_once() -> None:
    class Known:
        def add(self, number: int) -> int:
            """Adds."""
            return number + 1

    for _ in range(2):
        patch.wrap(Known, "add", ("self", "number"), lambda original, *args: original(*args) * 10)
    assert Known().add(1) == 20
    assert Known.add.__doc__ == "Adds."
