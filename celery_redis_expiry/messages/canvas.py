"""Chains, groups, chords and chunks: stored as signatures, applied at their due time.

They can't be recorded: they publish through other producers and write to the result backend.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, _state
from celery import signature as as_signature
from celery.backends.base import DisabledBackend
from celery.canvas import Signature, _chain, _chord, chunks, group
from celery.result import GroupResult
from kombu.utils.json import dumps, loads

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages import trace
from celery_redis_expiry.messages.group_result import WaitingGroupResult
from celery_redis_expiry.messages.prepared import Prepared, checked_id
from celery_redis_expiry.timer import Stored

PICKLES = ("pickle", "application/x-python-serialize")


def is_canvas(signature: Signature) -> bool:
    return type(signature) is not Signature and isinstance(signature, group | _chain | _chord | chunks)


def prepare_canvas(signature: Signature, app: Any) -> Prepared:
    options: dict[str, Any] = {}
    if isinstance(signature, chunks):
        options["route_name"] = signature.kwargs["task"]["task"] if signature.kwargs.get("task") else None
        signature = signature.group()
    for leaf in leaves(signature):
        if _serializer(leaf, app) in PICKLES:
            raise InvalidTimer(
                f"{leaf.get('task')} would be pickled: the expiry worker never unpickles, "
                "so a canvas must use a serializer such as json"
            )
    parent = app.current_worker_task
    if parent is not None:
        options["root_id"] = parent.request.root_id or parent.request.id
        options["parent_id"] = parent.request.id
    copy, result = _freeze(round_trip(signature), app, options.get("root_id"), options.get("parent_id"))
    traced = trace.current()
    for leaf in leaves(copy) if traced else ():
        # whoever publishes it may know nothing of traces
        leaf["options"]["headers"] = {**traced, **(leaf["options"].get("headers") or {})}
    _adopt(result, app)
    if parent is not None:
        parent.add_trail(result)
    content = {
        "kind": "canvas",
        "task": copy.task,
        "signature": round_trip(copy),
        "options": {name: value for name, value in options.items() if value is not None},
    }
    if traced:
        content["trace"] = traced
    return Prepared(Stored(result.id, content), result)


def _freeze(
    signature: dict[str, Any], app: Any, root_id: str | None, parent_id: str | None
) -> tuple[Signature, Any]:
    """Write task ids into a copy of a signature: the caller's may be used again.

    Results of groups subscribe to the result backend for every member when they are made, and keep the
    subscription until the members have run: days, here. So they are made by an app that has no backend.
    """
    backendless = _backendless_app(app)
    current = _state._tls.current_app
    # signatures inside signatures come back from JSON without an app: theirs is the thread's current one
    _state._set_current_app(backendless)
    try:
        copy = as_signature(signature, app=backendless)
        task_id = checked_id(copy.options.get("task_id"))
        return copy, copy.freeze(_id=task_id, root_id=root_id, parent_id=parent_id)
    finally:
        _state._set_current_app(current)


class NoBackend(DisabledBackend):
    """Subscribes to nothing; whether there may be chords is for the app to say that it freezes for."""

    def ensure_chords_allowed(self) -> None:
        self.app.freezes_for().backend.ensure_chords_allowed()


_backendless_apps: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _backendless_app(app: Any) -> Any:
    """An app that freezes for another."""
    if app not in _backendless_apps:
        # by its name: before Celery 5.6 a backend can't be given as a class
        made = Celery(app.main, backend=f"{__name__}:{NoBackend.__name__}", set_as_current=False)
        made.freezes_for = weakref.ref(app)
        made.GroupResult = WaitingGroupResult
        _backendless_apps[app] = made
    return _backendless_apps[app]


def _adopt(result: Any, app: Any) -> None:
    """Give results that the backendless app made to the app they belong to."""
    while result is not None:
        result.app = app
        if not isinstance(result, GroupResult):
            result.backend = app.backend
        for child in getattr(result, "results", None) or ():
            _adopt(child, app)
        result = result.parent


def round_trip(signature: Signature) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = loads(dumps(signature))
    except (TypeError, ValueError) as exc:
        raise InvalidTimer(f"the arguments of {signature.task} can't be serialized to JSON: {exc}") from exc
    return copied


def leaves(value: Any) -> list[Mapping[str, Any]]:
    """Every signature of a canvas that is a task of its own."""
    if isinstance(value, Mapping):
        if "task" in value and "subtask_type" in value and value.get("subtask_type") is None:
            return [value]
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return []


def _serializer(leaf: Mapping[str, Any], app: Any) -> Any:
    task = app.tasks.get(leaf.get("task"))
    chosen = (leaf.get("options") or {}).get("serializer") or (task.serializer if task else None)
    return chosen or app.conf.task_serializer


def apply_canvas(content: dict[str, Any], app: Any) -> Any:
    """Apply a stored canvas now: several messages, under the task ids of schedule time; Celery's result."""
    with trace.resumed(content.get("trace") or {}):
        return as_signature(content["signature"], app=app).apply_async(**content["options"])
