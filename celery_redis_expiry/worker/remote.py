"""Remote control commands that mean something else, or more, to a worker that fires timers.

They run in the loop of the worker that also sends its heartbeats: a Redis that hangs must not hold it up.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from celery.worker.control import Panel, nok

from celery_redis_expiry.hooks.revoke import cancel_revoked, task_ids
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Timer

#: Commands that would make it run tasks. They are broadcast, so it gets those that are meant for others.
REFUSED = ("add_consumer", "autoscale", "pool_grow", "pool_shrink")
#: How many waiting timers `scheduled` answers with, the soonest.
MOST = 100


def install(store: Store, *, beside_tasks: bool) -> None:
    """Take the place of Celery's own commands; for the process of a worker that fires timers.

    Arguments:
        store: one that gives up soon.
        beside_tasks: whether it runs tasks as well: then its own answers stay, and the timers come on top.
    """
    timers = _Timers(store)
    scheduled: Any = timers.scheduled
    query_task: Any = timers.query_task
    if beside_tasks:
        scheduled, query_task = (
            _also(Panel.data["scheduled"], scheduled),
            _also(Panel.data["query_task"], query_task),
        )
    else:
        for command in REFUSED:
            Panel.data[command] = _refuse
    Panel.data["scheduled"] = Panel.data["dump_schedule"] = scheduled
    Panel.data["query_task"] = query_task
    for command in ("revoke", "terminate"):
        Panel.data[command] = _cancelling(Panel.data[command])


def _refuse(state: Any, *_: Any, **__: Any) -> Any:
    return nok("an expiry worker runs no task and consumes no queue")


def _also(tasks: Any, timers: Any) -> Any:
    """A command that answers with the tasks that this worker holds and with timers: a list, or by task id."""

    def both(state: Any, *args: Any, **kwargs: Any) -> Any:
        held, waiting = tasks(state, *args, **kwargs), timers(state, *args, **kwargs)
        # what has just fired may be here already: then the worker knows best
        return [*held, *waiting] if isinstance(held, list) else {**waiting, **held}

    return both


class _Timers:
    """What `celery inspect` asks of the tasks that wait, answered with timers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def scheduled(self, state: Any, **_: Any) -> list[dict[str, Any]]:
        """The timers that wait, soonest first."""
        timers = islice(self._store.timers(page=MOST), MOST)
        return [
            {
                "eta": timer.due.isoformat() if timer.due else None,
                "priority": timer.priority,
                "request": _request(timer, state),
            }
            for timer in timers
        ]

    def query_task(self, state: Any, ids: Any, **_: Any) -> dict[str, tuple[str, dict[str, Any]]]:
        """Those of these tasks that wait as timers."""
        timers = (self._store.get(id, by_name=False) for id in task_ids(ids))
        return {timer.id: ("scheduled", _request(timer, state)) for timer in timers if timer}


def _request(timer: Timer, state: Any) -> dict[str, Any]:
    """As Celery describes the request of a task (`Request.info`); the arguments as events tell of them, since
    the expiry worker never decodes them."""
    return {
        "id": timer.id,
        "name": timer.task,
        "args": timer.args,
        "kwargs": timer.kwargs,
        "type": timer.task,
        "hostname": state.hostname,
        "time_start": None,
        "acknowledged": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": timer.queue,
            "priority": timer.priority,
            "redelivered": None,
        },
        "worker_pid": None,
    }


def _cancelling(command: Any) -> Any:
    """A command of Celery's that revokes, after the timers were cancelled.

    Who broadcast it may not have told Redis: another language, or a process that does not import the package.
    """

    def revoke(state: Any, *args: Any, task_id: Any = None, **kwargs: Any) -> Any:
        cancel_revoked(state.app, task_id)
        return command(state, *args, task_id=task_id, **kwargs)

    return revoke
