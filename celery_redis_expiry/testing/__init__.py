"""For the tests of users' own: `pytest_plugins = ["celery_redis_expiry.testing"]`.

No entry point makes pytest load it: that would import Celery, and this package, whose import wraps three of
Celery's methods, in every run of pytest wherever the package is installed. Without pytest there is
`expiry_clock_of`.
"""

from __future__ import annotations

from importlib.util import find_spec

from celery_redis_expiry.testing.attaching import expiry_clock_of
from celery_redis_expiry.testing.clock import ExpiryClock
from celery_redis_expiry.testing.seen import FiredTimer, PendingTimer

if find_spec("pytest") is not None:
    from celery_redis_expiry.testing.fixtures import (  # noqa: F401
        expiry_app,
        expiry_clock,
        expiry_redis,
        pending_timers,
        pytest_addoption,
        pytest_configure,
    )

__all__ = ["ExpiryClock", "FiredTimer", "PendingTimer", "expiry_clock_of"]
