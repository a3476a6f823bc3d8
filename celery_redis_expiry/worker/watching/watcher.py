"""The watcher of one pattern: hears what happens to its keys, and tells of it, while it leads.

The stream of events is the truth while it is heard. The ledger is what is known when it was not: after each
gap it is compared with the keys themselves, and then SCAN finds those that it does not know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.watching.asking import Asking
from celery_redis_expiry.worker.watching.digest import BLUR, Digest
from celery_redis_expiry.worker.watching.ledger import Ledger
from celery_redis_expiry.worker.watching.snapshots import Snapshots
from celery_redis_expiry.worker.watching.source import Source
from celery_redis_expiry.worker.watching.stream import Stream
from celery_redis_expiry.worker.watching.watch import Watch

logger = logging.getLogger(__name__)

#: Seconds of a wait at most, and so for a stop.
PATIENCE = 0.5
#: Seconds between two looks at what nothing tells of: the servers' flags, and, where no events arrive, the
#: keys themselves; and between two at a Cluster's primaries.
LOOK_AGAIN = 60.0
TOPOLOGY = 10.0


class Watcher(Loop):
    """One pass: keep leading; read what happened and act on it; ask for keys that are due.

    Arguments:
        store: the timers' Redis.
        configure: whether the server may be configured (`expiry_configure_notifications`).
        limit: how many keys the ledger may hold (`expiry_watch_limit`).
    """

    name = "watcher"

    def __init__(self, app: Any, store: Store, watch: Watch, *, configure: bool, limit: int) -> None:
        super().__init__()
        self._watch = watch
        self._shown = "of watch=" if watch.pattern is None else watch.pattern.decode(errors="replace")
        self._configure = configure
        self._source = self._new_source()
        self._ledger = Ledger(store.shards[0], watch, limit)
        self._snapshots = Snapshots(self._source, self._ledger) if watch.with_value else None
        own = f"{store.location.prefix}{{expiry.".encode()
        self._digest = self._new_digest(app, own)
        self._asking = Asking(self._source, self._ledger, self._digest, self._snapshots)
        self._primaries: list[Primary] = []
        self._stream: Stream | None = None
        self._deaf = False
        self._looked = 0.0

    def _new_source(self) -> Source:
        return Source(self._watch.location)

    def _new_digest(self, app: Any, own: bytes) -> Digest:
        return Digest(app, self._watch, self._source, self._ledger, self._snapshots, own)

    def _every_key(self) -> Iterator[list[bytes]]:
        """The keys that are there, page by page."""
        return self._source.matching(self._watch.pattern or b"*")

    def one_pass(self) -> None:
        try:
            standing = self._ledger.keep()
            if standing == "other":
                self._leave()
                self.stopping.wait(min(PATIENCE, self._ledger.renew_in()))
                return
            if standing == "taken":
                # somebody may have led meanwhile
                self._leave()
            self._listen(self._stream or self._enter())
        except BaseException:
            self._leave()
            self._ledger.doubt()
            raise

    def interrupt(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.interrupt()

    def close(self) -> None:
        self._leave()
        self._ledger.cease()

    def _enter(self) -> Stream:
        """Listen first: what happens while the rest is looked at must be heard."""
        self._primaries = self._source.primaries()
        # known at once, so that it is closed whatever fails from here on
        stream = self._stream = Stream(self._primaries, self._watch.pattern, self._watch.location.database)
        self._digest.heard = self._deaf = False
        missing, obstacle = self._source.flags(self._watch.flags, configure=self._configure)
        if obstacle:
            self._deafen(missing, obstacle)
        self._catch_up(stream)
        return stream

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _catch_up(self, stream: Stream) -> None:
        """From now on events tell of everything; what happened before is found out by and by."""
        self._looked = time.monotonic()
        self._ledger.agenda()
        self._ledger.wake_at(self._looked)
        self._digest.since = self._ledger.now()
        self._asking.begin(self._every_key())
        if self._snapshots is not None:
            self._snapshots.begin()

    def _listen(self, stream: Stream) -> None:
        heard = stream.read(self._patience())
        self._asking.told(self._digest.digest(heard))
        gone = self._asking.concluded(stream)
        if gone:
            self._digest.conclude(gone, self._expired_before())
        if self._asking.waits:
            return
        if self._asking.go_on(stream):
            logger.info(
                "expiry: listening for keys %s in %s: %d are known to expire",
                self._shown,
                self._watch.location.url,
                self._ledger.size,
                extra=log_fields("watch_listening", count=self._ledger.size),
            )
        self._look_after(stream)

    def _patience(self) -> float:
        if self._asking.waits:
            return PATIENCE
        if self._asking.catching_up:
            return 0.0
        wake = self._ledger.wake if self._snapshots is None else min(self._ledger.wake, self._snapshots.wake)
        return max(0.0, min(PATIENCE, wake - time.monotonic(), self._ledger.renew_in()))

    def _expired_before(self) -> int:
        """What went without an event has expired if it was due before then, as far as anybody can know."""
        if not self._asking.catching_up:
            # nothing tells of FLUSHDB; nor of anything where flags were taken away
            self._check_flags()
        if self._deaf:
            return self._ledger.now()
        return self._digest.since + BLUR if self._asking.catching_up else 0

    # -- what others may have changed

    def _look_after(self, stream: Stream) -> None:
        cluster = bool(self._watch.location.cluster)
        if time.monotonic() - self._looked < (TOPOLOGY if cluster else LOOK_AGAIN):
            return
        self._looked = time.monotonic()
        if cluster and self._source.primaries() != self._primaries:
            raise StoreUnavailable(f"{self._watch.location.url} has other primaries by now")
        was_deaf = self._deaf
        self._check_flags()
        if was_deaf or self._deaf:
            self._catch_up(stream)

    def _check_flags(self) -> None:
        """Whether events have not arrived until now, as far as that can be known."""
        missing, obstacle = self._source.flags(self._watch.flags, configure=self._configure)
        if missing or (obstacle and not self._digest.heard):
            self._deafen(missing, obstacle)
        else:
            self._deaf = False

    def _deafen(self, missing: str, obstacle: str) -> None:
        if not self._deaf:
            logger.warning(
                "expiry: keyspace events of keys %s %s. What expires is found out by the clock meanwhile, "
                "and not what is there again by then. Remedy: add notify-keyspace-events "
                '"%s" to what is set, in redis.conf or at the provider',
                self._shown,
                f"lacked the flags {missing!r}: {obstacle or 'they were added'}"
                if missing
                else f"may not arrive: {obstacle}",
                self._watch.flags,
                extra=log_fields("watch_deaf"),
            )
            self._looked = 0.0
        self._deaf = True
