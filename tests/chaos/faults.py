"""The faults: what each does, how it is undone, and when each comes, by the seed.

A fault that may leave the outcome of a publish unknown says so (`doubles`): its worker died or stalled
between publishing and acking, or an answer was lost, or the store was away for longer than a lease may last.
The others must double nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from celery_redis_expiry import errors
from tests.chaos.stage import LEASE, PATIENCE, WORKERS, Slot, Stage
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

#: Seconds between the begins of two faults, on average.
GAP = 2.5


class Fault:
    """One fault, drawn: its parameters are the seed's.

    Attributes:
        does: in a few words.
        doubles: whether a timer may come twice by it.
        seconds: how long it may last.
        worker: which of the expiry workers, where it is done to one.
    """

    does: ClassVar[str] = ""
    doubles: ClassVar[bool] = False
    seconds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, dice: random.Random) -> None:
        self.worker = dice.randrange(WORKERS)
        self.lasts = dice.uniform(*self.seconds)

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def target(self) -> str:
        """What it is done to; no two faults at a time are done to the same."""
        raise NotImplementedError

    def begin(self, stage: Stage) -> None:
        raise NotImplementedError

    def end(self, stage: Stage) -> None:
        """Undo it; what has undone itself needs nothing."""


class OfWorker(Fault):
    @property
    def target(self) -> str:
        return f"worker {self.worker}"


class Killed(OfWorker):
    does = "kill -9 of a worker, started again"
    doubles = True
    seconds = (0.5, 4.0)

    def begin(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.kill()

    def end(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.start()


class Terminated(OfWorker):
    does = "SIGTERM to a worker, started again when it has ended"
    seconds = (0.1, 2.0)

    def begin(self, stage: Stage) -> None:
        ended = stage.together(Slot.terminate, stage.workers(self.worker))
        if not ended[0]:
            stage.breaches.append(
                f"expiry worker {self.worker} did not end within {PATIENCE:.0f} s of SIGTERM"
            )

    def end(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.start()


class Frozen(OfWorker):
    does = "SIGSTOP to a worker for longer than its lease, then SIGCONT"
    doubles = True
    seconds = (1.2 * LEASE, 1.8 * LEASE)

    def begin(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.freeze()

    def end(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.thaw()


class OfStore(Fault):
    target = "store"


class StoreKilled(OfStore):
    does = "kill -9 of the Redis with the timers, started again from its AOF"
    doubles = True
    seconds = (0.5, 3.0)

    def begin(self, stage: Stage) -> None:
        for server in stage.holders:
            server.kill()

    def end(self, stage: Stage) -> None:
        stage.together(RedisServer.start, stage.holders)


class StoreRestarted(StoreKilled):
    does = "an orderly restart of the Redis with the timers"

    def begin(self, stage: Stage) -> None:
        stage.together(RedisServer.stop, stage.holders)


class StoreFull(OfStore):
    does = "maxmemory reached: scheduling is refused, firing goes on"
    seconds = (2.0, 5.0)

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "maxmemory", "1")
        stage.expect_refusal(errors.StoreFull)

    def end(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "maxmemory", "0")


class StoreReadOnly(OfStore):
    does = "a primary that takes no writes (min-replicas-to-write, and no replica)"
    doubles = True
    seconds = (2.0, 5.0)

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "min-replicas-to-write", "1")
        stage.expect_refusal(errors.StoreUnavailable)

    def end(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "min-replicas-to-write", "0")


class SubscribersFlooded(OfStore):
    does = "events in a flood: subscribers exceed their output buffer and are disconnected"
    seconds = (0.5, 2.0)

    #: Events of trigger keys that never were, faster than any subscriber may read them.
    FLOOD = "for i = 1, 2000 do redis.call('PUBLISH', KEYS[1] .. i, 'expired') end"

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "client-output-buffer-limit", "pubsub 16384 0 0")
        channel = f"__keyspace@0__:{stage.key('trigger:flood:')}"
        stage.tell_holders("EVAL", self.FLOOD, 1, channel)

    def end(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")


class NotificationsCleared(OfStore):
    does = 'notify-keyspace-events ""'

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CONFIG", "SET", "notify-keyspace-events", "")


class ScriptsFlushed(OfStore):
    does = "SCRIPT FLUSH"

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("SCRIPT", "FLUSH")


class ClientsKilled(OfStore):
    does = "CLIENT KILL of every ordinary connection to the store"

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class SubscribersKilled(OfStore):
    does = "CLIENT KILL of every subscription"

    def begin(self, stage: Stage) -> None:
        stage.tell_holders("CLIENT", "KILL", "TYPE", "pubsub")


class OfPath(Fault):
    """Done to a path: every connection through a proxy."""

    def paths(self, stage: Stage) -> list[Proxy]:
        raise NotImplementedError

    def end(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            proxy.clear()


class OfWorkersPath(OfPath):
    @property
    def target(self) -> str:
        return f"path {self.worker}"

    def paths(self, stage: Stage) -> list[Proxy]:
        return stage.store_path(self.worker)


class OfUsersPath(OfPath):
    target = "users' path"

    def paths(self, stage: Stage) -> list[Proxy]:
        return stage.user_paths()


class OfBrokersPath(OfPath):
    target = "broker's path"

    def paths(self, stage: Stage) -> list[Proxy]:
        return stage.broker_paths()


class Cut(OfPath):
    does = "connections cut, again and again"
    seconds = (0.1, 1.0)

    def begin(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            proxy.cut()

    def end(self, stage: Stage) -> None:
        self.begin(stage)
        super().end(stage)


class Away(OfPath):
    does = "nobody there: connections cut, new ones refused"
    seconds = (2.0, 6.0)

    def begin(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            proxy.refuse()


class RepliesLost(OfPath):
    does = "commands executed whose replies are lost, and the connections with them"
    seconds = (2.0, 4.0)

    #: How many replies, how many commands apart.
    LOST = 5

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice)
        self.apart = [dice.randint(1, 10) for _ in range(self.LOST)]

    def begin(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            if not proxy.redis:
                proxy.lose_answers(self.LOST)
                continue
            for nth in accumulate(self.apart):
                proxy.drop_reply(lambda command: command[0].upper() in ("EVALSHA", "LPUSH", "EXEC"), nth=nth)


class Slow(OfPath):
    does = "every piece of data takes its time, in one direction"
    seconds = (2.0, 5.0)

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice)
        self.there, self.back = dice.choice([(1, 0), (0, 1)])
        self.delay = dice.uniform(0.1, 1.0)

    def begin(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            proxy.delay_there, proxy.delay_back = self.there * self.delay, self.back * self.delay


class HalfOpen(OfPath):
    does = "connections that swallow what is sent and never answer"
    seconds = (4.0, 8.0)

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice)
        self.new = dice.random() < 0.5

    def begin(self, stage: Stage) -> None:
        for proxy in self.paths(stage):
            proxy.swallow(new=self.new)


class StorePathCut(Cut, OfWorkersPath):
    pass


class StorePathAway(Away, OfWorkersPath):
    doubles = True  # an ack that can't be told for longer than the lease


class StoreRepliesLost(RepliesLost, OfWorkersPath):
    pass


class StorePathSlow(Slow, OfWorkersPath):
    pass


class StorePathHalfOpen(HalfOpen, OfWorkersPath):
    doubles = True  # as StorePathAway


class UsersCut(Cut, OfUsersPath):
    pass


class UsersRepliesLost(RepliesLost, OfUsersPath):
    pass


class UsersSlow(Slow, OfUsersPath):
    pass


class UsersHalfOpen(HalfOpen, OfUsersPath):
    pass


class BrokerCut(Cut, OfBrokersPath):
    doubles = True


class BrokerDown(Away, OfBrokersPath):
    does = "the broker down for longer than a publish is tried"
    doubles = True
    seconds = (6.0, 10.0)


class BrokerRepliesLost(RepliesLost, OfBrokersPath):
    doubles = True


class BrokerSlow(Slow, OfBrokersPath):
    pass


class BrokerHalfOpen(HalfOpen, OfBrokersPath):
    doubles = True


CATALOGUE: tuple[type[Fault], ...] = (
    Killed,
    Terminated,
    Frozen,
    StoreKilled,
    StoreRestarted,
    StoreFull,
    StoreReadOnly,
    SubscribersFlooded,
    NotificationsCleared,
    ScriptsFlushed,
    ClientsKilled,
    SubscribersKilled,
    StorePathCut,
    StorePathAway,
    StoreRepliesLost,
    StorePathSlow,
    StorePathHalfOpen,
    UsersCut,
    UsersRepliesLost,
    UsersSlow,
    UsersHalfOpen,
    BrokerCut,
    BrokerDown,
    BrokerRepliesLost,
    BrokerSlow,
    BrokerHalfOpen,
)


#: Those that concern nobody but expiry workers and users where the Redis with the timers is the broker, too.
#: What ordinary workers lose or double when their broker restarts would not be ours.
IN_PLACE: tuple[type[Fault], ...] = (
    Killed,
    Terminated,
    Frozen,
    NotificationsCleared,
    ScriptsFlushed,
    StorePathCut,
    StorePathAway,
    StoreRepliesLost,
    StorePathSlow,
    StorePathHalfOpen,
    UsersCut,
    UsersRepliesLost,
    UsersSlow,
    UsersHalfOpen,
)


@dataclass(frozen=True)
class Planned:
    """A fault and the second of the run at which it begins."""

    at: float
    fault: Fault


def plan(
    seed: int, seconds: float, kinds: Sequence[type[Fault]] = CATALOGUE, gap: float = GAP
) -> list[Planned]:
    """What is to happen in a run, by its seed alone: every kind once before one comes again."""
    dice = random.Random(f"faults {seed}")
    planned: list[Planned] = []
    waiting: list[type[Fault]] = []
    at = dice.uniform(0.5, gap)
    while kinds and at < seconds:
        if not waiting:
            waiting = dice.sample(list(kinds), len(kinds))
        planned.append(Planned(at, waiting.pop()(dice)))
        at += dice.uniform(0.2, 2 * gap - 0.2)
    return planned
