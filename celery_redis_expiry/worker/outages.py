"""Shards that don't answer: when to ask again, and one line when it begins and when it is over."""

from __future__ import annotations

import logging

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.worker.backoff import STORE, backoff

logger = logging.getLogger(__name__)


class Outages:
    """Used by one thread.

    Arguments:
        name: of the part that asks, for logs.
        shards: how many there are.
    """

    def __init__(self, name: str, shards: int) -> None:
        self._name = name
        self._of = f" ({{}} of {shards} shards)" if shards > 1 else ""
        self._failures: dict[int, int] = {}

    def failed(self, shard: int, exc: Exception) -> float:
        """A shard did not answer; returns the seconds until it is to be asked again."""
        log = logger.debug if self._failures else logger.warning
        failures = self._failures.get(shard, 0)
        self._failures[shard] = failures + 1
        log(
            "expiry %s: %s; trying again until it answers%s",
            self._name,
            exc,
            self._of.format(len(self._failures)),
            extra=log_fields("redis_lost", part=self._name, shard=shard, reason=str(exc)),
        )
        return backoff(STORE, failures)

    def answered(self, shard: int) -> None:
        if self._failures.pop(shard, 0) and not self._failures:
            logger.info(
                "expiry %s: Redis answers again",
                self._name,
                extra=log_fields("redis_back", part=self._name, shard=shard),
            )
