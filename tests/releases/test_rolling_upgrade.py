"""During a rolling upgrade both releases' scripts work on the same timers: any step by either, in any mix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Store, store_of
from celery_redis_expiry.timer import FORMAT, GUARDED, Request, Stored
from tests.releases.calls_0_1_0 import Scripts
from tests.releases.sides import New, Old, Side
from tests.servers.redis import RedisServer

BROKER = "redis://localhost:6379/0"
NAME = "referral:42"
FAR = "+3600000"
Life = Callable[[Iterator[Side], "Upgrade"], None]


class Upgrade:
    """A namespace that both use."""

    def __init__(self, server: RedisServer) -> None:
        app = Celery("shop", broker=server.url(), set_as_current=False)
        self.client: redis.Redis = server.client()
        self.store: Store = store_of(app)
        self.scripts = Scripts(self.client, "shop", "shop")
        self.sides: dict[str, Side] = {"old": Old(self.scripts), "new": New(self.store)}

    def member(self) -> str:
        member = self.client.hget(self.scripts.base + "names", NAME)
        assert member
        return str(member)

    def left(self) -> set[str]:
        keys = {str(key).removeprefix(self.scripts.base) for key in self.client.scan_iter()}
        return {key for key in keys if key not in ("namespace", "pacers") and not key.startswith("answer:")}

    def after_due(self) -> None:
        """Until this very millisecond, at which something fell due, is over."""
        began = self.client.time()
        while self.client.time()[1] // 1000 == began[1] // 1000:
            pass


@pytest.fixture
def upgrade(redis_server: RedisServer) -> Iterator[Upgrade]:
    upgrade = Upgrade(redis_server)
    yield upgrade
    upgrade.client.close()


# Each life takes who does the next step from `who`. In the end nothing may be left.


def fired(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", "+0")
    upgrade.after_due()
    [member] = next(who).look()
    next(who).touch([member])
    token = new_token()
    [claim] = next(who).claim(token, [member])
    assert (claim[2], claim[3]) == (0, "id")
    assert next(who).state(NAME) == "claimed"
    assert next(who).prolong(token, [claim]) == set()
    assert next(who).ack(token, claim) == 1


def released(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", "+0")
    member, token = upgrade.member(), new_token()
    [first] = next(who).claim(token, [member])
    assert next(who).release(token, first) == 1
    assert next(who).state(NAME) == "waiting"
    token = new_token()
    [claim] = next(who).claim(token, [member])
    assert claim == (first[0], first[1], 1, "id"), "the due time stays, the attempt counts"
    assert next(who).ack(token, claim) == 1


def recovered(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", "+0")
    member, stale = upgrade.member(), new_token()
    [first] = next(who).claim(stale, [member], 0.0)
    assert next(who).recover() == 1
    token = new_token()
    [claim] = next(who).claim(token, [member])
    assert claim[1] == first[1]
    assert next(who).ack(stale, first) == 0, "it has no say any more"
    assert next(who).ack(token, claim) == 1


def dead_then_retried(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", "+0")
    member, token = upgrade.member(), new_token()
    [claim] = next(who).claim(token, [member])
    assert next(who).bury(token, claim)
    [letter] = upgrade.store.dead_letters()
    assert letter.reason == "why"
    assert next(who).retry(member)
    assert next(who).cancel(NAME)


def dead_then_discarded(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", "+0")
    member, token = upgrade.member(), new_token()
    [claim] = next(who).claim(token, [member])
    assert next(who).bury(token, claim)
    assert next(who).state(NAME) is None
    assert next(who).discard(member)


def moved(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", FAR)
    assert next(who).move(NAME, FAR)
    assert next(who).state(NAME) == "waiting"
    assert next(who).move(NAME, "+0")
    token = new_token()
    [claim] = next(who).claim(token, [upgrade.member()])
    assert claim[3] == "id"
    assert next(who).ack(token, claim) == 1


def replaced_then_cancelled(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "first", FAR)
    next(who).schedule(NAME, "second", FAR)
    assert next(who).state("first") is None
    assert next(who).state("second") == "waiting"
    assert next(who).cancel(NAME)
    assert not next(who).cancel(NAME)


def replaced_while_claimed(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "first", "+0")
    token = new_token()
    [claim] = next(who).claim(token, [upgrade.member()])
    next(who).schedule(NAME, "second", FAR)
    assert next(who).ack(token, claim) == 1
    assert next(who).state(NAME) == "waiting", "an ack of the older generation touches nothing newer"
    assert next(who).cancel(NAME)


def parked(who: Iterator[Side], upgrade: Upgrade) -> None:
    next(who).schedule(NAME, "id", FAR)
    member = upgrade.member()
    trigger = upgrade.scripts.trigger(member)
    upgrade.client.persist(trigger)
    next(who).touch([member])
    assert next(who).state(NAME) == "parked"
    upgrade.client.pexpire(trigger, 3_600_000)
    next(who).touch([member])
    assert next(who).state(NAME) == "waiting"
    assert next(who).cancel(NAME)


LIVES = {
    life.__name__: life
    for life in (
        fired,
        released,
        recovered,
        dead_then_retried,
        dead_then_discarded,
        moved,
        replaced_then_cancelled,
        replaced_while_claimed,
        parked,
    )
}


@pytest.mark.parametrize("name", LIVES)
def test_any_step_by_either(upgrade: Upgrade, name: str) -> None:
    life: Life = LIVES[name]
    steps = 0

    def counted(sides: Iterator[Side]) -> Iterator[Side]:
        nonlocal steps
        for side in sides:
            steps += 1
            yield side

    life(counted(itertools.repeat(upgrade.sides["old"])), upgrade)
    assert upgrade.left() == set(), "the older release alone"
    for releases in itertools.product(("old", "new"), repeat=steps):
        life(iter([upgrade.sides[release] for release in releases]), upgrade)
        assert upgrade.left() == set(), releases


def due_member(upgrade: Upgrade, **arguments: Any) -> str:
    stored = Stored("id", {"kind": "message", "task": "t", "body": "[]"}, arguments.pop("guard", None))
    request = Request(stored, "+0", "replace", NAME, "id", **arguments)
    assert [outcome.status for outcome in upgrade.store.schedule([request])] == ["scheduled"]
    upgrade.after_due()
    return upgrade.member()


def test_the_older_release_lets_no_guarded_timer_pass(upgrade: Upgrade) -> None:
    """It can't read the format: a dead letter, which this release retries, and then asks the guard."""
    due_member(upgrade, guard=Guard(unless_exists=("user:42",)))
    old = upgrade.scripts
    [claim] = old.claim("token", [(upgrade.member(), True)], 60_000)
    member, version = claim[0], claim[3].partition(":")[0]
    assert version == str(GUARDED) != str(FORMAT)
    assert old.bury("token", member, NAME, "id", '{"reason": "the stored message has format 2"}')
    [letter] = upgrade.store.dead_letters()
    assert upgrade.store.retry(letter)
    upgrade.client.set("user:42", "")
    upgrade.after_due()
    shard = upgrade.store.shards[0]
    claims = shard.claim([(member, True)], token="new", lease=60)
    allowed = shard.claim_guarded(claims.guarded, token="new", lease=60)
    assert ([*claims, *allowed], [each.id for each in allowed.called_off]) == ([], ["id"])
    assert upgrade.left() == {"user:42"}


def test_the_older_release_fires_what_is_debounced(upgrade: Upgrade) -> None:
    member = due_member(upgrade, max_wait=1000)
    old = upgrade.sides["old"]
    [claim] = old.claim("token", [member])
    assert claim[3] == "id"
    assert old.ack("token", claim) == 1
    assert upgrade.left() == set()


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_namespace_is_entered_by_both(upgrade: Upgrade, first: str) -> None:
    def old() -> None:
        # it refuses a greater format, another app or another broker
        version, app, broker = upgrade.scripts.enter(BROKER)
        assert (int(version), app, broker) == (1, "shop", BROKER)

    def new() -> None:
        upgrade.store.enter(BROKER)

    entries = [old, new] if first == "old" else [new, old]
    for enter in [*entries, *entries]:
        enter()
    upgrade.sides["old"].schedule(NAME, "id", FAR)
    assert upgrade.sides["new"].cancel(NAME)
