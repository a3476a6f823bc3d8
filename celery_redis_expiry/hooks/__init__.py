"""Where Celery has no extension point: three of its methods are wrapped when the package is imported.

- `celery.app.control.Control.broadcast`: a revoke is broadcast, and forgotten by who restarts, so it cancels
  the timer in Redis as well;
- `celery.result.AsyncResult._get_task_meta`: Redis alone knows the state of a task that waits as a timer;
- `celery.app.base.Celery.send_task`: a countdown beyond `expiry_countdown_threshold` becomes a timer.

Celery's own signals tell when the task of a recurring timer has ended.
"""

from __future__ import annotations

from celery_redis_expiry.hooks import finished, revoke, sending, state

__all__ = ["install"]


def install() -> None:
    """Wrap them and connect; repeating it does no harm.

    Raises:
        ImportError: this Celery is not one that the package knows.
    """
    revoke.install()
    state.install()
    sending.install()
    finished.install()
