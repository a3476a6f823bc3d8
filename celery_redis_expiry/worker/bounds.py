"""The bounds of the dead letters: how many, and how old. What is dropped is logged."""

from __future__ import annotations

import logging
import math
import time

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Shard

logger = logging.getLogger(__name__)

#: Seconds between two looks at a shard's dead letters where none is added.
EVERY = 3600.0
#: How many calls at most in one go: others wait meanwhile.
CALLS = 10


class Bounds:
    """Safe between threads: to look twice does no harm.

    Arguments:
        most: how many dead letters are kept in all (`expiry_dead_letter_limit`).
        age: seconds for which one is kept (`expiry_dead_letter_age`).
    """

    def __init__(self, most: int, age: float) -> None:
        self._most = most
        self._age = age
        self._looked: dict[int, float] = {}

    def sweep(self, shard: Shard) -> None:
        """Enforce them now and then."""
        if time.monotonic() - self._looked.get(shard.number, -EVERY) >= EVERY:
            self.enforce(shard)

    def enforce(self, shard: Shard) -> None:
        """Drop what is beyond them."""
        self._looked[shard.number] = time.monotonic()
        for _ in range(CALLS):
            dropped = shard.trim(math.ceil(self._most / shard.shards), self._age)
            for letter in dropped:
                logger.warning(
                    "expiry: dropped the dead letter %s of %s (%s), beyond expiry_dead_letter_limit or "
                    "expiry_dead_letter_age. Remedy: mend what buries them, or raise these settings",
                    letter.label,
                    letter.buried.isoformat(timespec="seconds"),
                    letter.reason,
                    extra=log_fields(
                        "dead_letter_dropped",
                        timer=letter.label,
                        reason=letter.reason,
                        shard=shard.number,
                    ),
                )
            if not dropped:
                return
