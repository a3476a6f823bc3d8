"""Users' own keys: what an expiry worker does so that their expiry runs a task, exactly while it listens."""

from celery_redis_expiry.worker.watching.watching import Watching

__all__ = ["Watching"]
