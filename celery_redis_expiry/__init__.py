"""Durable, punctual timers for Celery: a task is enqueued when its Redis key expires."""

from __future__ import annotations

from celery_redis_expiry.awaiting import (
    acancel,
    aget_timer,
    areschedule,
    aschedule_many_on_expiry,
    aschedule_on_expiry,
)
from celery_redis_expiry.bulk import BadItem, ScheduleSummary, schedule_many_on_expiry
from celery_redis_expiry.errors import (
    ExpiryError,
    InvalidHandler,
    InvalidTimer,
    NamespaceTaken,
    NotConfigured,
    NotReplicated,
    StoreFull,
    StoreUnavailable,
    TimerExists,
)
from celery_redis_expiry.hooks import install as _install_hooks
from celery_redis_expiry.hooks.state import SCHEDULED
from celery_redis_expiry.listing import iter_dead_letters, iter_timers
from celery_redis_expiry.results import RecurringTimer, ScheduledGroupResult, ScheduledResult
from celery_redis_expiry.scheduling import (
    cancel,
    get_timer,
    reschedule,
    schedule_on_expiry,
)
from celery_redis_expiry.timer import DeadLetter, Timer
from celery_redis_expiry.watching import FieldEvent, KeyEvent, on_field_expired, on_key_expired

__version__ = "0.3.0"

__all__ = [
    "SCHEDULED",
    "BadItem",
    "DeadLetter",
    "ExpiryError",
    "FieldEvent",
    "InvalidHandler",
    "InvalidTimer",
    "KeyEvent",
    "NamespaceTaken",
    "NotConfigured",
    "NotReplicated",
    "RecurringTimer",
    "ScheduleSummary",
    "ScheduledGroupResult",
    "ScheduledResult",
    "StoreFull",
    "StoreUnavailable",
    "Timer",
    "TimerExists",
    "acancel",
    "aget_timer",
    "areschedule",
    "aschedule_many_on_expiry",
    "aschedule_on_expiry",
    "cancel",
    "get_timer",
    "iter_dead_letters",
    "iter_timers",
    "on_field_expired",
    "on_key_expired",
    "reschedule",
    "schedule_many_on_expiry",
    "schedule_on_expiry",
]

_install_hooks()
