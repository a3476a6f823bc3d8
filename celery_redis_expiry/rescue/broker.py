"""A Redis broker as kombu lays it out: queues are lists, and what consumers hold lies in a hash.

Producers push at the left, consumers take from the right. A queue has a list for each step of priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kombu.transport.redis import Channel
from kombu.transport.virtual.exchange import STANDARD_EXCHANGE_TYPES
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from celery_redis_expiry.connections import broker_location
from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.rescue.found import Found
from celery_redis_expiry.store import Link

#: How many messages are looked at in one round trip: few enough for one script to take them all.
WINDOW = 50
#: How many places further on they are looked for when it comes to taking them: consumers took others.
REACH = 200
#: Stands before the delivery tag of a message that we hold, so that a further run finds it.
OURS = "expiry-rescue:"


class Window(NamedTuple):
    """Messages that lie beside each other in a queue; `first` and `last` as in `timer.Lying`."""

    key: str
    messages: list[bytes]
    first: int
    last: int


class Broker:
    """The Redis broker of an app.

    Arguments:
        app: the Celery app.

    Raises:
        NotConfigured: its broker is no Redis, or a Cluster.
    """

    def __init__(self, app: Any) -> None:
        location = broker_location(app)
        if location is None or location.cluster:
            what = "a Redis Cluster" if location else "no Redis"
            raise NotConfigured(
                f"the broker of the app {app.main!r} is {what}: messages can be rescued from the queues of a "
                "Redis broker only. Elsewhere let the workers run what they hold; what is sent from now on "
                "can be a timer at once"
            )
        self.link = Link(location)
        self.location = location
        self._app = app
        self._options: dict[str, Any] = app.conf.broker_transport_options or {}
        self.unacked = location.prefix + self._option("unacked_key")
        self.unacked_index = location.prefix + self._option("unacked_index_key")

    def _option(self, name: str) -> Any:
        """What kombu's channel takes from the transport options, or its default."""
        value = self._options.get(name)
        return getattr(Channel, name) if value is None else value

    def keys_of(self, queue: str) -> list[str]:
        """The lists of a queue, one for each step of priority."""
        bare = self.location.prefix + queue
        return [
            f"{bare}{self._option('sep')}{step}" if step else bare for step in self._option("priority_steps")
        ]

    def size(self, keys: Sequence[str]) -> int:
        """How many messages lie in these lists."""
        with self.link.translated():
            pipe = self.link.client.pipeline(transaction=False)
            for key in keys:
                pipe.llen(key)
            return int(sum(pipe.execute()))

    def windows(self, key: str) -> Iterator[Window]:
        """All messages of a list, from the newest on.

        Places are counted from the consumers' end. Nothing is passed over then, whoever pushes; what
        consumers take shifts the others towards that end, and so into a later window.
        """
        with self.link.translated():
            first = -int(self.link.client.llen(key))
        while first < 0:
            last = min(-1, first + WINDOW - 1)
            with self.link.translated():
                messages = self.link.client.lrange(key, first, last)
            yield Window(key, messages, first, min(-1, last + REACH))
            first = last + 1

    def holding(self) -> Iterator[tuple[str, bytes]]:
        """What consumers hold, all but ourselves: delivery tags and entries."""
        return (row for row in self._scan(None) if not row[0].startswith(OURS))

    def unfinished(self) -> dict[str, list[tuple[str, bytes]]]:
        """What an earlier run held when it was interrupted: by the token of its call, in order."""
        calls: dict[str, list[tuple[str, bytes]]] = {}
        for tag, entry in sorted(set(self._scan(OURS + "*"))):
            calls.setdefault(tag[len(OURS) :].rpartition(":")[0], []).append((tag, entry))
        return calls

    def _scan(self, pattern: str | None) -> Iterator[tuple[str, bytes]]:
        with self.link.translated():
            for tag, entry in self.link.client.hscan_iter(self.unacked, pattern, WINDOW):
                yield tag.decode(errors="surrogateescape"), entry

    def held(self) -> int:
        """How many messages are unacknowledged."""
        with self.link.translated():
            return int(self.link.client.hlen(self.unacked))

    def hold(self, found: Sequence[Found], token: str) -> list[Found]:
        """Take messages as a consumer does: unacknowledged, so that nobody else takes them.

        If we are killed, kombu gives them back after its visibility timeout.

        Arguments:
            found: of one window of a queue, or of what other consumers held.
            token: of this call.

        Returns:
            Those that we hold now. The others were not there any more.
        """
        tagged = [
            replace(each, lying=replace(each.lying, tag=f"{OURS}{token}:{i:04}"))
            for i, each in enumerate(found)
        ]
        rows = [(ours.lying.tag, _entry(each)) for ours, each in zip(tagged, found, strict=True)]
        there = self._take(found, rows)
        return [each for each, was in zip(tagged, there, strict=True) if was]

    def forget(self, found: Sequence[Found]) -> int:
        """Take messages away for good; returns how many were there."""
        return sum(self._take(found, [("", b"")] * len(found)))

    def _take(self, found: Sequence[Found], rows: Sequence[tuple[str, bytes | str]]) -> list[int]:
        if not found:
            return []
        one = found[0].lying
        args: list[Any] = [one.first, one.last, new_token()]
        for each, (tag, entry) in zip(found, rows, strict=True):
            args += [each.lying.message, each.lying.tag, tag, entry]
        with self.link.translated():
            there: list[int] = self.link.scripts.hold(
                keys=[one.queue, self.unacked, self.unacked_index], args=args
            )
        return there

    def ack(self, tags: Sequence[str]) -> None:
        """Forget what was held, as kombu does."""
        if not tags:
            return
        with self.link.translated():
            pipe = self.link.client.pipeline(transaction=True)
            pipe.zrem(self.unacked_index, *tags)
            pipe.hdel(self.unacked, *tags)
            pipe.execute()

    def run_id(self) -> str:
        """Which server it is."""
        with self.link.translated():
            return str(self.link.client.info("server")["run_id"])

    def leads_to(self, exchange: str, routing_key: str, kind: str) -> set[str]:
        """The queues that an exchange of this type brings a message to, by the bindings in the broker."""
        table = self.location.prefix + Channel.keyprefix_queue % exchange
        with self.link.translated():
            rows = self.link.client.smembers(table)
        bindings = [tuple(row.decode().split(self._option("sep"))) for row in rows]
        found = STANDARD_EXCHANGE_TYPES[kind](None).lookup(bindings, exchange, routing_key, None)
        return {str(queue) for queue in found}


def _entry(found: Found) -> bytes | str:
    """What kombu keeps of an unacknowledged message: itself, exchange and routing key."""
    if found.lying.tag:
        return found.lying.message
    assert found.sent is not None
    entry: str = dumps(
        [loads(bytes_to_str(found.lying.message)), found.sent.exchange, found.sent.routing_key]
    )
    return entry
