"""What Celery's own tools show of waiting timers, and what a revoke does to them, on a real expiry worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Celery, chain

from celery_redis_expiry import cancel, get_timer, reschedule, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.store import store_of
from celery_redis_expiry.worker.remote import MOST
from tests.events import watched
from tests.servers.proxy import Proxy
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually


def asked(site: Site, worker: Worker, method: str, *arguments: Any) -> Any:
    inspect = site.app.control.inspect([worker.hostname], timeout=10)
    return (getattr(inspect, method)(*arguments) or {})[worker.hostname]


def test_scheduled_answers_with_what_waits(idle_site: Site) -> None:
    worker = idle_site.expiry()
    assert asked(idle_site, worker, "scheduled") == []
    later = schedule_on_expiry(idle_site.record("later", note="n").set(priority=3), seconds=2000)
    sooner = schedule_on_expiry(idle_site.record("sooner").set(queue="other"), seconds=1000, key="name")
    canvas = schedule_on_expiry(chain(idle_site.record(1), idle_site.record(2)), seconds=3000)
    answer = asked(idle_site, worker, "scheduled")
    assert [entry["request"]["id"] for entry in answer] == [sooner.id, later.id, canvas.id]
    assert [datetime.fromisoformat(entry["eta"]) for entry in answer[:2]] == [sooner.due, later.due]
    assert [entry["priority"] for entry in answer] == [None, 3, None]
    request = answer[0]["request"]
    assert (request["name"], request["args"]) == ("ledger.record", "('sooner',)")
    assert request["delivery_info"]["routing_key"] == "other"
    assert request["hostname"] == worker.hostname
    assert "'note': 'n'" in answer[1]["request"]["kwargs"]
    assert answer[2]["request"]["name"] == "celery.chain"
    # as the command line prints it
    told = json.loads(idle_site.celery("-A", "ledger_app:app", "inspect", "--json", "scheduled"))
    assert told[worker.hostname] == answer


def test_scheduled_is_bounded_and_shows_the_soonest(idle_site: Site) -> None:
    worker = idle_site.expiry()
    count = 3 * MOST
    schedule_many_on_expiry(
        {"signature": idle_site.record(n), "seconds": 9000 - n, "key": f"t{n}"} for n in range(count)
    )
    answer = asked(idle_site, worker, "scheduled")
    assert [entry["request"]["args"] for entry in answer] == [f"({count - 1 - n},)" for n in range(MOST)]


def test_query_task_finds_it(idle_site: Site) -> None:
    worker = idle_site.expiry()
    result = schedule_on_expiry(idle_site.record("x"), seconds=600, key="name")
    answer = asked(idle_site, worker, "query_task", [result.id, "unknown", "name"])
    assert list(answer) == [result.id]
    state, request = answer[result.id]
    assert (state, request["id"], request["name"]) == ("scheduled", result.id, "ledger.record")


def broadcast(app: Celery, command: str, **arguments: Any) -> None:
    """As a process does that does not import the package: to the workers, and not to Redis."""
    with app.connection_or_acquire() as connection:
        app.control.mailbox(connection)._broadcast(command, arguments)


def test_a_revoke_from_elsewhere_is_heard(idle_site: Site) -> None:
    worker = idle_site.expiry()
    results = [schedule_on_expiry(idle_site.record(number), seconds=600) for number in range(3)]
    broadcast(idle_site.app, "revoke", task_id=results[0].id)
    broadcast(idle_site.app, "terminate", signal="TERM", task_id=[results[1].id])
    eventually(lambda: idle_site.waiting() == 1, what=lambda: worker.process.tail())
    assert results[2].due is not None


def test_a_redis_that_hangs_holds_the_worker_up_no_longer_than_a_moment(
    make_site: Callable[..., Site], idle_site: Site
) -> None:
    """Commands run in the loop that sends the heartbeats: each is given up, and the next is answered."""
    proxy = Proxy(("127.0.0.1", idle_site.server.port))
    try:
        worker = idle_site.expiry(expiry_redis_url=idle_site.server.url(port=proxy.port))
        proxy.swallow()
        inspect = idle_site.app.control.inspect([worker.hostname], timeout=20)
        assert "error" in str(inspect.scheduled())
        assert inspect.ping() == {worker.hostname: {"ok": "pong"}}
    finally:
        proxy.close()


def test_what_monitors_are_told(make_site: Callable[..., Site], shared_redis: Callable[..., Any]) -> None:
    site = make_site(shared_redis(use="idle"), task_send_sent_event=True)
    worker = site.expiry()
    with watched(site.app) as task:

        def seen(id: str, state: str, eta: datetime | None = None) -> bool:
            found = task(id)
            return bool(
                found
                and found.state == state
                and (eta is None or (found.eta and datetime.fromisoformat(found.eta) == eta))
            )

        waiting = schedule_on_expiry(site.record("x", note="n"), seconds=600, key="name")
        eventually(lambda: seen(waiting.id, "RECEIVED", waiting.due), what="a waiting timer")
        assert (task(waiting.id).name, task(waiting.id).args) == ("ledger.record", "('x',)")
        assert task(waiting.id).worker.hostname == worker.hostname
        assert reschedule("name", seconds=1200, app=site.app)
        eventually(lambda: seen(waiting.id, "RECEIVED", waiting.due), what="its new due time")
        assert waiting.reschedule(seconds=1300)
        eventually(lambda: seen(waiting.id, "RECEIVED", waiting.due), what="its newer due time")
        kept = schedule_on_expiry(site.record("kept").set(task_id="kept"), 5, key="name", if_exists="keep")
        assert kept.id == waiting.id
        schedule_on_expiry(site.record("new").set(task_id="extended"), 1400, key="name", if_exists="extend")
        eventually(lambda: seen(waiting.id, "RECEIVED", waiting.due), what="its extended due time")
        newer = schedule_on_expiry(site.record("newer"), seconds=600, key="name")
        eventually(lambda: seen(waiting.id, "REVOKED"), what="the replaced one revoked")
        eventually(lambda: seen(newer.id, "RECEIVED"), what="the new one waiting")
        assert cancel("name", app=site.app)
        eventually(lambda: seen(newer.id, "REVOKED"), what="a cancelled one revoked")
        revoked = schedule_on_expiry(site.record("revoked"), seconds=600)
        site.app.control.revoke(revoked.id)
        eventually(lambda: seen(revoked.id, "REVOKED"), what="a revoked one revoked")
        # those that were never to run under these ids are no tasks, and nobody made up a worker
        assert not {"kept", "extended"} & set(task.state.tasks)  # type: ignore[attr-defined]
        assert set(task.state.workers) <= {worker.hostname}  # type: ignore[attr-defined]


def test_without_an_expiry_worker_a_timer_was_only_sent(
    make_site: Callable[..., Site], shared_redis: Callable[..., Any]
) -> None:
    site = make_site(shared_redis(use="idle"), task_send_sent_event=True)
    with watched(site.app) as task:
        cancelled = schedule_on_expiry(site.record("x"), seconds=600)
        assert cancelled.cancel()
        waiting = schedule_on_expiry(site.record("y"), seconds=600)
        eventually(lambda: task(waiting.id), what="a waiting timer")
        assert {task(result.id).state for result in (cancelled, waiting)} == {"PENDING"}
        assert not task.state.workers  # type: ignore[attr-defined]


def test_in_whose_name_monitors_are_told(
    make_site: Callable[..., Site], shared_redis: Callable[..., Any]
) -> None:
    """In that of a worker that is up; and of nobody where an ordinary worker may have the task already."""
    site = make_site(shared_redis(use="idle"), task_send_sent_event=True)
    [shard] = store_of(site.app).shards
    with watched(site.app) as task:
        shard.look("killed@host:token", limit=1, parked=0)
        site.redis.zadd(site.key("pacers"), {"killed@host:token": shard.now() - 5000})
        before = schedule_on_expiry(site.record("before"), seconds=600)
        shard.look("awake@host:token", limit=1, parked=0)
        soon = schedule_on_expiry(site.record("soon"), seconds=0.5)
        waiting = schedule_on_expiry(site.record("waiting"), seconds=600)
        eventually(lambda: getattr(task(waiting.id), "state", "") == "RECEIVED", what="a waiting timer")
        assert {task(result.id).state for result in (before, soon)} == {"PENDING"}
        assert set(task.state.workers) == {"awake@host"}  # type: ignore[attr-defined]


def test_nobody_is_told_who_did_not_ask(idle_site: Site) -> None:
    idle_site.expiry()
    with watched(idle_site.app) as task:
        result = schedule_on_expiry(idle_site.record("x"), seconds=600)
        assert result.cancel()
        with idle_site.app.events.default_dispatcher() as dispatcher:
            dispatcher.send("task-sent", uuid="sentinel")
        eventually(lambda: task("sentinel"), what="the last event")
        assert task(result.id) is None


def test_cancelled_for_good(idle_site: Site) -> None:
    """A revoke outlives all workers: nobody needs to remember it."""
    first = idle_site.expiry("first")
    revoked = schedule_on_expiry(idle_site.record("revoked"), seconds=1.5)
    revoked.revoke()
    first.stop()
    sentinel = schedule_on_expiry(idle_site.record("sentinel"), seconds=1.6)
    idle_site.expiry("second")
    eventually(lambda: sentinel.due is None, what="the sentinel fired")
    eventually(lambda: idle_site.redis.llen("celery") == 1, what="the sentinel in its queue")
    assert get_timer(revoked, app=idle_site.app) is None
