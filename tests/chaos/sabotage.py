"""What the ledger must find: a timer taken out of the index behind its back, a message pushed twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.chaos.stage import Stage
from tests.waiting import eventually

#: How many timers; a user may yet cancel or replace one of those that were chosen.
VICTIMS = 5


def lose(stage: Stage) -> None:
    def waiting() -> list[str]:
        with stage.store.client() as client:
            soon = time.time() * 1000 + 500
            members = client.zrangebyscore(stage.key("due"), soon, "+inf", 0, VICTIMS)
            if len(members) == VICTIMS:
                client.zrem(stage.key("due"), *members)
                return [str(member) for member in members]
            return []

    eventually(waiting, timeout=30, what="timers to be lost")


def double(stage: Stage) -> None:
    with stage.calm.client() as client:
        eventually(lambda: client.llen("runs:ours") >= VICTIMS, timeout=30, what="runs to be doubled")
        runs = client.lrange("runs:ours", 0, VICTIMS - 1)
    for run in runs:
        _, id, label = run.split(" ", 2)
        stage.app.tasks["chaos.record"].apply_async((label,), task_id=id)


SABOTAGE: Mapping[str, Callable[[Stage], None]] = MappingProxyType({"lose": lose, "double": double})
