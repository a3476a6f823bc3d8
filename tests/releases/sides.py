"""One timer's life as the older release and as this one live it: the same few verbs, two implementations."""

from __future__ import annotations

import json
from typing import Any, Protocol

from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import label_of, new_token
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Claimed, Request, Stored
from tests.releases.calls_0_1_0 import Scripts

#: What is claimed stays so for longer than a test, unless its lease is to end at once.
LEASE = 600.0
Claim = tuple[str, int, int, str]  # member, due, attempts, task id


class Side(Protocol):
    def schedule(self, name: str, id: str, when: str) -> None: ...
    def move(self, name: str, when: str) -> bool: ...
    def cancel(self, name: str) -> bool: ...
    def state(self, name: str) -> str | None: ...
    def look(self) -> list[str]: ...
    def touch(self, members: list[str]) -> None: ...
    def claim(self, token: str, members: list[str], lease: float = LEASE) -> list[Claim]: ...
    def prolong(self, token: str, claims: list[Claim]) -> set[str]: ...
    def ack(self, token: str, claim: Claim) -> int: ...
    def release(self, token: str, claim: Claim) -> int: ...
    def recover(self) -> int: ...
    def bury(self, token: str, claim: Claim) -> bool: ...
    def retry(self, member: str) -> bool: ...
    def discard(self, member: str) -> bool: ...


class Old:
    """Release 0.1.0."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    def schedule(self, name: str, id: str, when: str) -> None:
        content = {"kind": "message", "task": "t", "body": "[]", "arguments": {}}
        record = f"1:{len(id)}:{id}{json.dumps(content)}"
        assert self._schedule("replace", when, name, id, record)[0] == "scheduled"

    def _schedule(self, mode: str, when: str, name: str, id: str, record: str) -> list[str]:
        expected = ""
        for _ in range(3):
            new = f"{new_token()}:{name}"
            outcome = self.scripts.schedule(mode, when, new, name, id, expected, record, new_token())
            if outcome[0] != "again":
                return outcome
            expected = outcome[2]
        raise AssertionError(outcome)

    def move(self, name: str, when: str) -> bool:
        found = self.scripts.find(name)
        if found is None:
            return False
        _, state, _, _, record = self.scripts.inspect(found)
        if state == "gone":
            return False
        return self._schedule("move", when, name, self._id(record), "")[0] != "missing"

    @staticmethod
    def _id(record: str) -> str:
        version, length, rest = record.split(":", 2)
        assert version == "1", "what this release stores is read by the older one during the upgrade"
        json.loads(rest[int(length) :])
        return rest[: int(length)]

    def cancel(self, name: str) -> bool:
        found = self.scripts.find(name)
        return found is not None and self.scripts.cancel(found, name, new_token()) == "cancelled"

    def state(self, name: str) -> str | None:
        found = self.scripts.find(name)
        state = self.scripts.inspect(found)[1] if found else "gone"
        return None if state == "gone" else state

    def look(self) -> list[str]:
        return self.scripts.look("old")

    def touch(self, members: list[str]) -> None:
        self.scripts.touch(members)

    def claim(self, token: str, members: list[str], lease: float = LEASE) -> list[Claim]:
        answers = self.scripts.claim(token, [(each, True) for each in members], int(lease * 1000))
        return [(each, int(due), int(attempts), self._id(record)) for each, due, attempts, record in answers]

    def prolong(self, token: str, claims: list[Claim]) -> set[str]:
        return set(self.scripts.prolong(token, [claim[0] for claim in claims], int(LEASE * 1000)))

    def ack(self, token: str, claim: Claim) -> int:
        return self.scripts.ack(token, claim[0], label_of(claim[0]), claim[3])

    def release(self, token: str, claim: Claim) -> int:
        return self.scripts.release(token, [claim[0]], 0, tried=True)

    def recover(self) -> int:
        return len(self.scripts.recover())

    def bury(self, token: str, claim: Claim) -> bool:
        reason = json.dumps({"reason": "why", "origin": "old"})
        return bool(self.scripts.bury(token, claim[0], label_of(claim[0]), claim[3], reason))

    def retry(self, member: str) -> bool:
        record = self.scripts.client.hget(self.scripts.base + "timers", member)
        return bool(self.scripts.retry(member, label_of(member), self._id(record or ""), new_token()))

    def discard(self, member: str) -> bool:
        return bool(self.scripts.discard(member, new_token()))


class New:
    """This release, through its `Store`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shard = store.shards[0]

    def schedule(self, name: str, id: str, when: str) -> None:
        stored = Stored(id, {"kind": "message", "task": "t", "body": "[]", "arguments": {}})
        [outcome] = self.store.schedule([Request(stored, when, "replace", name, id)])
        assert outcome.status == "scheduled"

    def move(self, name: str, when: str) -> bool:
        return run(self.store.calls.reschedule(name, when)) is not None

    def cancel(self, name: str) -> bool:
        return self.store.cancel(name)

    def state(self, name: str) -> str | None:
        timer = self.store.get(name)
        return timer.state if timer else None

    def look(self) -> list[str]:
        return [member for member, _ in self.shard.look("new", limit=100, parked=100).due]

    def touch(self, members: list[str]) -> None:
        self.shard.touch(members)

    def claim(self, token: str, members: list[str], lease: float = LEASE) -> list[Claim]:
        claims = self.shard.claim([(each, True) for each in members], token=token, lease=lease)
        return [(each.member, each.due, each.attempts, each.id) for each in claims]

    def prolong(self, token: str, claims: list[Claim]) -> set[str]:
        return self.shard.prolong(token, [self._claimed(token, claim) for claim in claims], LEASE)

    def ack(self, token: str, claim: Claim) -> int:
        return self.shard.ack(token, [self._claimed(token, claim)])

    def release(self, token: str, claim: Claim) -> int:
        return self.shard.release(token, [self._claimed(token, claim)], tried=True)

    def recover(self) -> int:
        return self.shard.recover(100)

    def bury(self, token: str, claim: Claim) -> bool:
        return self.shard.bury(self._claimed(token, claim), "why", "new")

    def retry(self, member: str) -> bool:
        return self.store.retry(self._letter(member))

    def discard(self, member: str) -> bool:
        return self.store.discard(self._letter(member))

    @staticmethod
    def _claimed(token: str, claim: Claim) -> Claimed:
        member, due, attempts, id = claim
        return Claimed(member, label_of(member), due, attempts, b"", token, id)

    def _letter(self, member: str) -> Any:
        letters = {letter.member: letter for letter in self.store.dead_letters()}
        return letters[member]
