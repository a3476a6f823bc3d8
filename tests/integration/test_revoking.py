"""A revoke cancels the timer in Redis, though no worker is up to hear of it."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, current_app, group
from celery.app.control import Control
from celery.result import AsyncResult, GroupResult

from celery_redis_expiry import get_timer, schedule_on_expiry
from celery_redis_expiry.connections import TIMEOUT
from tests.servers.proxy import Proxy
from tests.servers.workers import environment
from tests.site import Site

WAYS: dict[str, Callable[[Site, Any], Any]] = {
    "result": lambda site, result: result.revoke(),
    "AsyncResult": lambda site, result: AsyncResult(result.id, app=site.app).revoke(),
    "control": lambda site, result: site.app.control.revoke(result.id),
    "control, several": lambda site, result: site.app.control.revoke(["unknown", result.id]),
    "terminate": lambda site, result: site.app.control.terminate(result.id),
    "revoke and terminate": lambda site, result: result.revoke(terminate=True, signal="KILL"),
    "group": lambda site, result: GroupResult("some", [AsyncResult(result.id, app=site.app)]).revoke(),
    "broadcast": lambda site, result: site.app.control.broadcast("revoke", {"task_id": result.id}),
    "the current app": lambda site, result: Control(current_app).revoke(result.id),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_worker_is_up(site: Site, way: str) -> None:
    revoked = schedule_on_expiry(site.record(1), seconds=600, key="revoked")
    other = schedule_on_expiry(site.record(2), seconds=600, key="other")
    with site.current():
        WAYS[way](site, revoked)
    assert get_timer("revoked", app=site.app) is None
    assert revoked.due is None
    assert get_timer("other", app=site.app) is not None
    assert other.due is not None


CANVASES: dict[str, Callable[[Site], Any]] = {
    "group": lambda site: group(site.record(1), site.record(2)),
    "chain that ends with a group": lambda site: chain(site.record(1), group(site.record(2), site.record(3))),
    "chain": lambda site: chain(site.record(1), site.record(2)),
}


@pytest.mark.parametrize("canvas", CANVASES)
def test_a_canvas(site: Site, canvas: str) -> None:
    """The result of a group goes by the id of the group, and Celery revokes but its members."""
    result = schedule_on_expiry(CANVASES[canvas](site), seconds=600)
    result.revoke()
    assert result.due is None
    assert site.waiting() == 0


@pytest.mark.parametrize("command", [["revoke"], ["terminate", "TERM"]])
def test_from_the_command_line(site: Site, command: list[str]) -> None:
    revoked = schedule_on_expiry(site.record(1), seconds=600)
    told = site.celery("-A", "ledger_app:app", "control", "-t", "0.2", *command, revoked.id)
    assert revoked.due is None, told
    assert site.stored() == {}


def test_a_revoke_for_some_workers_is_theirs(site: Site) -> None:
    revoked = schedule_on_expiry(site.record(1), seconds=600)
    site.app.control.revoke(revoked.id, destination=["worker@elsewhere"])
    site.app.control.revoke(revoked.id, pattern="worker@*", matcher="glob")
    assert revoked.due is not None


def test_a_name_is_no_task_id(site: Site) -> None:
    named = schedule_on_expiry(site.record(1), seconds=600, key="name")
    other = schedule_on_expiry(site.record(2).set(task_id="name"), seconds=600, key="other")
    assert AsyncResult("name", app=site.app).info["name"] == "other"
    site.app.control.revoke("name")
    assert (named.due is None, other.due is None) == (False, True)
    assert AsyncResult("name", app=site.app).state == "PENDING"


def test_many_at_once(site: Site) -> None:
    results = [schedule_on_expiry(site.record(number), seconds=600) for number in range(30)]
    site.app.control.revoke([result.id for result in results[:20]])
    assert site.waiting() == 10
    assert all(result.due is not None for result in results[20:])


def test_a_redis_that_is_away_stops_no_revoke(
    make_site: Callable[..., Site], proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site()
    heard = make_site(expiry_redis_url=site.server.url(port=proxy.port))
    revoked = schedule_on_expiry(heard.record(1), seconds=600)
    proxy.refuse()
    with caplog.at_level(logging.WARNING):
        heard.app.control.revoke(revoked.id)
    assert "may wait still" in caplog.text
    assert "revoke again" in caplog.text


def test_a_redis_that_hangs_holds_a_revoke_up_for_seconds(
    make_site: Callable[..., Site],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("celery_redis_expiry.hooks.revoke.TIMEOUT", 0.2)
    site = make_site(expiry_redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    proxy.swallow()
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        site.app.control.revoke("some task")
    assert "may wait still" in caplog.text
    # twenty seconds for whoever schedules, who must know
    assert time.monotonic() - start < TIMEOUT


def test_importing_the_package_is_enough(site: Site) -> None:
    """A web process that schedules nothing itself; and one that doesn't import it only broadcasts."""
    results = [schedule_on_expiry(site.record(number), seconds=600) for number in range(2)]
    script = "import sys; {}; from ledger_app import app; app.control.revoke(sys.argv[1])"
    for result, imported in zip(results, ("import celery_redis_expiry", "pass"), strict=True):
        run_python(site, script.format(imported), result.id)
    assert results[0].due is None
    assert results[1].due is not None


def run_python(site: Site, script: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment(site.config),
        cwd=site.folder,
        timeout=30,
        check=True,
    )
