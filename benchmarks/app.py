"""The Celery app of the benchmarks: ours and `countdown`'s, the same task, no result backend for either."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks.place import Place, note


def build(place: Place) -> Celery:
    """The app of a place. `watch`, in its settings: a pattern of users' keys that a handler watches."""
    conf = dict(place.conf)
    pattern = conf.pop("watch", None)
    app = Celery("bench", broker=place.broker)
    app.conf.update(
        task_default_queue=place.queue,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
        expiry_redis_url=place.redis,
    )
    app.conf.update(conf)
    app.set_default()

    @app.task(name="bench.record", shared=False)
    def record(label: str, number: int = 0) -> None:
        note(label)

    @app.task(name="bench.told", shared=False)
    def told(event: dict[str, Any]) -> None:
        note(event["key"])

    if pattern:
        from celery_redis_expiry import on_key_expired

        on_key_expired(pattern, app=app)(told)
    return app
