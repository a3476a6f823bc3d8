"""What is done when a transaction of Django's commits: `schedule_on_expiry(…, on_commit=True)`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from celery_redis_expiry.errors import ExpiryError, InvalidTimer, NotConfigured
from celery_redis_expiry.logs import log_fields

logger = logging.getLogger(__name__)

T = TypeVar("T")


def checked_on_commit(on_commit: Any) -> Any:
    """The connection to the database whose transaction is meant; None where nothing is to wait for one.

    Arguments:
        on_commit: True for the default database, else the alias of one.

    Raises:
        InvalidTimer: it is neither, or there is no such database.
        NotConfigured: Django is not installed, or not configured.
    """
    if on_commit is False:
        return None
    if on_commit is not True and not (isinstance(on_commit, str) and on_commit):
        raise InvalidTimer(f"on_commit must be True, False or the alias of a database, not {on_commit!r}")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.db import DEFAULT_DB_ALIAS, connections
        from django.utils.connection import ConnectionDoesNotExist
    except ImportError as exc:
        raise NotConfigured(
            f"on_commit waits for a transaction of Django's, which is not installed here ({exc}): leave it "
            "out, and schedule once your transaction is committed"
        ) from exc
    try:
        return connections[DEFAULT_DB_ALIAS if on_commit is True else on_commit]
    except ConnectionDoesNotExist as exc:
        raise InvalidTimer(f"on_commit: DATABASES has no {on_commit!r}") from exc
    except ImproperlyConfigured as exc:
        raise NotConfigured(f"on_commit: Django is not configured in this process: {exc}") from exc


def at_commit(connection: Any, act: Callable[[], T], timer: str, id: str) -> T | None:
    """Do something when the open transaction commits, and never after a rollback; at once if none is open.

    Arguments:
        connection: to the database.
        act: what it raises goes to whoever commits, after a line in the log: what is committed stays so.
        timer, id: the timer's name and task id, for that line.

    Returns:
        What `act` returned where it was done at once; else None.
    """
    waits = connection.in_atomic_block
    answers: list[T] = []

    def schedule_at_commit() -> None:
        try:
            answers.append(act())
        except ExpiryError as exc:
            if not waits:
                raise
            logger.error(
                "expiry: the transaction is committed, but there is no timer %s (task id %s): %s",
                timer,
                id,
                exc,
                extra=log_fields("not_scheduled", timer=timer, task_id=id, reason=str(exc)),
            )
            raise

    connection.on_commit(schedule_at_commit)
    return None if waits else answers[0]


def sooner(when: str, elapsed: float) -> str:
    """The same moment, for who says it later.

    Arguments:
        when: see `timer.Request`.
        elapsed: seconds since it was meant.
    """
    return f"+{max(0, int(when) - round(elapsed * 1000))}" if when.startswith("+") else when
