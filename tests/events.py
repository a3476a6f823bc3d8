"""What monitors make of the events that Celery sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery
from celery.events.state import State

from tests.waiting import eventually


@contextmanager
def watched(app: Celery) -> Iterator[Callable[[str], Any]]:
    """What a monitor such as Flower makes of the events: its task by id."""
    state = State()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": state.event})
        with receiver.consumer_context() as (draining, _, _):

            def task(id: str) -> Any:
                with suppress(TimeoutError):
                    draining.drain_events(timeout=0.1)
                return state.tasks.get(id)

            def heard() -> Any:
                with app.events.default_dispatcher() as dispatcher:
                    dispatcher.send("task-sent", uuid="watching")
                return task("watching")

            # a Redis broker keeps no event for who subscribes a moment later
            eventually(heard, what="the subscription")
            task.state = state  # type: ignore[attr-defined]
            yield task
