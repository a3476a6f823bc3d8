"""Every error this package raises on purpose: one root, and each message says what to do."""

from __future__ import annotations

from typing import Any


class ExpiryError(Exception):
    """Root of the errors of this package.

    Attributes:
        summary: the ScheduleSummary of what `schedule_many_on_expiry` had stored when this error cut it
            short, else None.
    """

    summary: Any = None


class InvalidTimer(ExpiryError, ValueError):
    """An argument can't make a timer; raised before anything is stored."""


class InvalidHandler(ExpiryError, ValueError):
    """An argument can't make a handler of users' own keys; raised before anything is registered."""


class TimerExists(ExpiryError):
    """A timer of this name or task id is already waiting (`if_exists="raise"`, or a repeated task id)."""


class NotConfigured(ExpiryError):
    """A setting is missing or can't be used."""


class NamespaceTaken(NotConfigured):
    """The namespace in this Redis belongs to another app or to another broker."""


class BadExport(ExpiryError):
    """A file is no export, or of a newer release, or of another app, or incomplete."""


class StoreUnavailable(ExpiryError):
    """Redis can't be reached, is read-only, or refused the command."""


class StoreUnreachable(StoreUnavailable):
    """A server does not answer at all."""


class StoreFull(StoreUnavailable):
    """Redis is at its `maxmemory`: nothing was stored."""


class NotReplicated(ExpiryError):
    """The timers are stored, on the primary alone: fewer replicas confirmed than `expiry_wait_replicas`.

    Attributes:
        ids: the task ids of the timers that are stored.
    """

    def __init__(self, message: str, ids: list[str] | None = None) -> None:
        super().__init__(message)
        self.ids = ids or []
