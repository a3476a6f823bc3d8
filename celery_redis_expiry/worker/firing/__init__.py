"""Firing in place: by the script that claims, where the broker's queues lie beside the timers."""

from __future__ import annotations

from celery_redis_expiry.worker.firing.in_place import InPlace

__all__ = ["InPlace"]
