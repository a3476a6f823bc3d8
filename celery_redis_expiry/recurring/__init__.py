"""Timers that fire again and again: what their schedule is, when its instants are, and what is kept of it."""

from __future__ import annotations

from celery_redis_expiry.recurring.instants import Due, Instants, NoInstant
from celery_redis_expiry.recurring.plan import Plan, Recurring, State
from celery_redis_expiry.recurring.schedules import LONGEST, SHORTEST, described, in_words

__all__ = [
    "LONGEST",
    "SHORTEST",
    "Due",
    "Instants",
    "NoInstant",
    "Plan",
    "Recurring",
    "State",
    "described",
    "in_words",
]
