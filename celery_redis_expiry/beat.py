"""`beat_schedule` as recurring timers: what `celery expiry sync-beat` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery.beat import BeatLazyFunc, ScheduleEntry, Scheduler

from celery_redis_expiry import steps
from celery_redis_expiry.arguments import Asked, checked, checked_name
from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import cancel_timer
from celery_redis_expiry.errors import InvalidTimer, StoreUnavailable
from celery_redis_expiry.messages import Prepared, print_of
from celery_redis_expiry.recurring import Plan, Recurring, in_words
from celery_redis_expiry.store import OWNER, Kept, Shard, Store, calls_of, store_of
from celery_redis_expiry.timer import Stored

#: How often an entry is tried anew whose timer fires, or is changed by others, just then.
ATTEMPTS = 20


@dataclass(frozen=True)
class Change:
    """What became of an entry, or of a timer that is none any more.

    Attributes:
        name: of the entry, and of its timer.
        what: `added`, `changed`, `removed`, `unchanged`, or `refused`: it can't be a timer.
        task: its name, "" for what was removed.
        schedule: in words; "" where it is not known.
        reason: why it was refused, else "".
    """

    name: str
    what: str
    task: str = ""
    schedule: str = ""
    reason: str = ""


def sync(app: Any, *, overlap: bool = True, remove: bool = True, dry: bool = False) -> Iterator[Change]:
    """Make the recurring timers that `beat_schedule` says, entry by entry, while they are taken.

    Repeating it changes nothing, and several at once do no harm. Timers of users' own are left alone.

    Arguments:
        overlap: whether occurrences may overlap, as they do with beat.
        remove: whether timers go whose entries are gone.
        dry: only tell.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
        StoreUnavailable: Redis can't be reached or refuses, also while they are taken.
    """
    # as beat does: handlers of on_after_configure and on_after_finalize add entries, too
    app.loader.import_default_modules()
    app.finalize()
    beat = _Sync(app, overlap, dry)
    entries = dict(_entries(app))
    for name, entry in sorted(entries.items()):
        yield beat.entry(name, entry)
    if remove:
        for name in sorted(beat.names() - set(entries)):
            found = beat.remove(name)
            if found is not None:
                yield found


def _entries(app: Any) -> Iterator[tuple[str, Mapping[str, Any] | ScheduleEntry]]:
    """The entries of `beat_schedule`, and those that beat adds by itself."""
    configured = dict(app.conf.beat_schedule or {})
    scheduler = Scheduler(app, lazy=True)
    scheduler.install_default_entries(configured)
    return iter({**scheduler.schedule, **configured}.items())


class _Sync:
    """One run."""

    def __init__(self, app: Any, overlap: bool, dry: bool) -> None:
        self._app = app
        self._overlap = overlap
        self._dry = dry
        self._store: Store = store_of(app)
        self._store.permit("beat")
        self._names = self._store.shards[0].beat_names()

    def names(self) -> set[str]:
        """Those of timers that this made, or another run before."""
        return set(self._names)

    def entry(self, name: Any, given: Mapping[str, Any] | ScheduleEntry) -> Change:
        """Make the timer of an entry what it should be."""
        task = schedule = ""
        try:
            entry = _entry(name, given, self._app)
            task = str(entry.task)
            asked = self._asked(entry)
            schedule = in_words(asked.every or {})
            prepared = steps.ready(asked)
            return Change(str(name), self._settle(asked, prepared), task, schedule)
        except InvalidTimer as exc:
            return Change(str(name), "refused", task, schedule, str(exc))

    def remove(self, name: str) -> Change | None:
        """Forget the timer of an entry that is gone; None if it was gone already, or is another's by now."""
        found = self._find(name)
        ours = found[1] if found is not None and found[1].owner == OWNER else None
        if self._dry:
            return Change(name, "removed") if ours is not None else None
        if ours is not None:
            cancelling = cancel_timer(calls_of(self._app), self._app, name, by_name=True, only=ours.member)
            if not run(cancelling):
                # what others made of it meanwhile the next run sees to, by this name
                return None
        self._store.shards[0].remove_beat_name(name)
        return Change(name, "removed") if ours is not None else None

    def _asked(self, entry: ScheduleEntry) -> Asked:
        lazy = [*(entry.args or ()), *(entry.kwargs or {}).values()]
        if any(isinstance(value, BeatLazyFunc) for value in lazy):
            raise InvalidTimer(
                "BeatLazyFunc is run by beat each time it sends; a timer's arguments are stored once. "
                "Have the task itself do it"
            )
        # expires and the like go on; what a timer can't have, steps.ready refuses
        signature = self._app.signature(
            entry.task, args=tuple(entry.args or ()), kwargs=dict(entry.kwargs or {})
        ).set(**dict(entry.options or {}))
        if entry.schedule is None:
            raise InvalidTimer("it has no schedule")
        return checked(signature, every=entry.schedule, key=entry.name, overlap=self._overlap, app=self._app)

    def _settle(self, asked: Asked, prepared: Prepared) -> str:
        assert asked.every is not None
        bound = steps.bound_of(asked)
        plan = Plan(asked.every, bound, OWNER, print_of(prepared.stored.content, asked.every, bound))
        for _ in range(ATTEMPTS):
            found = self._find(str(asked.name))
            if found is None:
                if self._dry or self._make(asked, prepared, "keep"):
                    return "added"
                continue
            shard, kept = found
            if kept.owner != OWNER or isinstance(kept.stored, Exception) or kept.stored.recurring is None:
                raise InvalidTimer(
                    "a timer of this name waits that is not of sync-beat: cancel it, or rename the entry"
                )
            if not self._dry:
                # it may have come from another Redis, by export and import
                self._remember(str(asked.name))
            recurring = kept.stored.recurring
            if recurring.plan.print == plan.print:
                return "unchanged"
            if self._dry:
                return "changed"
            if recurring.plan.schedule == plan.schedule:
                # its next occurrence stays, and what is known of the last ones
                stored = Stored(
                    kept.stored.id, prepared.stored.content, recurring=Recurring(plan, recurring.state)
                )
                if shard.revise(kept, stored):
                    return "changed"
            elif self._make(asked, prepared, "replace", kept.member):
                return "changed"
        raise StoreUnavailable(f"the timer {asked.name!r} is changed by others all the time: run it again")

    def _make(self, asked: Asked, prepared: Prepared, mode: str, only: str | None = None) -> bool:
        """Store a timer, perhaps in place of that `only`; False if another was faster."""
        self._remember(str(asked.name))
        mine = Prepared(prepared.stored, prepared.result, prepared.ignored)
        asked = asked._replace(mode=mode)
        id = run(steps.put_recurring(calls_of(self._app), asked, mine, owner=OWNER, only=only))
        return id == prepared.stored.id

    def _remember(self, name: str) -> None:
        if name not in self._names:
            self._store.shards[0].add_beat_name(name)
            self._names.add(name)

    def _find(self, name: str) -> tuple[Shard, Kept] | None:
        shard = self._store.home(name)
        member = shard.find(name)
        kept = shard.kept_as(member) if member is not None else None
        return (shard, kept) if kept is not None else None


def _entry(name: Any, given: Mapping[str, Any] | ScheduleEntry, app: Any) -> ScheduleEntry:
    """The entry as Celery reads it.

    Raises:
        InvalidTimer: it is none.
    """
    checked_name(name)
    if isinstance(given, ScheduleEntry):
        return given
    try:
        return ScheduleEntry(**{**given, "name": name, "app": app})
    except Exception as exc:
        raise InvalidTimer(f"it is no entry of beat_schedule: {exc}") from exc
