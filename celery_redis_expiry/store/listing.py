"""The timers of a shard in order, page by page: any number of them, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import label_of, place
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import Timer, as_ms

#: Which index holds the timers of a state.
INDEXES = {"waiting": "due", "parked": "parked", "claimed": "claimed", "dead": "dead"}

Row = tuple[str, float]


class Place(NamedTuple):
    """Where a timer lies in the order of a listing: of those with the same score, by shard and generation.

    Attributes:
        score: in its index, ms.
    """

    score: int
    shard: int
    generation: str


class Listing(ShardBase):
    def listed(
        self, state: str, selection: Selection, after: Place | None, page: int
    ) -> Iterator[tuple[Place, Timer]]:
        """The timers in a state that may be meant, in the order of their index, with their places.

        Arguments:
            selection: its labels and range are looked at here; for the rest a timer must be known.
            after: the place that they lie behind.
            page: how many are read in one round trip.
        """
        for rows in self.pages(state, selection, page, after):
            chosen = [
                row
                for row in rows
                if selection.takes_label(label_of(row[0])) and (after is None or self._place(row) > after)
            ]
            if chosen:
                yield from self.timers_of(chosen, state)

    def pages(
        self, state: str, selection: Selection, page: int, after: Place | None = None
    ) -> Generator[list[Row], int | None, None]:
        """Members with their scores, page by page. Who takes some of a page away sends how many of its end.

        Pages go by score, not by rank: what fires meanwhile would shift the ranks of all that follow. Of
        those that share the score a page ends with, the last read are read again: as many may go meanwhile
        without another being passed over.
        """
        index = getattr(self.keys, INDEXES[state])
        start: str | float = "-inf"
        end: str | int = "+inf"
        if state == "waiting" and selection.ranged:
            start, end = selection.low, selection.high
        if after is not None:
            start = max(after.score, selection.low if state == "waiting" else 0)
        seen = 0  # how many were read of the score that the next page starts with
        recent: list[bytes] = []  # the last of these
        while True:
            again = len(recent)
            with self._translated():
                rows = self._client.zrangebyscore(
                    index, start, end, start=max(0, seen - again), num=page + again, withscores=True
                )
            fresh = [(member, score) for member, score in rows if member not in recent]
            if fresh:
                taken = yield self.rows(fresh)
                last = fresh[-1][1]
                ties = [member for member, score in fresh if score == last]
                seen, recent = (seen, recent) if last == start else (0, [])
                seen, recent, start = seen + len(ties) - (taken or 0), [*recent, *ties][-page:], last
            if len(rows) < page + again:
                return

    def rows(self, raw: Sequence[tuple[bytes, float]]) -> list[Row]:
        """The rows of an index, as Redis has them, with the members that stand there."""
        with self._translated():
            members = self._members([place for place, _ in raw])
        return [(member, score) for member, (_, score) in zip(members, raw, strict=True)]

    def chosen(self, state: str, rows: Sequence[Row], selection: Selection) -> list[str]:
        """Those of a page's members that are meant."""
        rows = [row for row in rows if selection.takes_label(label_of(row[0]))]
        if selection.by_label or not rows:
            return [member for member, _ in rows]
        trigger = len(self.keys.trigger(""))
        return [
            timer.trigger_key[trigger:] for _, timer in self.timers_of(rows, state) if selection.takes(timer)
        ]

    def _place(self, row: Row) -> Place:
        at = place(row[0])
        # in the order of Redis: compact ones come before the others
        generation = f"!{at.hex()}" if isinstance(at, bytes) else at.partition(":")[0]
        return Place(as_ms(row[1]), self.number, generation)

    def timers_of(self, rows: Sequence[Row], state: str) -> Iterator[tuple[Place, Timer]]:
        """What is known of these members of an index, with their places."""
        k = self.keys
        members = [member for member, _ in rows]
        places = [place(member) for member in members]
        asked: list[tuple[Any, ...]] = [("TIME",), ("HMGET", k.timers, *places)]
        if state == "claimed":
            asked.append(("HMGET", k.claims, *places))
        else:
            asked += [("PTTL", k.trigger(member)) for member in members]
        with self._translated():
            # without a script, which would hold Redis up for a page of large messages
            (seconds, micros), records, *told = run(self.link.pipeline(asked, at=k.namespace))
            decoded = self._decoded(
                (member, record or b"") for member, record in zip(members, records, strict=True)
            )
        now = int(seconds) * 1000 + int(micros) // 1000
        known = told[0] if state == "claimed" else told
        for row, record, stored, each in zip(rows, records, decoded, known, strict=True):
            # one that fired or was cancelled since its page was read has no message any more
            if record is None:
                continue
            member, score = row
            if state == "claimed":
                due, ttl, now_state = _first_due(each, score), -2, state
            else:
                # somebody may have taken the TTL away, or given one, since the index was told
                due, ttl, now_state = score, int(each), "parked" if each == -1 else "waiting"
            yield self._place(row), self._timer(member, now_state, as_ms(due), ttl, now, stored)


def _first_due(claim: bytes | None, lease_end: float) -> float:
    due = (claim or b"").split(b":")[1:2]
    return float(due[0]) if due and due[0].isdigit() else lease_end
