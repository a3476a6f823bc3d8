"""The dead letters: timers that can't be published, kept with their reason."""

from __future__ import annotations

from kombu.utils.json import loads

from celery_redis_expiry.keys import label_of, new_token
from celery_redis_expiry.store.base import REMEMBER_MS, StoreBase
from celery_redis_expiry.timer import DeadLetter, Stored, Undecodable, as_datetime


class DeadLetters(StoreBase):
    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """The dead letters, newest first."""
        with self._translated():
            rows = self._client.zrevrange(self.keys.dead, offset, offset + limit - 1, withscores=True)
            reasons = self._client.hmget(self.keys.reasons, [name for name, _ in rows]) if rows else []
        letters = []
        for (name, buried), reason in zip(rows, reasons, strict=True):
            text = loads(reason.decode())["reason"] if reason else "?"
            letters.append(DeadLetter(name.decode(), label_of(name.decode()), as_datetime(int(buried)), text))
        return letters

    def retry(self, letter: DeadLetter) -> bool:
        """Make a dead letter a timer again, due at once; False if there is none."""
        k = self.keys
        with self._translated():
            record = self._client.hget(k.timers, letter.member) or b""
            try:
                id = Stored.decode(record).id
            except Undecodable:
                id = letter.label
            name = letter.label if letter.label != id else ""
            return bool(
                self._scripts.retry(
                    keys=[k.due, k.names, k.ids, k.dead, k.reasons, k.answer(new_token())],
                    args=[k.wake, REMEMBER_MS, letter.member, name, id],
                )
            )

    def discard(self, letter: DeadLetter) -> bool:
        """Forget a dead letter for good; False if there is none."""
        k = self.keys
        with self._translated():
            return bool(
                self._scripts.discard(
                    keys=[k.timers, k.dead, k.reasons, k.answer(new_token())],
                    args=[REMEMBER_MS, letter.member],
                )
            )
