"""Messages by their kind are what Celery's own code makes of each call, but for the task id."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, Task, _state, shared_task
from celery.canvas import Signature
from celery.signals import after_task_publish, before_task_publish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Exchange, Queue
from kombu.utils.json import dumps, loads

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.hooks.patch import wrap as hook
from celery_redis_expiry.messages import Kinds, prepare
from celery_redis_expiry.messages.recording import record

Change = Callable[[Celery, pytest.MonkeyPatch], Any]


class Attributes(Task):
    priority = 4
    time_limit = 30
    soft_time_limit = 20
    ignore_result = True


class Sends(Task):
    def apply_async(self, *args: Any, **options: Any) -> Any:
        return super().apply_async(*args, **{**options, "priority": 7})


class Shadows(Task):
    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
        return f"shadow of {args}"


@shared_task(name="kinds.shared")
def shared(*args: object) -> None: ...


def build() -> Celery:
    app = Celery("kinds", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_queues = [Queue("celery"), Queue("fast", Exchange("fast", type="topic"), routing_key="f.#")]
    app.conf.task_routes = {"kinds.routed": {"queue": "fast", "routing_key": "f.1"}, "kinds.glob*": "globs"}

    def register(name: str, **options: Any) -> None:
        @app.task(shared=False, name=f"kinds.{name}", **options)
        def task(*args: object, **kwargs: object) -> None: ...

    for name in ("task", "routed", "globbed"):
        register(name)
    register("defaults", expires=90, serializer="json", ignore_result=True, queue="celery")
    register("moment", expires=datetime(2100, 1, 1, tzinfo=timezone.utc))
    register("pickles", serializer="pickle")
    for base in (Attributes, Sends, Shadows):
        register(base.__name__.lower(), base=base)

    @app.task(shared=False, name="kinds.bound", bind=True)
    def bound(self: Any, first: int, second: int = 2) -> None: ...

    return app


@pytest.fixture
def app() -> Celery:
    return build()


def signature(app: Celery, name: str, *args: Any, **kwargs: Any) -> Signature:
    made: Signature = app.signature(f"kinds.{name}", args=args, kwargs=kwargs)
    return made


def is_exact(app: Celery, signature: Signature) -> None:
    """Made by its kind, and as Celery makes it."""
    for _ in range(2):
        quick = Kinds(app).prepare(signature)
        assert quick is not None
        slow = record(signature.clone().set(task_id=quick.stored.id), app)
        assert loads(dumps(quick.stored.content)) == loads(dumps(slow.stored.content))
        assert quick.stored.split() == slow.stored.split()
        assert (quick.ignored, quick.events) == (slow.ignored, [])


def is_recorded(app: Celery, signature: Signature) -> None:
    for _ in range(2):
        assert Kinds(app).prepare(signature) is None


ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "none": ((), {}),
    "one": ((1,), {}),
    "several": ((1, "two", -3), {}),
    "scalars": ((None, True, False, 1.5, float("inf"), 10**30, ""), {"a": None, "b": True, "c": 0.1}),
    "quotes": (("it's", '"quoted"', "back\\slash", "'"), {"it's": "it's"}),
    "unicode": (("ünï", "\u2028", "😀", "\x00\n\t\x7f"), {"ключ": "значение"}),
    "a long text": (("x" * 2000,), {"x": "x" * 2000}),
    "many": (tuple(range(600)), {}),
    "nested": (([1, [2, [3, [4]]]], {"a": {"b": {"c": {}}}}), {"x": ([], {})}),
    "looks like an end": (([], {}), {"callbacks": ', {"callbacks": '}),
    "ends in an empty one": (([[], {}],), {}),
    "types of kombu's JSON": ((UUID(int=1), Decimal("1.0"), datetime(2030, 1, 1), b"\xff"), {}),
    "looks like an id": (("\0id",), {"x": "\0id"}),
}


@pytest.mark.parametrize("given", ARGUMENTS)
def test_arguments(app: Celery, given: str) -> None:
    args, kwargs = ARGUMENTS[given]
    for name in ("task", "defaults", "unknown"):
        is_exact(app, signature(app, name, *args, **kwargs))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
PROPERTY_APP = build()


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(values, max_size=4), st.dictionaries(st.text(), values, max_size=3))
def test_any_arguments(args: list[Any], kwargs: dict[str, Any]) -> None:
    is_exact(PROPERTY_APP, PROPERTY_APP.signature("kinds.task", args=tuple(args), kwargs=kwargs))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue": "fast"},
        {"queue": "made up"},
        {"exchange": "fast", "routing_key": "f.2"},
        {"priority": 9},
        {"priority": True},
        {"expires": 60},
        {"expires": 1.5},
        {"time_limit": 5, "soft_time_limit": 4},
        {"shadow": "another name", "retries": 3},
        {"ignore_result": True},
        {"ignore_result": False},
        {"delivery_mode": 1},
        {"serializer": "json"},
        {"headers": {"tenant": 7, "trace": "abc"}},
        {"reply_to": "mine"},
        {"task_id": "an id of my own"},
    ],
    ids=str,
)
def test_options(app: Celery, options: dict[str, Any]) -> None:
    for name in ("task", "routed", "globbed", "defaults", "attributes", "bound", "unknown"):
        is_exact(app, signature(app, name, 1).set(**options))


def test_an_id_that_stands_elsewhere_too(app: Celery) -> None:
    for id in ("kinds.task", "two", "two"):
        made = signature(app, "task", id).set(task_id=id, shadow="kinds.task", headers={"same": "two"})
        assert prepare(made, app).stored.content == record(made, app).stored.content


def test_options_that_are_equal_but_not_the_same(app: Celery) -> None:
    for priority in (1, True, 1.0):
        is_exact(app, signature(app, "task").set(priority=priority))


def test_shared_tasks(app: Celery) -> None:
    with as_current(app):
        is_exact(app, shared.s(1))


@pytest.mark.parametrize(
    "options",
    [
        {"expires": datetime(2100, 1, 1, tzinfo=timezone.utc)},
        {"expires": "2100-01-01T00:00:00"},
        {"link": Signature("kinds.task")},
        {"link_error": Signature("kinds.task")},
        {"chain": [Signature("kinds.task")]},
        {"chord": Signature("kinds.task")},
        {"group_id": "g", "group_index": 1},
        {"root_id": "r", "parent_id": "p"},
        {"stamped_headers": ["stamp"], "stamp": 1},
        {"serializer": "pickle"},
        {"serializer": "yaml"},
        {"compression": "zlib"},
        {"argsrepr": "(secret,)"},
        {"queue": Queue("own")},
        {"headers": {"task": "another"}},
        {"headers": {"parent_id": "another"}},
        {"headers": {"nested": {"a": 1}}},
        {"add_to_parent": False},
    ],
    ids=str,
)
def test_options_that_make_a_message_of_its_own(app: Celery, options: dict[str, Any]) -> None:
    is_recorded(app, signature(app, "task", 1).set(**options))
    assert prepare(signature(app, "task", 1).set(**options), app).stored.content["kind"] == "message"


@pytest.mark.parametrize("name", ["sends", "shadows", "pickles", "moment"])
def test_tasks_that_have_a_say(app: Celery, name: str) -> None:
    is_recorded(app, signature(app, name, 1))


def test_of_another_app(app: Celery) -> None:
    is_recorded(app, signature(build(), "task", 1))
    is_recorded(app, Signature("kinds.task"))


# -- what may change at any time


def exact_after(change: Callable[[Celery], Any]) -> Change:
    def changed(app: Celery, patch: pytest.MonkeyPatch) -> None:
        change(app)

    return changed


def set_task(name: str, value: Any) -> Change:
    return exact_after(lambda app: setattr(app.tasks["kinds.task"], name, value))


def set_conf(name: str, value: Any) -> Change:
    return exact_after(lambda app: setattr(app.conf, name, value))


def register_anew(app: Celery) -> None:
    app.tasks.unregister("kinds.task")

    @app.task(shared=False, name="kinds.task", priority=2)
    def task(*args: object) -> None: ...


def add_queue(app: Celery) -> None:
    app.amqp.queues.add(Queue("made up", durable=False))


def routes(app: Celery) -> Any:
    return app.amqp.router.routes[0].map


def fork(app: Celery, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "getpid", lambda: 12345)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(set_task("ignore_result", True), id="ignore_result"),
        pytest.param(exact_after(register_anew), id="registered anew"),
        pytest.param(exact_after(lambda app: app.tasks.unregister("kinds.task")), id="unregistered"),
        pytest.param(set_conf("task_default_queue", "fast"), id="another default queue"),
        pytest.param(exact_after(add_queue), id="queue"),
        pytest.param(exact_after(lambda app: routes(app).update({"kinds.task": "fast"})), id="a route"),
        pytest.param(
            exact_after(lambda app: routes(app)["kinds.routed"].update(queue="celery")), id="another route"
        ),
        pytest.param(fork, id="forked"),
    ],
)  # fmt: skip
def test_changes_are_noticed(app: Celery, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    made = [
        signature(app, "task", 1),
        signature(app, "routed", 1),
        signature(app, "task").set(queue="made up"),
    ]
    for each in made:
        is_exact(app, each)
    change(app, monkeypatch)
    for each in made:
        is_exact(app, each)


def test_signatures_of_a_task_that_was_replaced(app: Celery) -> None:
    made = app.tasks["kinds.task"].s(1)
    is_exact(app, made)
    register_anew(app)
    is_recorded(app, made)


def wrap(owner: Callable[[Celery], Any], name: str) -> Change:
    """As instrumentation does it: what it puts there says that it is what it wraps."""

    def change(app: Celery, patch: pytest.MonkeyPatch) -> None:
        original = getattr(owner(app), name)

        @wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs)

        patch.setattr(owner(app), name, wrapper)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(set_conf("task_send_sent_event", True), id="sent events"),
        pytest.param(
            exact_after(lambda app: app.amqp.router.routes.insert(0, lambda *args, **kwargs: None)),
            id="router",
        ),
        pytest.param(wrap(lambda app: Task, "apply_async"), id="Task.apply_async"),
        pytest.param(wrap(lambda app: app.tasks["kinds.task"], "apply_async"), id="task.apply_async"),
        pytest.param(wrap(lambda app: Celery, "send_task"), id="Celery.send_task"),
        pytest.param(wrap(lambda app: app, "send_task"), id="app.send_task"),
        pytest.param(wrap(lambda app: app.amqp, "send_task_message"), id="send_task_message"),
        pytest.param(wrap(lambda app: app.amqp, "create_task_message"), id="create_task_message"),
    ],
)
def test_who_has_a_say_from_now_on(app: Celery, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    is_exact(app, signature(app, "task", 1))
    change(app, monkeypatch)
    is_recorded(app, signature(app, "task", 1))


def test_our_own_hook_has_no_say(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Celery, "send_task", Celery.send_task)
    hook(Celery, "send_task", ["self", "name"], lambda original, *args, **kwargs: original(*args, **kwargs))
    is_exact(app, signature(app, "task"))


@pytest.mark.parametrize("signal", [before_task_publish, after_task_publish], ids=["before", "after"])
def test_receivers_of_signals(app: Celery, signal: Any) -> None:
    def receiver(headers: dict[str, Any], **_: Any) -> None:
        headers["trace"] = "abc"

    is_exact(app, signature(app, "task"))
    signal.connect(receiver)
    try:
        is_recorded(app, signature(app, "task"))
    finally:
        signal.disconnect(receiver)
    is_exact(app, signature(app, "task"))


def test_a_result_backend_that_must_know_of_each_call() -> None:
    app = Celery("kinds", broker="memory://", backend="rpc://", set_as_current=False)
    made = app.signature("kinds.task")
    is_recorded(app, made)
    # the replies of a thread go to its own queue
    assert prepare(made, app).stored.content["arguments"]["reply_to"] == app.thread_oid


def test_threads_share_templates(app: Celery) -> None:
    parts: list[Any] = []

    def schedule() -> None:
        parts.append(prepare(signature(app, "task"), app).stored.split())
        parts.append(record(signature(app, "task"), app).stored.split())

    for _ in range(2):
        thread = threading.Thread(target=schedule)
        thread.start()
        thread.join()
    assert len({template.text for template, _ in parts}) == 1


def test_wrong_arguments_are_refused_each_time(app: Celery) -> None:
    for _ in range(2):
        with pytest.raises(InvalidTimer, match=r"kinds.bound can't be sent as it is: TypeError"):
            prepare(signature(app, "bound"), app)
        with pytest.raises(InvalidTimer, match=r"arguments of kinds.task can't be serialized"):
            prepare(signature(app, "task", object()), app)
        is_exact(app, signature(app, "bound", 1))


@contextmanager
def running(app: Celery, **request: Any) -> Iterator[Any]:
    """A task that a worker runs in this thread."""
    task = app.tasks["kinds.task"]
    task.push_request(called_directly=False, children=[], **request)
    _state._task_stack.push(task)
    try:
        yield task
    finally:
        _state._task_stack.pop()
        task.pop_request()


def test_within_a_task(app: Celery) -> None:
    is_exact(app, signature(app, "routed", 1))
    for id, root in (("one", "root"), ("two", None)):
        with running(app, id=id, root_id=root) as task:
            is_exact(app, signature(app, "routed", 1).set(headers={"tenant": 7}))
            prepared = prepare(signature(app, "routed", 1), app)
            assert task.request.children[-1].id == prepared.stored.id
            app.conf.task_inherit_parent_priority = True
            is_recorded(app, signature(app, "routed", 1))
            app.conf.task_inherit_parent_priority = False
    is_exact(app, signature(app, "routed", 1))


@contextmanager
def as_current(app: Celery) -> Iterator[None]:
    before = _state._tls.current_app
    app.set_current()
    try:
        yield
    finally:
        _state._tls.current_app = before
