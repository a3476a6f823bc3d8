"""One contestant whose jobs wait: its workers, what they hold, their kills, and the ledger of what ran."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from celery import Celery

from benchmarks.client import PeerFailed
from benchmarks.peers import REPOSITORY
from benchmarks.processes import resident
from benchmarks.site import Site
from benchmarks.watch import LedgerWatch, wait
from tests.servers.processes import Process

MIB = 2**20
#: Where kombu keeps what was delivered and is not acknowledged.
UNACKED = "unacked"
#: Seconds without a run after which no more are expected.
QUIET = 4.0
#: Other jobs that are sent while the rest waits.
PROBES = 20

Items = Sequence[tuple[str, int]]


class Holder:
    """A contestant on its site; broker and store are one Redis."""

    def __init__(self, stage: Site) -> None:
        self.stage = stage
        self._workers: dict[str, Process] = {}
        self._seen = LedgerWatch(stage.place)
        self._ends = ExitStack()

    def start(self) -> float:
        """Its workers; answers the seconds until they had run a job that was sent after all that waits."""
        began = time.monotonic()
        processes = self._ends.enter_context(self.stage.working())
        self._workers = dict(zip(self.stage.peer.roles, processes, strict=True))
        return time.monotonic() - began

    def start_second(self) -> None:
        """One more worker of the ordinary kind."""
        log = self.stage.log("second")
        process = Process(
            self.stage.peer.command("second"), log=log, env=self.stage.environment(), cwd=REPOSITORY
        )
        self._ends.callback(process.kill)
        self._workers["second"] = process
        if not wait(lambda: " ready." in process.text(), time.time() + 60):
            raise PeerFailed(f"its second worker did not come up: {process.tail(4)[-300:]}")

    def kill(self) -> None:
        """kill -9, all of them."""
        for process in self._workers.values():
            process.kill()
        self._workers = {}
        self.stage.waiting = 0  # nobody is to end in good order
        self._ends.close()

    def holds(self) -> Mapping[str, float]:
        """What its processes and its Redis have taken."""
        taken = {role: resident(process.pid) / MIB for role, process in self._workers.items()}
        with self.stage.store.client() as client:
            figures = {
                "redis": client.info("memory")["used_memory"] / MIB,
                "unacked": client.hlen(UNACKED),
            }
        figures["worker"] = sum(size for role, size in taken.items() if role != "expiry")
        if "expiry" in taken:
            figures["expiry"] = taken["expiry"]
        return {**figures, "prefetch": self._prefetch()}

    def _prefetch(self) -> float:
        """How many messages its ordinary worker may have at once, by now."""
        with Celery("bench", broker=self.stage.place.broker, set_as_current=False) as app:
            told = app.control.inspect(timeout=5, limit=len(self._workers)).stats() or {}
        counts = [each["prefetch_count"] for name, each in told.items() if not name.startswith("expiry@")]
        if not counts:
            raise PeerFailed("its worker does not say what it holds")
        return float(max(counts))

    def probe(self) -> float:
        """The ms until another job runs that is sent meanwhile; the median of some."""
        took = []
        for _ in range(PROBES):
            before, began = self._seen.count(), time.time()
            self.stage.client.do(30, do="send", count=1)
            if not wait(lambda before=before: self._seen.count() > before, began + 30, every=0.001):
                raise PeerFailed("it runs nothing else")
            took.append((time.time() - began) * 1000)
        return median(took)

    def ask_schedule(self, items: Items) -> None:
        self.stage.client.ask(do="schedule", way="one", items=items)

    def ledger(self, items: Items) -> Mapping[str, float]:
        """How often each of them ran, and how late the last one was for the first time, in seconds."""
        runs = self._seen.times()
        counts = [len(runs.get(label, ())) for label, _ in items]
        late = [min(runs[label]) - due for label, due in items if runs.get(label)]
        return {
            **{"due": len(items), "once": counts.count(1), "more": sum(count > 1 for count in counts)},
            **{"missing": counts.count(0), "late": max(late) / 1000 if late else None},
        }

    def settle(self, items: Items, patience: float) -> None:
        """Until each of them has run and nothing runs any more, or `patience` seconds are over since the last
        of them was due."""
        until = items[-1][1] / 1000 + patience
        labels = {label for label, _ in items}
        last, since = -1, time.time()
        while time.time() < until:
            count = self._seen.count()
            if count != last:
                last, since = count, time.time()
            elif time.time() - since > QUIET and labels <= self._seen.times().keys():
                return
            time.sleep(0.2)

    def close(self) -> None:
        self.kill()
