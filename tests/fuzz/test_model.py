"""Random lives of timers, on real Redis through the real Store, against a model in plain Python.

Redis can't be given a clock, so time passes by moving what is stored: an hour passes when every score, due
time and TTL is an hour less. That is what each script would see on a server whose clock had gone on by an
hour. Whatever lies ahead is due at half past, and time passes by whole hours, so that the moments for which a
script really takes decide nothing.

A lost reply is a script that is sent twice, by redis-py itself: see `Repeating`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from celery_redis_expiry import cancel, get_timer, reschedule
from celery_redis_expiry.blocking import run
from celery_redis_expiry.connections import forget_memory
from celery_redis_expiry.connections.memory import memory_client
from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.recurring import Due, Plan, Recurring, State
from celery_redis_expiry.scripts import Scripts
from celery_redis_expiry.store import RECHECK_MS, Link, Rearm, Recurs, Store, store_of
from celery_redis_expiry.timer import Claimed, Request, Stored
from tests.fuzz.model import FOREVER, Generation, Model
from tests.fuzz.profiles import LIMIT, effort
from tests.servers.redis import RedisServer, binaries

HOUR = 3_600_000.0
LEASE = 1.5  # hours
#: ms by which two times may differ that are the same: far more than a test takes, far less than half an hour
SAME = 60_000.0
NAMES = ["a", "x:y", "id"]
OWN_IDS = ["id", "a"]
MODES = ["replace", "keep", "extend", "raise"]
SCORED = ("due", "parked", "claimed", "dead")
#: keys of the user's own, which guards ask for
USERS = ["user:1", "user:2"]

#: hours ahead; None is at once, and less than 0 has passed
delays = st.sampled_from([0.5, 1.5, 3.5, None, None, -0.5])
#: one of what there is then: whether among the living, and its number. What is drawn must not hang on that
chosen = st.tuples(st.sampled_from([True, True, True, False]), st.integers(0, 999))
own_ids = st.one_of(st.none(), st.sampled_from(OWN_IDS))
guards = st.sampled_from([(), (), (USERS[0],), tuple(USERS)])
#: hours; None for no debounce
bounds = st.sampled_from([None, None, 0.5, 2.5])
#: of a recurring timer: hours for which the task of an occurrence is awaited, 0 not at all; None for no such
recurrences = st.sampled_from([None, None, 0.0, 2.25])


class Repeating:
    """The scripts of a store; with `twice` each is sent again, as redis-py does where the reply was lost.

    What the caller hears is the second answer. Acks and the like answer how many they changed, which is
    nothing the second time: the first counts there, and that the repetition changed nothing.
    """

    COUNTS = ("ack", "release", "recover")

    def __init__(self, link: Link) -> None:
        self._call = link.call
        self.twice = False

    async def call(self, script: str, **arguments: Any) -> Any:
        """In the place of `Link.call`."""
        answer = await self._call(script, **arguments)
        if self.twice and script not in ("look", "inspect"):
            again = await self._call(script, **arguments)
            answer = answer if script in self.COUNTS else again
        return answer


class Lives(RuleBasedStateMachine):
    """One namespace, and what anybody may do to it."""

    app: Celery
    store: Store
    scripts: Repeating
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.shard = self.store.shards[0]
        self.model = Model(recheck=RECHECK_MS)
        self.skew = 0.0
        self.made = 0
        self.held: list[Claimed] = []
        self.members: list[str] = []
        self.pubsub = self.client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe(self.shard.keys.wake)
        self.pubsub.get_message(timeout=5)
        self.wake = 0.0  # when the pacer looks next
        self.told: set[str] = set()  # what it, or the listener, knows to be due
        self.tick()

    def teardown(self) -> None:
        self.pubsub.close()

    def tick(self) -> None:
        """The model's clock, which is Redis's and the hours that were made to pass."""
        seconds, micros = self.client.time()
        self.model.now = seconds * 1000 + micros / 1000 + self.skew

    def after_this_millisecond(self) -> None:
        """A key lives until now > due: what was made due now is due after that."""
        self.tick()
        began = int(self.model.now)
        while int(self.model.now) <= began + 1:
            self.tick()

    # -- users

    def request(
        self,
        mode: str,
        delay: float | None,
        name: str | None,
        id: str | None,
        guard: tuple[str, ...],
        bound: float | None,
        recurs: float | None = None,
    ) -> tuple[Request, Callable[[Any], None]]:
        """A request, and what compares its outcome with the model's."""
        self.made += 1
        id = id or f"id {self.made}"
        name = None if name == id else name
        content = f"content {self.made}"
        stored = Stored(id, {"kind": "message", "task": content}, Guard(guard) if guard else None)
        if recurs is not None:
            guard, bound, mode = (), None, "replace" if mode == "extend" else mode
            plan = Plan({"type": "interval", "ms": int(HOUR)}, int(recurs * HOUR) or None)
            stored = Stored(id, stored.content, recurring=Recurring(plan, State(0)))
        max_wait = int(bound * HOUR) if bound and name else None
        due = self.model.now + (delay or 0) * HOUR
        when = "+0" if delay is None else f"={int(due - self.skew)}"
        if delay is not None and delay > 0 and self.made % 2:
            when = f"+{int(delay * HOUR)}"

        def check(outcome: Any) -> None:
            status, current, made = self.model.schedule(
                *(mode, due, name or "", id, content, guard, max_wait),
                recurs=None if recurs is None else recurs * HOUR,
            )
            assert outcome.status == status, (outcome, status)
            if made is None:
                assert current
                assert (outcome.member, outcome.id) == (current.member, current.id)
                return
            assert outcome.id == made.id
            assert abs(outcome.due + self.skew - made.score) < SAME
            made.member = outcome.member
            self.members.append(outcome.member)
            self.model.add(mode, name or "", made, current)

        return Request(stored, when, mode, name, id, max_wait), check

    @rule(
        mode=st.sampled_from(MODES),
        delay=delays,
        name=st.one_of(st.none(), st.sampled_from(NAMES)),
        id=own_ids,
        guard=guards,
        bound=bounds,
        recurs=recurrences,
        twice=st.booleans(),
    )
    def schedule(
        self,
        mode: str,
        delay: float | None,
        name: str | None,
        id: str | None,
        guard: tuple[str, ...],
        bound: float | None,
        recurs: float | None,
        twice: bool,
    ) -> None:
        self.tick()
        request, check = self.request(mode, delay, name, id, guard, bound, recurs)
        self.scripts.twice = twice
        [outcome] = self.store.schedule([request])
        check(outcome)
        self.after_this_millisecond()

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from(MODES), delays, st.sampled_from([*NAMES, None]), guards, bounds),
            min_size=2,
            max_size=4,
            unique_by=lambda each: each[2] or object(),
        ),
        twice=st.booleans(),
    )
    def schedule_many(self, wanted: list[tuple[Any, ...]], twice: bool) -> None:
        self.tick()
        pairs = [
            self.request(mode, delay, name, None, guard, bound) for mode, delay, name, guard, bound in wanted
        ]
        self.scripts.twice = twice
        outcomes = self.store.schedule([request for request, _ in pairs])
        for outcome, (_, check) in zip(outcomes, pairs, strict=True):
            check(outcome)
        self.after_this_millisecond()

    @rule(whom=st.sampled_from([*NAMES, *OWN_IDS]), twice=st.booleans())
    def cancel(self, whom: str, twice: bool) -> None:
        self.tick()
        self.scripts.twice = twice
        assert cancel(whom, app=self.app) == self.model.cancel(whom)

    @rule(whom=st.sampled_from([*NAMES, *OWN_IDS]), delay=delays, twice=st.booleans())
    def reschedule(self, whom: str, delay: float | None, twice: bool) -> None:
        self.tick()
        found = self.model.find(whom)
        self.scripts.twice = twice
        seconds = max(delay or 0, 0) * HOUR / 1000
        answer = reschedule(whom, seconds, app=self.app)
        assert answer == (found is not None)
        if found is not None:
            name = found.label if found.label != found.id else ""
            due = self.model.now + seconds * 1000
            status, current, made = self.model.schedule("move", due, name, found.id, "")
            # the task id may be another timer's by now: then that one moves
            if made is None:
                assert status == "missing"
                return
            generations = {each.decode() for each in self.client.hkeys(self.shard.keys.timers)}
            [made.member] = generations - set(self.model.timers)
            self.members.append(made.member)
            self.model.add("move", name, made, current)
        self.after_this_millisecond()

    # -- expiry workers

    @rule(which=st.lists(chosen, max_size=4), twice=st.booleans())
    def touch(self, which: list[tuple[bool, int]], twice: bool) -> None:
        # as a pacer does, which looks at all parked ones again
        members = sorted({*self.some(which), *self.at("parked")}, key=self.members.index)
        self.tick()
        self.scripts.twice = twice
        self.shard.touch(members)
        for member in members:
            self.model.touch(member)
        self.after_this_millisecond()

    @rule(which=st.lists(chosen, max_size=4), events=st.integers(0, 15), twice=st.booleans())
    def claim(self, which: list[tuple[bool, int]], events: int, twice: bool) -> None:
        """What the index says, and what events say, true or not."""
        told = [(member, bool(events >> bit & 1)) for bit, member in enumerate(self.some(which))]
        told += [(each.member, False) for each in self.model.overdue() if each.member not in dict(told)]
        self.tick()
        free, asked = new_token(), new_token()
        self.scripts.twice = twice
        claims = self.shard.claim(told, token=free, lease=LEASE * HOUR / 1000)
        allowed = self.shard.claim_guarded(claims.guarded, token=asked, lease=LEASE * HOUR / 1000)
        before = dict(self.model.timers)
        taken: dict[str, list[str]] = {free: [], asked: []}
        due_again = []
        for member, expired in told:
            token = asked if member in before and before[member].guard else free
            found = self.model.take(member, expired, token, LEASE * HOUR)
            if found and found.recurs is not None:
                due_again.append(member)
            elif found:
                taken[token].append(member)
        assert [each.member for each in claims.recurring] == due_again
        self.recur(claims.recurring)
        assert [claim.member for claim in claims] == taken[free]
        assert [claim.member for claim in allowed] == taken[asked]
        off = [before[member] for member, _ in told if member in before and member not in self.model.timers]
        assert [(each.member, each.id) for each in allowed.called_off] == [(t.member, t.id) for t in off]
        assert [each.unsure for each in allowed.called_off] == [not t.recallable for t in off]
        claims += allowed
        for claim in claims:
            timer = self.model.timers[claim.member]
            stored = claim.stored
            assert timer.claim
            assert isinstance(stored, Stored)
            assert (stored.id, stored.content["task"]) == (timer.id, timer.content)
            assert claim.attempts == timer.claim.attempts
            assert abs(claim.due + self.skew - timer.claim.due) < SAME
            self.told.discard(claim.member)
        self.held += claims

    def recur(self, due: list[Recurs]) -> None:
        """As an expiry worker does; now and then two of them."""
        for recurs in due:
            self.made += 1
            id, upcoming = f"occurrence {self.made}", int(self.model.now - self.skew + HOUR / 2)
            timer = self.model.timers[recurs.member]
            occurrence = Stored(id, {"kind": "message", "task": timer.content})
            rearm = Rearm(recurs, Due(recurs.due, 0, upcoming), occurrence)
            [(outcome, about)] = self.shard.recur([rearm])
            fired = self.model.recur(recurs.member, upcoming + self.skew, recurs.due + self.skew, about, id)
            if fired:
                assert outcome == "fired"
                self.members.append(about)
            else:
                # of a call that was sent twice nobody counts what was skipped
                awaited = self.model.running[timer.label][0]
                assert (outcome, about) in [("skipped", awaited), ("", "")][: 1 + self.scripts.twice]
            self.told.discard(recurs.member)
            # another worker that was told the same
            assert self.shard.recur([rearm]) == [("", "")]

    @rule(name=st.sampled_from(NAMES), recurs=st.sampled_from([0.0, 0.25, 2.25]), twice=st.booleans())
    def two_occurrences(self, name: str, recurs: float, twice: bool) -> None:
        """What by chance alone seldom comes: one that is due, and due again an hour later."""
        self.schedule("replace", None, name, None, (), None, recurs, twice)
        self.claim([], 0, twice)
        self.time_passes(1)
        self.claim([], 0, twice)

    @rule(name=st.sampled_from(NAMES), right=st.booleans(), twice=st.booleans())
    def task_ends(self, name: str, right: bool, twice: bool) -> None:
        self.tick()
        self.scripts.twice = twice
        id = self.model.running.get(name, ("nobody", 0.0))[0] if right else "another"
        ended = run(self.store.calls.finish(name, id))
        assert ended == (self.model.finish(name, id) and not twice)

    def some(self, which: list[tuple[bool, int]]) -> list[str]:
        """A few members; now and then of forgotten generations too."""
        living = [member for member in self.members if member in self.model.timers]
        pools = [(living if alive else self.members, number) for alive, number in which]
        return list(dict.fromkeys(pool[number % len(pool)] for pool, number in pools if pool))

    def one_held(self, which: tuple[bool, int]) -> Claimed | None:
        """A claim of any worker: one that holds, or now and then one that is another's by now."""
        holding = [claim for claim in self.held if self.model.held(claim.member, claim.token)]
        pool = holding if which[0] and holding else self.held
        return pool[which[1] % len(pool)] if pool else None

    @rule(which=chosen, twice=st.booleans())
    def ack(self, which: tuple[bool, int], twice: bool) -> None:
        claim = self.one_held(which)
        if claim is None:
            return
        self.tick()
        self.scripts.twice = twice
        holds = self.model.held(claim.member, claim.token) is not None
        assert self.shard.ack(claim.token, [claim]) == holds
        self.model.ack(claim.member, claim.token)

    @rule(
        which=chosen,
        hours=st.sampled_from([0.0, 1.5, 2.5]),
        tried=st.booleans(),
        unsure=st.booleans(),
        twice=st.booleans(),
    )
    def release(self, which: tuple[bool, int], hours: float, tried: bool, unsure: bool, twice: bool) -> None:
        claim = self.one_held(which)
        if claim is None:
            return
        self.tick()
        self.scripts.twice = twice
        holds = self.model.held(claim.member, claim.token) is not None
        delay = hours * HOUR / 1000
        released = self.shard.release(claim.token, [claim], delay=delay, tried=tried, unsure=unsure)
        assert released == holds
        self.model.release(claim.member, claim.token, hours * HOUR, tried, unsure)
        self.after_this_millisecond()

    @rule(which=chosen, twice=st.booleans())
    def prolong(self, which: tuple[bool, int], twice: bool) -> None:
        claim = self.one_held(which)
        if claim is None:
            return
        self.tick()
        self.scripts.twice = twice
        lost = self.shard.prolong(claim.token, [claim], LEASE * HOUR / 1000)
        kept = self.model.prolong(claim.member, claim.token, LEASE * HOUR)
        assert lost == (set() if kept else {claim.member})

    @rule(twice=st.booleans())
    def recover(self, twice: bool) -> None:
        self.tick()
        self.scripts.twice = twice
        assert self.shard.recover(1000) == len(self.model.recover())
        self.after_this_millisecond()

    @rule(which=chosen, twice=st.booleans())
    def bury(self, which: tuple[bool, int], twice: bool) -> None:
        claim = self.one_held(which)
        if claim is None:
            return
        self.tick()
        self.scripts.twice = twice
        assert self.shard.bury(claim, f"why {claim.label}", "test") == self.model.bury(
            claim.member, claim.token
        )

    # -- operators

    @rule(which=st.integers(0, 999), discard=st.booleans(), twice=st.booleans())
    def settle_dead_letter(self, which: int, discard: bool, twice: bool) -> None:
        letters = self.store.dead_letters()
        assert {letter.member for letter in letters} == self.at("dead")
        assert all(letter.reason == f"why {letter.label}" for letter in letters)
        if not letters:
            return
        # in an order that does not hang on their random names
        letters.sort(key=lambda each: self.members.index(each.member))
        letter = letters[which % len(letters)]
        self.tick()
        self.scripts.twice = twice
        if discard:
            assert self.store.discard(letter) == self.model.discard(letter.member)
        else:
            assert self.store.retry(letter) == self.model.retry(letter.member)
        self.scripts.twice = False
        assert not self.store.discard(letter)
        self.after_this_millisecond()

    # -- time and strangers

    @rule(hours=st.integers(1, 3))
    def time_passes(self, hours: int) -> None:
        """Everything stored is hours older; what a TTL did not outlast is gone, as if expired."""
        ms = int(hours * HOUR)
        keys, raw = self.shard.keys, self.client
        for name in (*SCORED, "pacers"):
            for member in raw.zrange(getattr(keys, name), 0, -1):
                raw.zincrby(getattr(keys, name), -ms, member)
        for member, claim in raw.hgetall(keys.claims).items():
            token, due, rest = claim.decode().split(":", 2)
            raw.hset(keys.claims, member, f"{token}:{int(due) - ms}:{rest}")
        for member, record in raw.hgetall(keys.timers).items():
            since = Stored.decode(record).since
            if since is not None:
                older = record.replace(b'"since":%d,' % since, b'"since":%d,' % (since - ms))
                raw.hset(keys.timers, member, older)
        for key in raw.scan_iter("*", count=1000):
            ttl = raw.pttl(key)
            if 0 <= ttl <= ms:
                raw.delete(key)
            elif ttl > ms:
                raw.pexpire(key, ttl - ms)
        self.skew += ms
        self.tick()
        self.model.pass_time(0)
        self.wake = 0.0

    @rule(which=st.integers(0, 999), what=st.sampled_from(["EXPIRE", "PERSIST", "DEL", "SET"]), hours=delays)
    def stranger(self, which: int, what: str, hours: float | None) -> None:
        """Any client in any language does something to a trigger key."""
        waiting = [member for member in self.members if member in self.at("due") | self.at("parked")]
        if not waiting:
            return
        timer = self.model.timers[waiting[which % len(waiting)]]
        key = self.shard.keys.trigger(timer.member)
        self.tick()
        if what == "SET":
            self.client.set(key, "mine")
            timer.trigger = FOREVER
        elif timer.trigger is not None:
            if what == "EXPIRE":
                ms = int(max(hours or 0, 0) * HOUR)
                self.client.pexpire(key, ms)
                timer.trigger = self.model.now + ms if ms else None
            elif what == "PERSIST":
                self.client.persist(key)
                timer.trigger = FOREVER
            else:
                self.client.delete(key)
                timer.trigger = None

    @rule(key=st.sampled_from(USERS), present=st.booleans())
    def user_s_key(self, key: str, present: bool) -> None:
        """The friend signs up, or leaves."""
        (self.model.present.add if present else self.model.present.discard)(key)
        if present:
            self.client.set(key, "")
        else:
            self.client.delete(key)

    # -- what must hold after every step

    def at(self, home: str) -> set[str]:
        return {member for member, timer in self.model.timers.items() if timer.home == home}

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        keys, timers = self.shard.keys, self.model.timers
        pipe = self.client.pipeline()
        for name in SCORED:
            pipe.zrange(getattr(keys, name), 0, -1, withscores=True)
        for name in ("timers", "names", "ids", "claims", "reasons"):
            pipe.hgetall(getattr(keys, name))
        pipe.keys("*")
        *answers, stored_keys = pipe.execute()
        homes = {
            name: {member.decode(): score for member, score in pairs}
            for name, pairs in zip(SCORED, answers[:4], strict=True)
        }
        hashes = {
            name: {field.decode(): value.decode() for field, value in pairs.items()}
            for name, pairs in zip(("timers", "names", "ids", "claims", "reasons"), answers[4:], strict=True)
        }
        for name, members in homes.items():
            assert set(members) == self.at(name), name
            for member, score in members.items():
                assert abs(score + self.skew - timers[member].score) < SAME, (name, member)
        assert set(hashes["timers"]) == set(timers)
        for member, record in hashes["timers"].items():
            stored = Stored.decode(record.encode())
            timer = timers[member]
            assert (stored.id, stored.content["task"]) == (timer.id, timer.content)
            assert (stored.guard.keys if stored.guard else ()) == timer.guard
            assert (stored.recurring is None) == (timer.recurs is None)
            assert (stored.since is None) == (timer.since is None)
            assert abs((stored.since or 0) + self.skew - (timer.since or self.skew)) < SAME
        assert hashes["names"] == self.model.names
        assert hashes["ids"] == self.model.ids
        assert set(hashes["reasons"]) == self.at("dead")
        assert set(hashes["claims"]) == {member for member, timer in timers.items() if timer.claim}
        for member, value in hashes["claims"].items():
            token, due, attempts, *unsure = value.split(":")
            claim = timers[member].claim
            assert claim
            assert (token, int(attempts), unsure) == (claim.token, claim.attempts, ["?"] * claim.unsure)
            assert abs(int(due) + self.skew - claim.due) < SAME
        prefix = keys.trigger("")
        triggers = {key.decode()[len(prefix) :] for key in stored_keys if key.decode().startswith(prefix)}
        assert triggers == {member for member, timer in timers.items() if timer.trigger is not None}
        for member in triggers:
            self.check_ttl(timers[member])
        elsewhere = prefix, keys.answer(""), keys.running("")
        others = {key.decode() for key in stored_keys if not key.decode().startswith(elsewhere)}
        assert others - set(USERS) <= {
            getattr(keys, name) for name in (*SCORED, *hashes, "pacers", "namespace")
        }

    def check_ttl(self, timer: Generation) -> None:
        ttl = self.client.pttl(self.shard.keys.trigger(timer.member))
        if isinstance(timer.trigger, float):
            self.tick()
            assert abs(self.model.now + ttl - timer.trigger) < SAME
        else:
            assert ttl == -1

    @invariant()
    def pointers_point_to_timers(self) -> None:
        """Nothing is left of forgotten timers; this is what says so of the model itself."""
        for member in {*self.model.names.values(), *self.model.ids.values()}:
            assert self.model.timers[member].home != "dead"

    @invariant()
    def users_are_told_the_truth(self) -> None:
        counts = self.store.counts()
        homes = [timer.home for timer in self.model.timers.values()]
        told = {"waiting": "due", "parked": "parked", "claimed": "claimed", "dead": "dead"}
        assert counts == {name: homes.count(home) for name, home in told.items()}
        for target in {*NAMES, *OWN_IDS}:
            found, timer = self.model.find(target), get_timer(target, app=self.app)
            assert (found is None) == (timer is None), target
            if found is None or timer is None:
                continue
            parked = found.waiting and found.trigger == FOREVER
            state = "claimed" if found.home == "claimed" else "parked" if parked else "waiting"
            name = found.label if found.label != found.id else None
            assert (timer.id, timer.name, timer.task, timer.state) == (found.id, name, found.content, state)
            due = found.score
            if found.home == "claimed":
                assert found.claim
                due = found.claim.due
            elif isinstance(found.trigger, float):
                due = found.trigger
            if parked:
                assert timer.due is None
            else:
                assert timer.due is not None
                assert abs(timer.due.timestamp() * 1000 + self.skew - due) < SAME

    @invariant()
    def the_pacer_knows_what_is_due(self) -> None:
        """It looks when it has said that it will, and when it is woken; all else was told to the listener."""
        while message := self.pubsub.get_message(timeout=0):
            text = message["data"].decode()
            if text.startswith("!"):
                self.told.add(text[1:])
            else:
                self.wake = min(self.wake, int(text) + self.skew)
        self.tick()
        overdue = {each.member for each in self.model.overdue()}
        if self.wake > self.model.now:
            assert overdue <= self.told, "it sleeps on"
            return
        look = self.shard.look("pacer", limit=1000, parked=1000)
        assert {member for member, _ in look.due} == overdue
        assert [due for _, due in look.due] == sorted(due for _, due in look.due)
        parked = [each for each in self.model.timers.values() if each.home == "parked"]
        assert set(look.parked) == {each.member for each in parked if each.score < self.model.now}
        self.wake = look.wake + self.skew
        self.told = overdue


def live(app: Celery, client: redis.Redis, examples: int) -> None:
    store = store_of(app)
    repeating = Repeating(store.link)
    store.link.call = repeating.call  # type: ignore[method-assign]
    store.link.scripts = Scripts(repeating.call)
    machine = type("Lives", (Lives,), {"app": app, "store": store, "scripts": repeating, "client": client})
    run_state_machine_as_test(machine, settings=effort(examples, long=20 * examples, stateful_step_count=60))
    client.close()


@pytest.mark.timeout(LIMIT)
def test_any_life(redis_server: RedisServer) -> None:
    app = Celery("model", broker=redis_server.url(), set_as_current=False)
    # one version in full, the others for what differs between them
    examples = 40 if redis_server.version == next(iter(binaries())) else 10
    live(app, redis_server.raw_client(), examples)


@pytest.mark.timeout(LIMIT)
def test_any_life_in_memory() -> None:
    app = Celery("model", set_as_current=False)
    app.conf.expiry_redis_url = "memory://model"
    live(app, memory_client("model"), 10)
    forget_memory("model")
