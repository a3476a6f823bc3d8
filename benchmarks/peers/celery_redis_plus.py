"""celery-redis-plus: another Redis transport for Celery, which keeps what has an eta in Redis."""

from __future__ import annotations

import celery_redis_plus  # noqa: F401 - registers its transport

from benchmarks.peers import celery_countdown


class Peer(celery_countdown.Peer):
    pass
