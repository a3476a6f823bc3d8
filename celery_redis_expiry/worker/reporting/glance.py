"""A glance at the timers in Redis that never keeps its asker waiting, whatever Redis does."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from celery_redis_expiry.errors import ExpiryError, StoreUnavailable
from celery_redis_expiry.store import Store


@dataclass(frozen=True)
class Seen:
    """What all workers of the namespace share.

    Attributes:
        waiting, parked, claimed, dead: how many there are; those that are due wait, too.
        due: how many are due now and not claimed yet.
        oldest: for how many seconds the oldest of these is due; 0 where there are none.
    """

    waiting: int
    parked: int
    claimed: int
    dead: int
    due: int
    oldest: float


class Glance:
    """Asks in a thread that lives for one question: an idle worker has none.

    A socket's timeout bounds one attempt at one server. A name that does not resolve, several sentinels, a
    Cluster's nodes one after the other take longer.

    Arguments:
        store: one whose attempts end soon; others may use it, too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def look(self, patience: float) -> Seen:
        """Look now; who asks meanwhile gets the same answer.

        Arguments:
            patience: seconds for which the answer is waited for.

        Raises:
            StoreUnavailable: there is none; says why.
        """
        with self._lock:
            question = self._question
            if question is None or not question.is_alive():
                question = self._question = _Question(self._store)
                question.start()
        question.join(patience)
        if question.seen is not None:
            return question.seen
        raise StoreUnavailable(
            question.obstacle
            or f"{self._store.location.url} did not answer within {patience:g} s: is it there, or overloaded?"
        )


class _Question(threading.Thread):
    def __init__(self, store: Store) -> None:
        super().__init__(name="expiry-glance", daemon=True)
        self.seen: Seen | None = None
        self.obstacle = ""
        self._store = store

    def run(self) -> None:
        try:
            due, oldest = self._store.overdue(0)
            self.seen = Seen(**self._store.counts(), due=due, oldest=oldest)
        except ExpiryError as exc:
            self.obstacle = str(exc)
        except Exception as exc:
            self.obstacle = f"{self._store.location.url}: {exc!r}"
