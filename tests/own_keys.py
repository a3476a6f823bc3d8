"""What watches users' own keys, in this process: real Redis, the watchers' threads, no Celery worker.

What is delivered is a timer that is due now; here nobody fires it, so it can be counted and read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from kombu.utils.json import loads

from celery_redis_expiry.store import new_store
from celery_redis_expiry.timer import Stored
from celery_redis_expiry.worker.hearing import Hearing
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.watching import Watching
from tests.site import Site
from tests.waiting import eventually

Event = dict[str, Any]
LISTENING = "listening for keys"


class Watchers:
    """The watchers of one site, to be taken away and brought back: a gap.

    Arguments:
        patterns: of the site's handlers.
    """

    def __init__(self, site: Site, caplog: pytest.LogCaptureFixture, patterns: int = 1) -> None:
        self.site = site
        self._caplog = caplog
        self._patterns = patterns
        self._running: list[tuple[Loop, Loop]] = []
        caplog.set_level(logging.INFO, "celery_redis_expiry")

    def start(self) -> Watchers:
        """Start one more process's worth of them."""
        watching = Watching(self.site.app, new_store(self.site.app))
        hearing = Hearing(new_store(self.site.app), Lanes(), configure=True, follow=False)
        hearing.watch = watching.hear
        for loop in (hearing, watching):
            loop.start()
        self._running.append((watching, hearing))
        return self

    def caught_up(self) -> Watchers:
        """Start, and wait until what happened before is known."""
        before = self.listening()
        self.start()
        eventually(lambda: self.listening() >= before + self._patterns, what=lambda: self._caplog.text)
        return self

    def listening(self) -> int:
        return self._caplog.text.count(LISTENING)

    def stop(self) -> None:
        """They tell nothing any more; what else hears takes its time to end, and is not waited for."""
        while self._running:
            watching, hearing = self._running.pop()
            hearing.stop(0)
            assert watching.stop(10)

    def told(self) -> list[Event]:
        """Every event that a handler's task was given, in order, but those of the sentinels."""
        records = self.site.server.raw_client().hvals(self.site.key("timers"))
        events = [_event(record) for record in records]
        return sorted((each for each in events if "~" not in str(each["key"])), key=lambda each: str(each))

    def settled(self, prefix: str = "session:") -> list[Event]:
        """What was told once everything that happened until now was acted upon."""
        sentinel = f"{prefix}~{self.site.redis.incr('sentinels')}"
        self.site.redis.set(sentinel, "", px=1)
        eventually(
            lambda: any(_event(each)["key"] == sentinel for each in self._records()),
            what=lambda: f"the sentinel {sentinel}\n{self._caplog.text}",
        )
        return self.told()

    def _records(self) -> list[bytes]:
        records: list[bytes] = self.site.server.raw_client().hvals(self.site.key("timers"))
        return records

    def ledger(self) -> dict[bytes, float]:
        """Every key of which a due time is known."""
        client = self.site.server.raw_client()
        names = client.scan_iter(self.site.key("watched:*").replace("{", "?"))
        return {key: due for name in names for key, due in client.zrange(name, 0, -1, withscores=True)}

    def values(self) -> list[str]:
        """The keys of the snapshots; one more that is never there, so that they are not none."""
        found = self.site.redis.scan_iter(self.site.key("values:*").replace("{", "?"), count=1000)
        return [*found, self.site.key("values:")]


def _event(record: bytes) -> Event:
    arguments, *_ = loads(Stored.decode(record).content["body"])
    event: Event = arguments[0]
    return event


MakeWatchers = Callable[..., Watchers]
