"""Where Celery has no extension point: three of its methods are wrapped when the package is imported.

- `celery.app.control.Control.broadcast`: a revoke is broadcast, and forgotten by who restarts, so it cancels
  the timer in Redis as well;
- `celery.result.AsyncResult._get_task_meta`: Redis alone knows the state of a task that waits as a timer;
- `celery.app.base.Celery.send_task`: a countdown beyond `expiry_countdown_threshold` becomes a timer.

Celery's own signals tell when the task of a recurring timer has ended.
"""

from __future__ import annotations

from typing import Any

from celery_redis_expiry.hooks import finished, revoke, sending, state

__all__ = ["forget_stores", "install"]


def install() -> None:
    """Wrap them and connect; repeating it does no harm.

    Raises:
        ImportError: this Celery is not one that the package knows.
    """
    revoke.install()
    state.install()
    sending.install()
    finished.install()


def forget_stores(app: Any) -> None:
    """Make the stores by which they look up an app's timers anew: its settings are others now."""
    for known in (revoke._lookups, state._glances, sending._paused, finished._stores):
        known.pop(app, None)
