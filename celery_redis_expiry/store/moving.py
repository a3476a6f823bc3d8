"""What resharding does to a shard: what lies there, out and in."""

from __future__ import annotations

from celery_redis_expiry.keys import label_of, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase


class Moving(ShardBase):
    def claimed(self) -> int:
        """How many timers are claimed."""
        with self._translated():
            return int(self._client.zcard(self.keys.claimed))

    def page(self, home: str, offset: int, count: int) -> list[str]:
        """Members of `due`, `parked` or `dead`, by their order there."""
        with self._translated():
            rows = self._client.zrange(getattr(self.keys, home), offset, offset + count - 1)
        return [text(row) for row in rows]

    def put(self, source: Moving, member: str, id: str, home: str, record: bytes) -> None:
        """Put a timer or dead letter of another shard here, as it lies there."""
        k, label = source.keys, label_of(member)
        with self._translated():
            # one script: its clock and the TTL are of the same moment
            now, _, _, pttl, _ = self._scripts.inspect(
                keys=[k.due, k.timers, k.parked, k.claimed, k.claims, k.trigger(member)], args=[member]
            )
            pipe = self._client.pipeline(transaction=False)
            pipe.zscore(getattr(k, home), member)
            pipe.hget(k.names, label)
            pipe.hget(k.ids, id)
            pipe.hget(k.claims, member)
            pipe.hget(k.reasons, member)
            score, named, known, claim, reason = pipe.execute()
            if score is None:
                return
            expiry = {-2: "", -1: "-"}.get(int(pttl), int(now) + int(pttl))
            this = member.encode()
            self._scripts.put(
                keys=self._all_keys(member),
                args=[
                    *(member, label, id, home, f"{score:.0f}", expiry),
                    *(int(named == this), int(known == this)),
                    *(record, claim or b"", reason or b""),
                ],
            )

    def drop(self, member: str, id: str) -> bool:
        """Forget a timer or dead letter that was put into another shard; False if it was gone already."""
        with self._translated():
            return bool(
                self._scripts.drop(
                    keys=[*self._all_keys(member), self.keys.answer(new_token())],
                    args=[REMEMBER_MS, member, label_of(member), id],
                )
            )

    def record(self, member: str) -> bytes:
        """The stored record of a member."""
        with self._translated():
            return self._client.hget(self.keys.timers, member) or b""

    def _all_keys(self, member: str) -> list[str]:
        k = self.keys
        return [k.due, k.timers, k.names, k.ids, k.parked, k.claims, k.dead, k.reasons, k.trigger(member)]
