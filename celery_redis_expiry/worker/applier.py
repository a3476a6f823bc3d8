"""The applier: applies canvases, beside the dispatcher.

A canvas is several messages and may write to the result backend, whose absence Celery waits out for many
seconds. Messages that need no backend must not wait with it.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.publishing import Lease, Parcel, Publisher
from celery_redis_expiry.worker.settler import Settler

logger = logging.getLogger(__name__)

#: How many batches wait here at most; what comes beyond goes back to the index.
BATCHES = 4
#: Seconds after which what found no place, or came after a failure, is claimed again.
LATER = 1.0
#: Seconds of a wait for work.
PATIENCE = 1.0


class Applier(Loop):
    """One pass: apply the canvases of a batch that the dispatcher claimed, and ack each."""

    name = "applier"

    def __init__(self, store: Store, publisher: Publisher, settler: Settler) -> None:
        super().__init__()
        self._store = store
        self._publisher = publisher
        self._settler = settler
        self._batches: queue.Queue[tuple[str, Lease, list[Parcel]]] = queue.Queue(BATCHES)

    def take(self, token: str, lease: Lease, parcels: list[Parcel]) -> None:
        """Canvases to be applied; their lease is kept from now on."""
        try:
            self._batches.put_nowait((token, lease, parcels))
        except queue.Full:
            self._store.release(token, [parcel.claim for parcel in parcels], delay=LATER)

    def one_pass(self) -> None:
        self._settler.ack_again()
        try:
            token, lease, parcels = self._batches.get(timeout=PATIENCE)
        except queue.Empty:
            return
        with self._kept(lease):
            self.apply(token, lease, parcels)

    def apply(self, token: str, lease: Lease, parcels: list[Parcel]) -> None:
        """Apply canvases one by one; after a failure the rest is given back: the next would wait as long."""
        for position, parcel in enumerate(parcels):
            if self.stopping.is_set():
                self._store.release(token, [each.claim for each in parcels[position:]])
                return
            self._publisher.apply(parcel, lease)
            self._settler.settle(token, [parcel])
            if parcel.outcome == "failed":
                self._store.release(token, [each.claim for each in parcels[position + 1 :]], delay=LATER)
                return

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[None]:
        """Keep this lease, and those of the batches that wait behind it."""
        with lease.kept(also=lambda: [waiting for _, waiting, _ in list(self._batches.queue)]):
            yield

    def close(self) -> None:
        """Give back what waits still."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                token, _, parcels = self._batches.get_nowait()
            except queue.Empty:
                return
            self._store.release(token, [parcel.claim for parcel in parcels])
