"""The server, or Cluster, in which the watched keys are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Location, Primary
from celery_redis_expiry.store import Link
from celery_redis_expiry.worker.flags import add_flags
from celery_redis_expiry.worker.watching.values import snapshots

#: How many keys are looked through by one SCAN.
COUNT = 1000
#: Seconds for one attempt.
TIMEOUT = 2.0


class Source:
    """Used by one thread. Every method raises `StoreUnavailable` when Redis can't be reached or refuses."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._link = Link(location, timeout=TIMEOUT, retries=1)

    @property
    def _client(self) -> Any:
        return self._link.client

    def primaries(self) -> list[Primary]:
        """Who tells of keys, as a Cluster says now."""
        if not self.location.cluster:
            return [Primary(self.location)]
        with self._link.translated():
            self._client.nodes_manager.initialize()
            nodes = self._client.get_primaries()
        return sorted((Primary(self.location, f"{node.host}:{node.port}") for node in nodes), key=_name)

    def flags(self, wanted: str, *, configure: bool) -> tuple[str, str]:
        """Add the flags that are missing: what was missing, and why it is still. See `add_flags`."""
        missing, obstacle = "", ""
        for primary in self.primaries():
            with self._link.translated(), primary.client(timeout=TIMEOUT, retries=1) as client:
                there, why = add_flags(client, wanted, configure=configure)
            missing, obstacle = missing or there, obstacle or why
        return missing, obstacle

    def ttls(self, keys: Sequence[bytes]) -> list[int | None]:
        """The PTTL of each key: -1 for one without, -2 for none; None where its slot is on the move.

        Asking makes Redis delete what has expired, and tell of it.
        """
        with self._link.translated():
            pipe = self._client.pipeline(transaction=False)
            for key in keys:
                pipe.pttl(key)
            answers = pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, redis_errors.NoPermissionError):
                    raise answer
        return [None if isinstance(answer, Exception) else int(answer) for answer in answers]

    def snapshots(self, keys: Sequence[bytes], now: int) -> dict[bytes, bytes]:
        """What is kept of the values of these keys, as far as they can be had. See `values.snapshots`."""
        with self._link.translated():
            return snapshots(self._client, keys, now)

    def matching(self, pattern: bytes) -> Iterator[list[bytes]]:
        """The keys that match; one that is there throughout is among them, perhaps twice.

        One SCAN at a time, though most find none: who asks has a lease to keep and events to read meanwhile.
        """
        with self._link.translated():
            nodes = self._client.get_primaries() if self.location.cluster else [None]
        for node in nodes:
            cursor = None
            while cursor != 0:
                with self._link.translated():
                    cursor, page = self._scan(cursor or 0, pattern, node)
                yield page

    def _scan(self, cursor: int, pattern: bytes, node: Any) -> tuple[int, list[bytes]]:
        if node is None:
            following, page = self._client.scan(cursor, match=pattern, count=COUNT)
            return following, page
        cursors, page = self._client.scan(cursor, match=pattern, count=COUNT, target_nodes=node)
        return cursors[node.name], page


def _name(primary: Primary) -> str:
    return primary.name
