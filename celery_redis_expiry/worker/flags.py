"""The flags of `notify-keyspace-events`: added where they are missing, never removed."""

from __future__ import annotations

import logging
import threading
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.logs import log_fields

logger = logging.getLogger(__name__)

#: What A stands for; the others must be named.
ALL = "g$lshzxet"
#: Two who read, add and write at once would undo each other.
_lock = threading.Lock()


def missing_flags(flags: str, wanted: str) -> str:
    """Those of the wanted flags that are not set."""
    return "".join(flag for flag in wanted if flag not in flags and not (flag in ALL and "A" in flags))


def add_flags(client: Any, wanted: str, *, configure: bool = True) -> tuple[str, str]:
    """Add the flags that are missing to what one server is configured with.

    Arguments:
        configure: whether it may be configured; else it is only asked.

    Returns:
        The flags that were missing, and why they are still, or nothing.
    """
    missing = ""
    try:
        with _lock:
            flags = str(client.config_get("notify-keyspace-events").get("notify-keyspace-events", ""))
            missing = missing_flags(flags, wanted)
            if missing and not configure:
                return missing, "expiry_configure_notifications is off"
            if missing:
                client.config_set("notify-keyspace-events", flags + missing)
                logger.info(
                    "expiry: added %r to notify-keyspace-events, was %r",
                    missing,
                    flags,
                    extra=log_fields("notifications_configured"),
                )
    except redis_errors.ConnectionError:
        raise
    except redis_errors.ResponseError as exc:
        return missing, f"the server refuses CONFIG ({exc})"
    return missing, ""
