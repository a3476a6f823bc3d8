"""What timers are, in plain Python: the words of docs/how-it-works.md without Redis, TTLs or scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

#: A trigger key without a TTL.
FOREVER = "forever"
WAITING = ("due", "parked")


@dataclass
class Claim:
    token: str
    due: float
    attempts: int
    #: whether the broker may have the message, and nobody knows
    unsure: bool = False


@dataclass
class Generation:
    """One scheduling. Times are ms on the test's clock."""

    member: str
    id: str
    content: str
    score: float
    home: str = "due"
    #: when the trigger key expires, FOREVER, or None where there is none
    trigger: float | str | None = None
    claim: Claim | None = None
    #: the keys none of which may exist for it to fire
    guard: tuple[str, ...] = ()
    #: when the first call of a debounce was
    since: float | None = None
    #: for how long the task of an occurrence is awaited; 0 not at all, None where it fires once
    recurs: float | None = None

    @property
    def label(self) -> str:
        return self.member.partition(":")[2]

    @property
    def waiting(self) -> bool:
        return self.home in WAITING

    @property
    def recallable(self) -> bool:
        return self.waiting and not (self.claim and self.claim.unsure)


@dataclass
class Model:
    """All timers of a namespace, and what each call makes of them at the time `now`."""

    recheck: float
    now: float = 0.0
    timers: dict[str, Generation] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    #: keys of the user's own
    present: set[str] = field(default_factory=set)
    #: by label of a recurring timer: the task id that is awaited, and until when
    running: dict[str, tuple[str, float]] = field(default_factory=dict)

    # -- users

    def find(self, target: str) -> Generation | None:
        member = self.names.get(target) or self.ids.get(target)
        found = self.timers.get(member or "")
        return None if found is None or found.home == "dead" else found

    def schedule(
        self,
        mode: str,
        due: float,
        name: str,
        id: str,
        content: str,
        guard: tuple[str, ...] = (),
        max_wait: float | None = None,
        recurs: float | None = None,
    ) -> tuple[str, Generation | None, Generation | None]:
        """Status, the timer that has the name or id now, and the one to be added."""
        member = self.names.get(name) if name and mode != "move" else self.ids.get(id)
        current = self.timers.get(member or "")
        if current is not None and current.home == "dead":
            current = None
        if mode == "move" and current is None:
            return "missing", None, None
        if current is not None and current.waiting:
            if mode == "keep":
                return "kept", current, None
            if mode == "raise" or (not name and mode != "move"):
                return "exists", current, None
        if mode != "move":
            namesake = self.timers.get(self.ids.get(id, ""))
            if namesake is not None and namesake is not current and namesake.waiting:
                return "exists", namesake, None
        kept = current if mode in ("extend", "move") else None
        made = Generation("", kept.id if kept else id, kept.content if kept else content, due)
        made.guard = kept.guard if kept else guard
        made.recurs = kept.recurs if kept else recurs
        before = current.since if current is not None and current.recallable else None
        if max_wait is not None:
            made.since = self.now if before is None else min(before, self.now)
            made.score = due = min(due, made.since + max_wait)
            if made.recurs is not None:
                made.since = None
        elif kept:
            made.since = before
        made.trigger = due if due > self.now else None
        return ("extended" if kept else "scheduled"), current, made

    def add(self, mode: str, name: str, made: Generation, current: Generation | None) -> None:
        """Store what `schedule` made, under the member that it was given."""
        self.timers[made.member] = made
        if name and (mode != "move" or (current and self.names.get(name) == current.member)):
            self.names[name] = made.member
        self.ids[made.id] = made.member
        if current is not None and current.recallable:
            self._forget(current)

    def cancel(self, target: str) -> bool:
        found = self.find(target)
        if found is None or not found.recallable:
            return False
        self._forget(found)
        return True

    # -- workers

    def overdue(self) -> list[Generation]:
        due = [each for each in self.timers.values() if each.home == "due" and each.score < self.now]
        return sorted(due, key=lambda each: (each.score, each.member))

    def touch(self, member: str) -> None:
        timer = self.timers.get(member)
        if timer is None or not timer.waiting:
            return
        if not self._follow(timer) and timer.home == "parked":
            timer.home, timer.score = "due", self.now

    def take(self, member: str, expired: bool, token: str, lease: float) -> Generation | None:
        timer = self.timers.get(member)
        if timer is None or not timer.waiting or self._follow(timer):
            return None
        if not expired and not (timer.home == "due" and timer.score <= self.now):
            return None
        if timer.recurs is not None:
            return timer
        if self.present & set(timer.guard):
            self._forget(timer)
            return None
        due = timer.claim.due if timer.claim else min(timer.score, self.now)
        before = timer.claim or Claim("", due, 0)
        timer.claim = Claim(token, due, before.attempts, before.unsure)
        timer.home, timer.score = "claimed", self.now + lease
        return timer

    def recur(self, member: str, upcoming: float, due: float, occurrence: str, id: str) -> bool:
        """Arm it for the next instant; whether there is an occurrence."""
        timer = self.timers[member]
        timer.home, timer.score, timer.trigger, timer.claim = "due", upcoming, upcoming, None
        if timer.recurs and self.running.get(timer.label, ("", 0.0))[1] > self.now:
            return False
        self.timers[occurrence] = Generation(occurrence, id, timer.content, due)
        self.ids[id] = occurrence
        if timer.recurs:
            self.running[timer.label] = id, self.now + timer.recurs
        return True

    def finish(self, label: str, id: str) -> bool:
        awaited, until = self.running.get(label, ("", 0.0))
        if awaited != id or until <= self.now:
            return False
        del self.running[label]
        return True

    def _follow(self, timer: Generation) -> bool:
        """Whether there is a trigger key, whose TTL rules."""
        if timer.trigger is None:
            return False
        if timer.trigger == FOREVER:
            timer.home, timer.score = "parked", self.now + self.recheck
        else:
            timer.home, timer.score = "due", float(timer.trigger)
        return True

    def held(self, member: str, token: str) -> Generation | None:
        timer = self.timers.get(member)
        holds = timer is not None and timer.home == "claimed" and timer.claim and timer.claim.token == token
        return timer if holds else None

    def ack(self, member: str, token: str) -> None:
        timer = self.held(member, token)
        if timer:
            self._forget(timer)

    def release(self, member: str, token: str, delay: float, tried: bool, unsure: bool) -> None:
        timer = self.held(member, token)
        if timer and timer.claim:
            before = timer.claim
            timer.claim = Claim("-", before.due, before.attempts + tried, before.unsure or unsure)
            timer.home, timer.score = "due", self.now + delay if delay else timer.claim.due

    def recover(self) -> list[Generation]:
        stale = [each for each in self.timers.values() if each.home == "claimed" and each.score <= self.now]
        for timer in stale:
            assert timer.claim
            timer.claim.token, timer.claim.unsure = "-", True
            timer.home, timer.score = "due", timer.claim.due
        return stale

    def prolong(self, member: str, token: str, lease: float) -> bool:
        timer = self.held(member, token)
        if timer:
            timer.score = self.now + lease
        return timer is not None

    def bury(self, member: str, token: str) -> bool:
        """The reason is always the same: so a dead letter answers as if a reply had been lost."""
        timer = self.held(member, token)
        if timer is None:
            return member in self.timers and self.timers[member].home == "dead"
        self._unpoint(timer)
        timer.home, timer.score, timer.claim = "dead", self.now, None
        return True

    # -- operators

    def retry(self, member: str) -> bool:
        timer = self.timers.get(member)
        if timer is None or timer.home != "dead":
            return False
        timer.home, timer.score = "due", self.now
        if timer.label != timer.id:
            self.names.setdefault(timer.label, member)
        self.ids.setdefault(timer.id, member)
        return True

    def discard(self, member: str) -> bool:
        timer = self.timers.get(member)
        if timer is None or timer.home != "dead":
            return False
        del self.timers[member]
        return True

    # -- time and strangers

    def pass_time(self, ms: float) -> None:
        self.now += ms
        for timer in self.timers.values():
            if isinstance(timer.trigger, float) and timer.trigger < self.now:
                timer.trigger = None

    def _forget(self, timer: Generation) -> None:
        self._unpoint(timer)
        del self.timers[timer.member]

    def _unpoint(self, timer: Generation) -> None:
        for pointers, field_ in ((self.names, timer.label), (self.ids, timer.id)):
            if pointers.get(field_) == timer.member:
                del pointers[field_]
