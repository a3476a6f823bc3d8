"""Messages with an ETA that lie in a Redis broker already become timers, while workers run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from celery_redis_expiry.blocking import run
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.rescue.broker import WINDOW, Broker
from celery_redis_expiry.rescue.consumers import consumers
from celery_redis_expiry.rescue.found import Found, Looking
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Lying, Outcome

__all__ = ["Broker", "Rescue", "consumers"]

Progress = Callable[[int], None]

#: What the store's answers mean; any other is that another timer has the task id.
STATUSES = {"scheduled": "rescued", "gone": "gone"}


class Rescue:
    """Turns messages of the broker into timers.

    Where the broker's queues are in the timers' own database, one script stores the timers and takes the
    messages. Elsewhere a message is held first, as a consumer holds it, then its timer is stored, then the
    message is acked: at any moment it is in one of them, and while it is held no worker takes it. In both a
    run that was interrupted is finished by the next one.

    Arguments:
        app: the Celery app.
        store: its timers.
        min_delay: seconds; what is due sooner stays where it is.
        dry: only look.
        progress: called with how many messages were looked at since the last call.

    Attributes:
        counts: how many are `rescued`; `known`: their timers waited already, and they are taken away;
            `kept`: another timer with their task id waits, and they stay; `gone`: a worker was faster; and
            those that stay for the reasons that `found.Found` knows.
    """

    def __init__(
        self,
        app: Any,
        store: Store,
        broker: Broker,
        *,
        min_delay: float,
        dry: bool = False,
        progress: Progress = lambda count: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._store = store
        self._broker = broker
        self._looking = Looking(app, broker.leads_to, store.now() + round(min_delay * 1000))
        self._dry = dry
        self._progress = progress
        self._in_place = _in_place(store, broker)
        if self._in_place and not dry:
            store.permit("rescuer")

    def finish(self) -> None:
        """Finish the calls in which an earlier run was interrupted, however near their messages are."""
        for token, rows in self._broker.unfinished().items():
            found = [self._looking.held(self._at(entry, tag=tag)) for tag, entry in rows]
            good = [each for each in found if each.stored]
            if self._dry:
                self.counts["rescued"] += len(good)
            else:
                self._store_held(good, token)

    def queue(self, name: str) -> None:
        """Rescue what lies in a queue.

        Raises:
            StoreUnavailable: a Redis can't be reached or refuses. Run it again.
        """
        for key in self._broker.keys_of(name):
            before: set[bytes] = set()
            for window in self._broker.windows(key):
                found = [
                    self._looking.at(self._at(message, key, window.first, window.last), name)
                    for message in window.messages
                ]
                # what consumers take meanwhile shifts some of the last window into this one: counted once
                self._take(self._fit(found, before))
                before = set(window.messages)
                self._progress(len(window.messages))

    def unacked(self, names: Iterable[str]) -> None:
        """Rescue what consumers held that are gone, of these queues. See `queue`."""
        wanted = set(names)
        for batch in _batches(self._broker.holding()):
            found = [self._looking.held(self._at(entry, tag=tag)) for tag, entry in batch]
            self._take(self._fit([each for each in found if each.sent and each.sent.queue in wanted]))
            self._progress(len(batch))

    def _at(self, message: bytes, key: str = "", first: int = -1, last: int = -1, tag: str = "") -> Lying:
        return Lying(
            *(message, key or self._broker.keys_of("")[0], self._broker.unacked, self._broker.unacked_index),
            *(first, last, tag),
        )

    def _fit(self, found: Sequence[Found], counted: Collection[bytes] = ()) -> list[Found]:
        stay = (each for each in found if each.verdict != "fit" and each.lying.message not in counted)
        self.counts.update(each.verdict for each in stay)
        return [each for each in found if each.verdict == "fit"]

    def _take(self, found: Sequence[Found]) -> None:
        """Make timers of messages."""
        first = {each.id: each for each in reversed(found)}
        twice = [each for each in found if first[each.id] is not each]
        waiting = set(self._store.waiting_of(list(first)))
        known = [each for id, each in first.items() if id in waiting] + twice
        new = [each for id, each in first.items() if id not in waiting]
        if self._dry:
            self.counts.update(rescued=len(new), known=len(known))
        elif self._in_place:
            self._take_in_place(new)
        elif new:
            token = new_token()
            held = self._broker.hold(new, token)
            self.counts["gone"] += len(new) - len(held)
            self._store_held(held, token)
        for each in known if not self._dry else ():
            mine = self._is_known(each)
            self.counts["known" if mine and self._broker.forget([each]) else "gone" if mine else "kept"] += 1

    def _take_in_place(self, found: Sequence[Found]) -> None:
        def count(positions: list[int], outcomes: list[Outcome]) -> None:
            self.counts.update(STATUSES.get(outcome.status, "kept") for outcome in outcomes)

        if found:
            run(self._store.calls.schedule([each.request(lying=each.lying) for each in found], count))

    def _store_held(self, found: Sequence[Found], token: str) -> None:
        """Store the timers of messages that we hold, and ack those.

        Arguments:
            token: of the call that holds them. Who stores them once more with it gets the first answer,
                though they may have fired meanwhile.
        """
        requests = [each.request(token=token) for each in found]

        def ack(positions: list[int], outcomes: list[Outcome]) -> None:
            done = []
            for i, outcome in zip(positions, outcomes, strict=True):
                verdict = STATUSES.get(outcome.status, "kept")
                if verdict == "kept" and self._is_known(found[i]):
                    verdict = "known"
                # what is kept stays held, until kombu gives it back
                if verdict != "kept":
                    done.append(found[i].lying.tag)
                self.counts[verdict] += 1
            self._broker.ack(done)
            run(self._store.calls.forget_answer([requests[i] for i in positions]))

        if requests:
            run(self._store.calls.schedule(requests, ack))

    def _is_known(self, found: Found) -> bool:
        """Whether the message's own timer waits already: kombu gave it back, or delivered it twice."""
        timer = self._store.get(found.id, by_name=False)
        return timer is not None and found.is_of(timer)


def _in_place(store: Store, broker: Broker) -> bool:
    """Whether one script may touch the timers and the queues."""
    timers, queues = store.location, broker.location
    if timers.cluster or timers.database != queues.database:
        return False
    if timers.door() == queues.door() and not timers.sentinels:
        return True
    try:
        return broker.run_id() == store.run_id()
    except StoreUnavailable:
        return False  # what may not be asked is taken to be elsewhere: that is right for both


def _batches(rows: Iterable[tuple[str, bytes]]) -> Iterable[list[tuple[str, bytes]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) >= WINDOW:
            yield batch
            batch = []
    if batch:
        yield batch
