"""One run: who takes part, on which servers, and the rounds in which they take turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import redis

from benchmarks.client import PeerFailed
from benchmarks.peers import OURS, PEERS, Peer
from benchmarks.site import Site, server, site
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer

#: One line of a table: who, in which case, and what each round measured. Written to JSON as it is.
Row = dict[str, Any]
Figures = Mapping[str, float | None]
#: What leaves one contestant out, and not the whole scenario.
FAILURES = (PeerFailed, AssertionError, OSError, redis.RedisError, amqp.AMQPError)
Measure = Callable[[], Figures]


@dataclass
class Bench:
    """What a run has.

    Attributes:
        quick: small numbers, for a look.
        binary, version: the Redis server that all get.
        rabbitmq_script: RabbitMQ's, None where it is not installed.
        peers: those that take part, by name.
        left_out: the others, and why.
        conf: `expiry_*` settings for this package.
        rounds: how often each measurement is repeated, in turns.
        budget: seconds that one contestant may spend on filling a Redis with jobs that wait.
        waiting: the most jobs that are let wait.
    """

    quick: bool
    binary: Path
    version: str
    rabbitmq_script: Path | None
    peers: dict[str, Peer]
    left_out: dict[str, str] = field(default_factory=dict)
    conf: dict[str, Any] = field(default_factory=dict)
    rounds: int = 3
    budget: float = 60.0
    waiting: int = 10_000_000
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))
    _stack: ExitStack = field(default_factory=ExitStack)
    _rabbitmq: RabbitMQServer | None = None

    def others(self, *names: str) -> list[Peer]:
        """The peers that take part; with names, those of them."""
        return [peer for name, peer in self.peers.items() if not names or name in names]

    @contextmanager
    def server(self, dump: Path | None = None, **options: str) -> Iterator[RedisServer]:
        with server(self.binary, self.version, dump, **options) as store:
            yield store

    def rabbitmq(self) -> str:
        """URL of a RabbitMQ node, started at first use, for the whole run."""
        if self._rabbitmq is None:
            if self.rabbitmq_script is None:
                raise PeerFailed("RabbitMQ is not installed here")
            self._rabbitmq = RabbitMQServer(self.rabbitmq_script)
            self._stack.callback(self._rabbitmq.remove)
            self._rabbitmq.start()
        return self._rabbitmq.url()

    @contextmanager
    def site(self, peer: Peer, dump: Path | None = None, *, broker: str | None = None) -> Iterator[Site]:
        """A contestant on servers of its own."""
        if broker is None and peer.scheme == "amqp":
            broker = self.rabbitmq()
        with (
            self.server(dump, **peer.redis_options) as store,
            self.site_on(store, peer, broker=broker) as stage,
        ):
            yield stage

    @contextmanager
    def site_on(
        self, store: RedisServer, peer: Peer, *, broker: str | None = None, **conf: Any
    ) -> Iterator[Site]:
        """A contestant on a server that is up, with further settings."""
        with site(peer, store, broker=broker, conf={**self.conf_of(peer), **conf}) as stage:
            yield stage

    def conf_of(self, peer: Peer) -> dict[str, Any]:
        return self.conf if peer is OURS else {}

    def row(self, who: str, title: str, case: str, kind: str = "peer", **more: Any) -> Row:
        """An empty row. Its kind is `ours`, `peer` or `limit`."""
        return {
            **{"who": who, "title": title, "case": case, "kind": kind},
            **{"run": self.started, "rounds": [], "note": "", **more},
        }

    def take_turns(self, contestants: Sequence[tuple[Row, Measure]], rounds: int | None = None) -> list[Row]:
        """Everybody measures once, then everybody again: what disturbs the machine disturbs all of them.

        Who fails is left out from then on; the row says why.
        """
        for number in range(rounds or self.rounds):
            for row, measure in contestants:
                if row["note"]:
                    continue
                say(f"  {row['case']} · {row['title']} ({number + 1})")
                try:
                    row["rounds"].append(dict(measure()))
                except FAILURES as exc:
                    row["note"] = " ".join(str(exc).split())[:200] or type(exc).__name__
                    say(f"    left out: {row['note']}")
        return [row for row, _ in contestants]

    def close(self) -> None:
        self._stack.close()


def choose(names: Sequence[str]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Of the peers with these names (of all without any) those that can take part; and why others can't."""
    unknown = set(names) - set(PEERS)
    if unknown:
        raise LookupError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    chosen = {name: peer for name, peer in PEERS.items() if not names or name in names}
    left_out = {name: why for name, peer in chosen.items() if (why := peer.why_not())}
    return {name: peer for name, peer in chosen.items() if name not in left_out}, left_out


def say(text: str) -> None:
    """Progress, for who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
