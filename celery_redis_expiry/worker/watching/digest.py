"""What the events of watched keys mean for the ledger, and for those who are to be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery_redis_expiry.store import Note
from celery_redis_expiry.worker.watching.deliveries import Gone, deliveries
from celery_redis_expiry.worker.watching.ledger import Ledger
from celery_redis_expiry.worker.watching.reader import Heard
from celery_redis_expiry.worker.watching.snapshots import Snapshots
from celery_redis_expiry.worker.watching.source import Source
from celery_redis_expiry.worker.watching.watch import Watch

#: What takes a key away, as it is told to handlers. Whatever else happens may have changed its TTL.
GONE = {
    "expired": "expired",
    "evicted": "evicted",
    "del": "deleted",
    "rename_from": "deleted",
    "move_from": "deleted",
}
#: What changes the TTL of a key, and not its value.
SAME_VALUE = frozenset({"expire", "persist"})
#: How far a due time in the ledger may be off, ms.
BLUR = 20


class Digest:
    """The stream's order is the truth: a key that expired is told of, whatever became of it since.

    Arguments:
        snapshots: None where nobody is to be given values.
        own: how the package's own keys begin: handlers are not told of them.

    Attributes:
        since: when the stream began, ms on Redis's clock: what was due before is told of as missed.
        heard: whether anything was heard since.
    """

    def __init__(
        self,
        app: Any,
        watch: Watch,
        source: Source,
        ledger: Ledger,
        snapshots: Snapshots | None,
        own: bytes,
    ) -> None:
        self.since = 0
        self.heard = False
        self._app = app
        self._watch = watch
        self._source = source
        self._ledger = ledger
        self._snapshots = snapshots
        self._own = own

    def digest(self, heard: Sequence[Heard]) -> list[bytes]:
        """Act on events, in their order; returns the names in the ledger of what they tell of."""
        gone: list[tuple[bytes, str]] = []
        changed: dict[bytes, bool] = {}
        for event in heard:
            if event.key.startswith(self._own):
                continue
            self.heard = True
            if event.kind in GONE:
                gone.append((event.key, GONE[event.kind]))
            else:
                changed[event.key] = changed.get(event.key, False) or event.kind not in SAME_VALUE
        if self._watch.location.cluster:
            gone = self._less_moved(gone)
        self._tell_heard(gone)
        # what was forgotten just now may be there again: it is looked at after that
        self.look(changed)
        return [event.key for event in heard]

    def _less_moved(self, gone: list[tuple[bytes, str]]) -> list[tuple[bytes, str]]:
        """Without those that are deleted here since their slot has moved: they live on at another primary."""
        deleted = list({key for key, event in gone if event == "deleted"})
        ttls = dict(zip(deleted, self._source.ttls(deleted), strict=True)) if deleted else {}
        return [(key, event) for key, event in gone if event != "deleted" or ttls[key] == -2]

    def _tell_heard(self, gone: list[tuple[bytes, str]]) -> None:
        known = self._ledger.known([key for key, event in gone if event in self._watch.events])
        told = []
        for key, event in gone:
            due, value = known.get(key, (None, None))
            if event == "expired":
                # it is gone: a later due time is that of the key that has taken its place since
                due = min(due or self._ledger.now(), self._ledger.now())
            missed = event == "expired" and due is not None and due < self.since - BLUR
            told.append(Gone(key, event, due, value, missed))
        self.tell(told)

    def conclude(self, gone: dict[bytes, int], before: int) -> None:
        """Tell of keys that are gone although no event told of it.

        Arguments:
            gone: each with its due time, ms.
            before: what was due until then has expired, as far as anybody can know; the rest was deleted.
        """
        known = self._ledger.known(list(gone))
        told = []
        for name, due in gone.items():
            event = "expired" if due <= before else "deleted"
            told.append(self._gone(name, event, due, known[name][1]))
        self.tell(told)

    def _gone(self, name: bytes, event: str, due: int, value: bytes | None) -> Gone:
        """What is concluded of a name in the ledger."""
        return Gone(name, event, due, value, missed=True, certain=False)

    def tell(self, gone: Sequence[Gone]) -> None:
        """Store what tells of these keys, and forget them."""
        for delivery in deliveries(self._app, self._watch, gone):
            self._ledger.deliver(delivery)

    def look(self, keys: Mapping[bytes, bool]) -> None:
        """Note when these expire. Of one that is gone its event tells, which is still to come.

        Arguments:
            keys: each with whether its value may have changed.
        """
        asked = [key for key in keys if not key.startswith(self._own)]
        if asked:
            self.note(zip(asked, self._source.ttls(asked), strict=True), keys)

    def note(self, found: Iterable[tuple[bytes, int | None]], changed: Mapping[bytes, bool]) -> None:
        """Note what was found out about keys: the PTTL of each; and its value, if its turn has come."""
        there = [(key, ttl) for key, ttl in found if ttl is not None and ttl != -2]
        values: dict[bytes, bytes] = {}
        if self._snapshots is not None:
            expiring = [(key, ttl) for key, ttl in there if ttl >= 0]
            values = self._snapshots.take([key for key, ttl in expiring if self._snapshots.wants(ttl)])
            for _, ttl in expiring:
                self._snapshots.noted(ttl)
        self._ledger.note(
            [
                Note(key, ttl if ttl >= 0 else None, values.get(key, b"" if changed.get(key) else None))
                for key, ttl in there
            ]
        )
