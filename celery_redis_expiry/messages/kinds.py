"""Kinds of calls, whose messages differ in task id, arguments, headers and parent, and in nothing else.

Celery's own code makes the message of the first call of a kind (see `recording`), and that leaves a template;
of each further call only its own part is made. That is exact where nobody else has a say in a message. All
else is recorded, call by call:

- for every task: where signals of publishing have receivers (as by instrumentation), a router is no table,
  `task_send_sent_event` or `task_inherit_parent_priority` is on, the result backend must be told of each call
  (`rpc`), or what makes and sends messages is not Celery's own;
- for a task: where `apply_async` or `shadow_name` is not Celery's own, or its arguments are pydantic's;
- for a signature: where it is of another app, has options beyond OPTIONS (links, stamps, a group, a moment in
  `expires` …), or is not sent as plain JSON.

What Celery reads anew for each call is compared: a task's options and route, queues, settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.canvas import Signature

from celery_redis_expiry.keys import new_id
from celery_redis_expiry.messages.filling import SCALARS, Filled, differing, own_headers
from celery_redis_expiry.messages.own import Settings, is_heard, is_plain, settings_of_task
from celery_redis_expiry.messages.prepared import Prepared, checked_id
from celery_redis_expiry.messages.recording import record
from celery_redis_expiry.template import MOST, Template

#: Options that a kind may have, where they are scalars.
OPTIONS = frozenset(
    {
        *("queue", "exchange", "routing_key", "priority", "delivery_mode", "serializer", "expires"),
        *("time_limit", "soft_time_limit", "ignore_result", "shadow", "retries", "reply_to"),
    }
)
#: Options of each call's own.
OWN = ("task_id", "headers")


@dataclass(frozen=True)
class Kind:
    """Calls whose messages have a template in common.

    Attributes:
        settings: of the task when the template was made.
        template: None where calls of this kind must be recorded.
        ignored: whether nobody wants their results.
    """

    settings: Any
    template: Template | None = None
    ignored: bool = False


#: The attribute of an app that has its settings, and the kinds known under them. They refer to the app:
#: elsewhere they would keep it alive.
KNOWN = "_expiry_kinds"


class Kinds:
    """The kinds of an app's calls under the settings, and within the task, of this moment.

    Arguments:
        app: whoever may change its settings meanwhile must make another of these.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._amqp = app.amqp
        self._router = app.amqp.router
        self._tasks = app.tasks
        self._parent = app.current_worker_task
        self._kinds: dict[Any, Kind] | None = None
        if not is_heard(app, self._parent):
            settings = Settings.of(app)
            known: tuple[Settings, dict[Any, Kind] | None] | None = getattr(app, KNOWN, None)
            if known is None or known[0] != settings:
                known = settings, {} if settings.are_all() else None
                setattr(app, KNOWN, known)
            self._kinds = known[1]

    def prepare(self, signature: Signature) -> Prepared | None:
        """Make a plain signature ready for the store; None where it must be recorded."""
        if self._kinds is None:
            return None
        name = signature["task"]
        task = self._tasks.get(name)
        key = self._key(signature, task)
        if key is None:
            return None
        args, kwargs, options = tuple(signature["args"]), signature["kwargs"], signature["options"]
        kind = self._kind(self._kinds, key, signature, task)
        if kind.template is None:
            return None
        headers = own_headers(self._parent, options.get("headers"), kind.template)
        if headers is None:
            return None
        if task is not None and task.typing and hasattr(task, "__header__"):
            task.__header__(*args, **kwargs)
        id = checked_id(options.get("task_id")) or new_id()
        rest = differing(self._amqp, name, args, kwargs, headers)
        if self._parent is not None:
            self._parent.add_trail(self._app.AsyncResult(id))
        return Prepared(Filled(id, (kind.template, rest)), ignored=kind.ignored)

    def _key(self, signature: Signature, task: Any) -> tuple[Any, ...] | None:
        """What all calls of a kind have in common; None where a call is of none."""
        known = type(signature) is Signature and signature._app is self._app
        if not known or signature._type not in (None, task) or type(signature["kwargs"]) is not dict:
            return None
        key = [signature["task"], bool(signature["kwargs"]), self._parent is not None]
        for name, value in signature["options"].items():
            if name in OWN:
                continue
            if name not in OPTIONS or type(value) not in SCALARS:
                return None
            # True and 1 are equal, and not the same
            key += name, type(value), value
        return tuple(key)

    def _kind(self, kinds: dict[Any, Kind], key: Any, signature: Signature, task: Any) -> Kind:
        kind = kinds.get(key)
        if kind is None and len(kinds) >= MOST:
            return Kind(None)
        if kind is None or kind.settings != self._settings(signature, task):
            made = self._made(signature, task)
            # only now: the first message of a task makes Celery remember its options
            kind = kinds[key] = Kind(self._settings(signature, task), *made)
        return kind

    def _settings(self, signature: Signature, task: Any) -> Any:
        route = self._router.lookup_route(signature["task"]) if self._router.routes else None
        return settings_of_task(task), route

    def _made(self, signature: Signature, task: Any) -> tuple[Template | None, bool]:
        """The template that such messages of Celery's own code have, and whether results are ignored."""
        if not is_plain(task, self._app):
            return None, False
        first = signature.clone()
        for name in OWN:
            first.options.pop(name, None)
        first.options["add_to_parent"] = False
        recorded = record(first, self._app)
        parts = recorded.stored.split()
        serializer = first.options.get("serializer") or getattr(task, "serializer", None)
        if parts is None or (serializer or self._app.conf.task_serializer) != "json":
            return None, False
        headers = own_headers(self._parent, None, parts[0]) or {}
        # both ways must come to the same
        same = differing(self._amqp, first.task, tuple(first.args), first.kwargs, headers) == parts[1]
        return parts[0] if same else None, recorded.ignored
