"""Where the timers' Redis is, and clients for it: one server, Sentinel, or a Cluster."""

from celery_redis_expiry.connections.clients import RETRIES, TIMEOUT, Primary, client, primaries
from celery_redis_expiry.connections.held import Held, can_hold
from celery_redis_expiry.connections.location import (
    MEMORY,
    Location,
    broker_location,
    locate,
    locate_watched,
    parse,
)
from celery_redis_expiry.connections.memory import forget_memory
from celery_redis_expiry.connections.packing import pack_quickly

__all__ = [
    "MEMORY",
    "RETRIES",
    "TIMEOUT",
    "Held",
    "Location",
    "Primary",
    "broker_location",
    "can_hold",
    "client",
    "forget_memory",
    "locate",
    "locate_watched",
    "pack_quickly",
    "parse",
    "primaries",
]
