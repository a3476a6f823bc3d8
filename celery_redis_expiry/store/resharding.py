"""Moving timers to another number of shards, while no expiry worker runs.

The namespace says so meanwhile: workers that start wait, and who schedules is refused with that reason. An
interrupted run is finished by the next one: each timer is put into its new shard before it leaves its old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.keys import label_of, shard_of
from celery_redis_expiry.store.agreement import RESHARDING
from celery_redis_expiry.store.cut import Cut
from celery_redis_expiry.store.shard import Shard

#: How many members are looked at in one round trip.
PAGE = 200
#: Seconds by which a worker may be late to wake, and still be alive.
SILENT = 60.0
#: Seconds between two looks at what a dead worker had claimed.
PATIENCE = 1.0


class Unready(ExpiryError):
    """The timers can't be moved now; the message says why, and what to do."""


def reshard(store: Cut, number: int, progress: Callable[[int], None] = lambda moved: None) -> int:
    """Cut a namespace into another number of shards.

    Arguments:
        number: of shards, 1 to 1024.
        progress: called with how many timers have been looked at since the last call.

    Returns:
        How many timers and dead letters were moved.

    Raises:
        Unready: an expiry worker runs, or another resharding was interrupted.
        StoreUnavailable: Redis can't be reached, run it again; or it refuses.
    """
    store.permit("operator")
    old = _old_number(store, number)
    if old == number:
        return 0
    shards = store.cut(max(old, number))
    _without_workers(shards)
    for shard in shards:
        shard.mark(f"{RESHARDING}:{old}:{number}")
    # one that started while the marks were set has announced itself by now
    _without_workers(shards)
    _wait_for_claims(shards)
    moved = 0
    for shard in shards[:old]:
        # until a whole pass finds none: ranks shift under it where a dead letter is discarded meanwhile
        found = True
        while found:
            found = False
            for member, home in _strays(shard, number, progress):
                _move(shard, shards[shard_of(label_of(member), number)], member, home)
                found = True
                moved += 1
    # the first one last: it is the one that is asked
    for shard in reversed(shards):
        shard.mark(str(number))
    return moved


def stored(store: Cut) -> int:
    """How many timers and dead letters there are, also in the middle of a resharding."""
    number = store.recorded().removeprefix(f"{RESHARDING}:").split(":")[0]
    return sum(shard.size() for shard in store.cut(int(number)))


def _old_number(store: Cut, number: int) -> int:
    recorded = store.recorded()
    if not recorded.startswith(RESHARDING):
        return int(recorded)
    old, new = recorded.split(":")[1:]
    if int(new) != number:
        raise Unready(f"a resharding from {old} to {new} was interrupted: finish that first, with {new}")
    return int(old)


def awake(shards: Sequence[Shard]) -> list[str]:
    """The expiry workers that fire timers of these shards. One that was killed is told for two minutes."""
    return sorted(
        {worker for shard in shards for worker, wakes in shard.announced().items() if wakes > -SILENT}
    )


def _without_workers(shards: Sequence[Shard]) -> None:
    if workers := awake(shards):
        raise Unready(
            f"stop the expiry workers first: {', '.join(workers)}. One that was killed is forgotten after "
            "two minutes"
        )


def _wait_for_claims(shards: list[Shard]) -> None:
    """What a dead worker had claimed is waited for until its lease ends."""
    for shard in shards:
        while shard.claimed():
            if not shard.recover(PAGE):
                time.sleep(PATIENCE)


def _strays(shard: Shard, number: int, progress: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    """What belongs into another shard: members, each with the home it has in this one."""
    for home in ("due", "parked", "dead"):
        offset = 0
        while page := shard.page(home, offset, PAGE):
            for member in page:
                if shard_of(label_of(member), number) == shard.number:
                    offset += 1
                else:
                    yield member, home
            progress(len(page))


def _move(source: Shard, target: Shard, member: str, home: str) -> None:
    for each in source.read(home, [member]):
        target.put([each], moving=True)
        if not source.drop(member, each.id):
            # somebody discarded it between the two steps
            target.drop(member, each.id)
