"""Storing timers whose messages lie in the same database: one script stores a timer and takes its message."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store.base import REMEMBER_MS
from celery_redis_expiry.store.namespace import Recorded
from celery_redis_expiry.timer import Request


class Rescuing(Recorded):
    async def _run_schedule(self, requests: Sequence[Request], keys: list[str], args: list[Any]) -> list[Any]:
        """Run the script `schedule`, or `rescue`, which does the same and takes the messages away.

        Arguments:
            keys, args: those of `schedule`.
        """
        lying = [request.lying for request in requests if request.lying is not None]
        if not lying:
            scheduled: list[Any] = await self.link.call("schedule", keys=keys, args=args)
            return scheduled
        one = lying[0]
        answer = self.keys.answer(new_token())
        messages = [part for each in lying for part in (each.message, each.tag)]
        rescued: list[Any] = await self.link.call(
            "rescue",
            keys=[one.queue, one.unacked, one.unacked_index, answer, *keys],
            args=[REMEMBER_MS, one.first, one.last, new_token(), len(lying), *messages, *args],
        )
        return rescued

    async def forget_answer(self, requests: Sequence[Request]) -> None:
        """Nobody will repeat this call any more, which had a token."""
        with self._translated():
            await self.link.execute("DEL", self.keys.answer(call_of(requests)))


def call_of(requests: Sequence[Request]) -> str:
    """What names a call by its token and the timers that it is about; "" if its requests have no token."""
    ids = "\n".join(request.id for request in requests)
    return (
        requests[0].token
        and f"{requests[0].token}.{hashlib.sha1(ids.encode(), usedforsecurity=False).hexdigest()}"
    )
