"""The pruner: forgets templates that no stored message has, in small steps beside other work."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.store import Shard

logger = logging.getLogger(__name__)

#: Seconds for which a template must not have been used.
AGE = 86400.0
#: How many such templates make it worth to look through all stored messages, and how many go at once.
LEAST, MOST = 100, 10_000
#: How many round trips at most in one step, once a minute: others wait meanwhile.
STEPS = 10


@dataclass
class _Search:
    """Which templates may go, and how far the stored messages have been looked through."""

    candidates: set[bytes]
    began: int
    cursor: int = 0


class Pruner:
    """One step of one shard: look through some stored messages; at the end of all, forget what none has."""

    def __init__(self, *, age: float = AGE, least: int = LEAST) -> None:
        self._age = age
        self._least = least
        self._searches: dict[int, _Search] = {}

    def step(self, shard: Shard) -> None:
        """Go on; what fails is no harm, and is told of at debug: the next step goes on."""
        try:
            self._step(shard)
        except StoreUnavailable as exc:
            logger.debug("expiry: unused templates are not pruned now: %s", exc)

    def _step(self, shard: Shard) -> None:
        search = self._searches.pop(shard.number, None)
        if search is None:
            candidates = shard.unused(self._age, MOST)
            if len(candidates) < self._least:
                return
            search = _Search(candidates, shard.now())
        for _ in range(STEPS):
            search.cursor, found = shard.templates_of(search.cursor)
            search.candidates -= found
            if search.cursor == 0 or not search.candidates:
                pruned = shard.prune(search.candidates, search.began)
                logger.debug("expiry: forgot %d templates that no timer has", pruned)
                return
        self._searches[shard.number] = search
