"""A timer made of a call with a countdown sends what Celery would have sent, without the countdown."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.utils.json import dumps, loads

from celery_redis_expiry.messages import message, record_call
from celery_redis_expiry.messages.recording import recorder_of

SEND_TASK: Callable[..., Any] = Celery.send_task.__wrapped__
DELAY = 3600
LATER = datetime.now(timezone.utc) + timedelta(hours=2)

CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority": 7},
    "seconds until it expires": {"expires": 7200},
    "a moment when it expires": {"expires": LATER},
    "the same as text": {"expires": LATER.isoformat()},
    "never expires": {"expires": None},
    "links": {"link": {"task": "unit.task"}, "link_error": [{"task": "unit.a"}, {"task": "unit.b"}]},
    "retries": {"retries": 3},
    "headers": {"headers": {"x-mine": "1"}},
    "stamps": {"stamped_headers": ["day"], "day": "monday"},
    "family": {"root_id": "root", "parent_id": "parent"},
    "group": {"group_id": "group", "group_index": 4},
    "chord": {"chord": {"task": "unit.body", "args": [], "options": {"countdown": 5}}},
    "rest of a chain": {"chain": [{"task": "unit.last"}, {"task": "unit.next"}]},
    "queue": {"queue": "fast"},
    "queue of the caller's own": {"queue": Queue("own", Exchange("own", "topic"), routing_key="o.k")},
    "exchange": {"exchange": "fast", "routing_key": "fast.x", "exchange_type": "topic"},
    "pickled": {"serializer": "pickle", "compression": "zlib"},
    "limits": {"time_limit": 30, "soft_time_limit": 20},
    "who is told": {"reply_to": "queue-of-mine", "shadow": "shown"},
    "results ignored": {"ignore_result": True},
    "results wanted": {"ignore_result": False},
    "delivery": {"delivery_mode": 1, "retry": True, "retry_policy": {"max_retries": 1}},
    "replaced": {"replaced_task_nesting": 2},
}


def anything(*args: Any, **kwargs: Any) -> None: ...


@pytest.fixture
def app() -> Celery:
    app = Celery("unit", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_queues = [Queue("celery"), Queue("fast", Exchange("fast", "topic"), routing_key="fast.#")]
    app.conf.task_routes = {"unit.routed": {"queue": "fast", "routing_key": "fast.lane"}}
    defaults = {"priority": 3, "expires": 60, "time_limit": 9, "ignore_result": True}
    for name, options in {"task": {}, "routed": {}, "defaults": defaults}.items():
        app.task(anything, name=f"unit.{name}", shared=False, **options)
    return app


def sent(app: Celery, call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What Celery sends."""
    recorder = recorder_of(app)
    SEND_TASK(app, **{**call, "producer": recorder})
    body, arguments = recorder.recorded[0]
    payload, content_type, content_encoding = recorder.serialize(body, arguments)
    return payload, {**arguments, "content_type": content_type, "content_encoding": content_encoding}


def kept(app: Celery, call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a timer sends when it is due."""
    content = record_call(SEND_TASK, app, call).stored.content
    return message(loads(dumps(content)), round((time.time() + DELAY) * 1000), app)


def plain(app: Celery, arguments: dict[str, Any]) -> dict[str, Any]:
    """What there is to compare: not what concerns the sending alone, nor times that go on meanwhile."""
    sending = ("serializer", "compression", "retry", "retry_policy")
    compared = {name: value for name, value in arguments.items() if value is not None and name not in sending}
    compared["declare"] = [entity.as_dict(recurse=True) for entity in compared.get("declare") or ()]
    if compared["reply_to"] in (app.oid, app.thread_oid):
        # whichever it is, nobody reads it with such a result backend
        compared["reply_to"] = app.oid
    # it counts from publishing, which comes later
    compared["expiration"] = compared.get("expiration") is not None
    headers = compared["headers"] = dict(compared["headers"])
    if headers.get("expires"):
        headers["expires"] = pytest.approx(datetime.fromisoformat(headers["expires"]).timestamp(), abs=5)
    assert "eta" in headers
    del headers["eta"]
    return compared


@pytest.mark.parametrize("name", ["unit.task", "unit.routed", "unit.defaults", "elsewhere.task"])
@pytest.mark.parametrize("case", CALLS)
def test_the_message(app: Celery, case: str, name: str) -> None:
    options = {"task_id": "my-own", "countdown": DELAY, **CALLS[case]}
    call = {"name": name, "args": (1,), "kwargs": {"x": 2}, **options}
    (body, arguments), (our_body, ours) = sent(app, call), kept(app, call)
    assert arguments["headers"]["eta"]
    assert ours["headers"]["eta"] is None
    assert our_body == body
    assert plain(app, ours) == plain(app, arguments)
