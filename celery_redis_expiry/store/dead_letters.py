"""The dead letters: timers that can't be published, kept with their reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from kombu.utils.json import loads

from celery_redis_expiry.content import told
from celery_redis_expiry.errors import TimerExists
from celery_redis_expiry.keys import handle, label_of, member_of, new_token, place, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.store.beat import OWNER
from celery_redis_expiry.timer import DeadLetter, Stored, Undecodable, as_datetime, as_ms, shown


class DeadLetters(ShardBase):
    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """The dead letters, newest first."""
        with self._translated():
            rows = self._client.zrevrange(self.keys.dead, offset, offset + limit - 1, withscores=True)
            names = [name for name, _ in rows]
            reasons = self._client.hmget(self.keys.reasons, names) if rows else []
            records = self._client.hmget(self.keys.timers, names) if rows else []
            members = self._members(names)
            decoded = self._decoded(
                (member, record or b"") for member, record in zip(members, records, strict=True)
            )
        return [
            self._letter(member, buried, reason, stored)
            for member, (_, buried), reason, stored in zip(members, rows, reasons, decoded, strict=True)
        ]

    def all_dead_letters(self, page: int) -> Iterator[DeadLetter]:
        """The same, page by page while they are taken."""
        for start in count(0, page):
            letters = self.dead_letters(page, start)
            yield from letters
            if len(letters) < page:
                return

    def _letter(
        self, member: str, buried: float, reason: bytes | None, stored: Stored | Undecodable | None = None
    ) -> DeadLetter:
        label = shown(label_of(member) or member)
        why, origin = _told(reason)
        id, task = (stored.id, told(stored.content).task) if isinstance(stored, Stored) else (label, "?")
        return DeadLetter(member, label, as_datetime(as_ms(buried)), why, origin, self.number, id, task)

    def trim(self, most: int, age: float, limit: int = 100) -> list[DeadLetter]:
        """Forget the oldest dead letters where there are too many, or they are too old.

        Arguments:
            most: how many to keep.
            age: seconds after which they are forgotten.
            limit: how many at most in one call.

        Returns:
            What was forgotten.
        """
        k = self.keys
        with self._translated():
            flat = self._scripts.trim(keys=[k.timers, k.dead, k.reasons], args=[most, int(age * 1000), limit])
        return [
            self._letter(member_of(flat[i]), float(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3)
        ]

    def retry(self, letter: DeadLetter, remember: Callable[[str], None] = lambda name: None) -> bool:
        """Make a dead letter a timer again, due at once; False if there is none.

        Arguments:
            remember: is told the name first where sync-beat keeps the timer, which may have forgotten it.

        Raises:
            TimerExists: it recurs, and another timer waits under its name.
        """
        k = self.keys
        label = label_of(letter.member)
        with self._translated():
            record = self._client.hget(k.timers, place(letter.member)) or b""
            [stored] = self._decoded([(letter.member, record)])
            id = stored.id if isinstance(stored, Stored) else label
            name = label if label != id else ""
            if isinstance(stored, Stored) and stored.recurring and stored.recurring.plan.owner == OWNER:
                remember(label)
            answer = self._scripts.retry(
                keys=[k.due, k.timers, k.names, k.ids, k.parked, k.dead, k.reasons, k.answer(new_token())],
                args=[k.wake, REMEMBER_MS, handle(letter.member), name, id],
            )
        if answer == -1:
            raise TimerExists(
                f"another timer waits under the name {shown(label)}, and both would recur: cancel that one, "
                "or discard this dead letter"
            )
        return bool(answer)

    def discard(self, letter: DeadLetter) -> bool:
        """Forget a dead letter for good; False if there is none."""
        k = self.keys
        with self._translated():
            return bool(
                self._scripts.discard(
                    keys=[k.timers, k.dead, k.reasons, k.answer(new_token())],
                    args=[REMEMBER_MS, handle(letter.member)],
                )
            )


def _told(reason: bytes | None) -> tuple[str, str]:
    """Why a dead letter was buried, and by which worker, as far as that can be read."""
    if reason is None:
        return "?", ""
    try:
        told = loads(reason.decode())
        return shown(str(told["reason"])), shown(str(told.get("origin", "")))
    except Exception:
        return shown(text(reason)), ""
