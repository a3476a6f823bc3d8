"""The Celery app of the tests' workers: every task writes what it was given into a ledger in Redis.

A worker process builds it from the environment (LEDGER_APP, JSON); a test builds its own with `build`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import redis
from celery import Celery, chain, chord, group
from celery.app.task import Task

RUNS = "ledger:runs"
MAIN = "ledger"


def build(config: dict[str, Any]) -> Celery:
    """An app for `config`: main, broker, backend, ledger (URL of the runs' Redis), conf (more settings)."""
    app = Celery(config.get("main", MAIN), set_as_current=bool(config.get("current", True)))
    app.conf.update(
        broker_url=config["broker"],
        result_backend=config["backend"],
        broker_connection_retry_on_startup=True,
    )
    app.conf.update(config.get("conf", {}))
    ledger = redis.Redis.from_url(config["ledger"])
    _add_tasks(app, ledger)
    for handler in config.get("handlers", ()):
        _add_handler(app, dict(handler))
    return app


def _add_handler(app: Celery, handler: dict[str, Any]) -> None:
    """A handler of users' own keys: pattern, the label of its runs, and options of `on_key_expired`."""
    from celery_redis_expiry import on_field_expired, on_key_expired

    pattern, label = handler.pop("pattern"), handler.pop("label", "told")
    target = app.tasks["ledger.told"].s(label)
    if shape := handler.pop("shape", None):
        # the event goes to where a canvas begins
        passes_on, record = app.tasks["ledger.passes_on"], app.tasks["ledger.record"]
        target = {
            "chain": chain(passes_on.s(), record.s(), app=app),
            "group": group([passes_on.s() | record.s(), target], app=app),
            "chord": chord([passes_on.s(), passes_on.s()], app.tasks["ledger.record"].s(), app=app),
        }[shape]
    if field := handler.pop("field", None):
        on_field_expired(app, pattern, field, target, **handler)
    else:
        on_key_expired(app, pattern, target, **handler)


def _write(ledger: redis.Redis, task: Task, label: Any, **more: Any) -> None:
    seconds, micros = ledger.time()
    request = {name: value for name, value in vars(task.request).items() if not name.startswith("_")}
    run = {
        "label": label,
        "task": task.name,
        "at": seconds + micros / 1e6,  # Redis's clock, the one the due time was set on
        "worker": [os.getpid(), threading.get_ident()],
        "request": request,
        **more,
    }
    ledger.rpush(RUNS, json.dumps(run, default=repr))


def _add_tasks(app: Celery, ledger: redis.Redis) -> None:
    @app.task(name="ledger.record", bind=True, shared=False)
    def record(self: Task, label: Any = None, *args: Any, **kwargs: Any) -> Any:
        _write(ledger, self, label)
        return label

    @app.task(name="ledger.told", bind=True, shared=False)
    def told(self: Task, event: Any, label: str) -> None:
        """What a handler of users' own keys is given; the ledger shows it as the label's run."""
        _write(ledger, self, label, event=event)

    @app.task(name="ledger.passes_on", shared=False)
    def passes_on(event: Any) -> Any:
        return event["key"]

    @app.task(name="ledger.add", bind=True, shared=False)
    def add(self: Task, x: int, y: int) -> int:
        _write(ledger, self, f"{x}+{y}")
        return x + y

    @app.task(name="ledger.total", bind=True, shared=False)
    def total(self: Task, numbers: list[Any]) -> Any:
        _write(ledger, self, "total")
        return sum(sum(number) if isinstance(number, list) else number for number in numbers)

    @app.task(name="ledger.fail", bind=True, shared=False)
    def fail(self: Task, label: Any = None) -> None:
        _write(ledger, self, label)
        raise ValueError(f"{label} fails, as it should")

    @app.task(name="ledger.try_twice", bind=True, shared=False)
    def try_twice(self: Task, label: Any = None) -> Any:
        _write(ledger, self, label)
        if not self.request.retries:
            # not at once: Celery sends the message first and then tells of the retry, which must come first
            raise self.retry(countdown=1)
        return label

    @app.task(
        name="ledger.flaky",
        bind=True,
        shared=False,
        autoretry_for=(ValueError,),
        retry_backoff=1,
        retry_jitter=False,
    )
    def flaky(self: Task, label: Any, failures: int) -> Any:
        """Retried by Celery itself, after 1 s, 2 s and so on."""
        _write(ledger, self, label)
        if self.request.retries < failures:
            raise ValueError(label)
        return label

    @app.task(name="ledger.once_more", bind=True, shared=False)
    def once_more(self: Task, label: Any, seconds: float) -> Any:
        _write(ledger, self, label)
        if not self.request.retries:
            raise self.retry(countdown=seconds, priority=3, headers={"x-mine": "1"})
        return label

    @app.task(name="ledger.on_error", bind=True, shared=False)
    def on_error(self: Task, failed_id: str) -> None:
        _write(ledger, self, failed_id)

    @app.task(name="ledger.spawn", bind=True, shared=False)
    def spawn(self: Task, label: Any, seconds: float) -> str:
        """Schedule from within a task: the timer's task is this one's child."""
        from celery_redis_expiry import schedule_on_expiry

        _write(ledger, self, "spawner")
        return str(schedule_on_expiry(app.tasks["ledger.record"].s(label), seconds=seconds).id)

    @app.task(name="ledger.wait_for", bind=True, shared=False)
    def wait_for(self: Task, label: Any, key: str) -> None:
        """Holds its worker up until a key of that name is in the broker's Redis."""
        _write(ledger, self, label)
        with redis.Redis.from_url(app.conf.broker_url) as client:
            end = time.monotonic() + 60
            while not client.exists(key) and time.monotonic() < end:
                time.sleep(0.02)
        _write(ledger, self, key)

    @app.task(
        name="ledger.with_defaults", bind=True, shared=False, time_limit=77, soft_time_limit=66, expires=600
    )
    def with_defaults(self: Task, label: Any = None) -> Any:
        """What the task itself sets has to arrive as well as what its signature does."""
        _write(ledger, self, label)
        return label


if "LEDGER_APP" in os.environ:
    app = build(json.loads(os.environ["LEDGER_APP"]))
