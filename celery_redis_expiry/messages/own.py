"""Whether a message is the work of Celery's own code and the settings alone, or others have a say in it."""

from __future__ import annotations

import os
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from celery import signals
from celery.app import amqp, base, routes
from celery.app import task as tasks

from celery_redis_expiry.conf import setting
from celery_redis_expiry.messages.recording import awaits_call

#: Who may change a message, or does something of its own for each: instrumentation, for one.
SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
#: Methods of a task that Celery asks for each call.
METHODS = ("apply_async", "shadow_name", "_get_exec_options")

_of_task = attrgetter(*METHODS, "_exec_options", "ignore_result", "soft_time_limit", "time_limit")


class Settings(NamedTuple):
    """What Celery goes by for every message, beside the task and the call itself."""

    process: int
    backend: Any
    sent_events: bool
    default_queue: str
    queues: list[Any]
    router: Any
    routes: list[Any]
    send_task: Any
    create: Any
    send: Any

    @classmethod
    def of(cls, app: Any) -> Settings:
        own = app.amqp
        router = own.router
        return cls(
            os.getpid(),
            app.backend,
            setting(app, "task_send_sent_event"),
            setting(app, "task_default_queue"),
            list(own.queues.values()),
            router,
            list(router.routes),
            app.send_task,
            own.create_task_message,
            own.send_task_message,
        )

    def are_all(self) -> bool:
        """Whether nothing else has a say, but for receivers of signals and the current task."""
        return (
            not self.sent_events
            and not awaits_call(self.backend)
            and type(self.router) is routes.Router
            and all(type(route) is routes.MapRoute for route in self.routes)
            and all(map(_is_of, (self.send_task, self.create, self.send), (base, amqp, amqp)))
        )


def is_heard(app: Any, parent: Any) -> bool:
    """Whether somebody listens to publishing, or the current task hands more on than its id and root."""
    if any(signal.receivers for signal in SIGNALS):
        return True
    return parent is not None and (app.conf.task_inherit_parent_priority or not parent.request.id)


def settings_of_task(task: Any) -> Any:
    """What Celery goes by for every call of a task, to be compared; None where it is not registered."""
    return None if task is None else _of_task(task)


def is_plain(task: Any, app: Any) -> bool:
    """Whether a call of the task is sent as Celery sends any; who is not registered is called by name."""
    return task is None or (
        task.app is app
        and all(_is_of(getattr(task, name), tasks) for name in METHODS)
        and not task.__v2_compat__
        # since 5.7
        and getattr(task, "_dump_pydantic_arguments", None) is None
    )


def _is_of(method: Any, module: ModuleType) -> bool:
    """Whether a function or method is what Celery wrote in this module."""
    function = getattr(method, "__func__", method)
    if getattr(function, "_wrapped_by", "") == "celery_redis_expiry.hooks.patch":
        # our own hook lets pass what is being recorded
        function = function.__wrapped__
    # others' wrappers take over its name and module, but not where it finds its globals
    return type(function) is FunctionType and function.__globals__ is vars(module)
