"""Every argument of the public calls, checked before anything is stored; each error says what to do."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from celery import signature as as_signature
from celery.app import app_or_default
from celery.canvas import Signature
from celery.local import Proxy

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import is_ours
from celery_redis_expiry.recurring import LONGEST, SHORTEST, described
from celery_redis_expiry.timer import LATEST

IF_EXISTS = ("replace", "keep", "extend", "raise")
NAME_LENGTH = 256
#: How many keys a guard may have.
GUARD_KEYS = 16
#: When a timer is due that waits for a key, and not for a time.
NEVER = f"={LATEST}"
#: What is several tasks.
CANVASES = ("chain", "group", "chord", "chunks")
#: What an item of a bulk may say.
ITEM = {
    "signature",
    "seconds",
    "at",
    "key",
    "if_exists",
    "max_wait",
    "unless_exists",
    "only_if_exists",
    "app",
}


class Asked(NamedTuple):
    """A call of `schedule_on_expiry` whose arguments were found good.

    Attributes:
        app: the Celery app, never a proxy for it.
        signature: what to keep.
        when, mode, name, max_wait: see `timer.Request`.
        guard: what must be so for it to fire, or None.
        watched: the key whose expiry it waits for, or None.
        every: its schedule (see `recurring.described`), or None for one that fires once; then `when` is ""
            where the schedule says when it fires first.
        overlap: whether its occurrences may overlap; else after how many ms they may, or None for as many as
            the setting says.
    """

    app: Any
    signature: Signature
    when: str
    mode: str
    name: str | None
    max_wait: int | None
    guard: Guard | None
    watched: str | None
    every: dict[str, Any] | None = None
    overlap: bool | int | None = None


def checked(
    signature: Any,
    seconds: float | timedelta | None = None,
    *,
    at: datetime | None = None,
    key: str | None = None,
    if_exists: str = "replace",
    max_wait: float | timedelta | None = None,
    unless_exists: str | Collection[str] | None = None,
    only_if_exists: str | Collection[str] | None = None,
    watch: str | bytes | None = None,
    every: Any = None,
    overlap: bool | float | timedelta = False,
    app: Any = None,
) -> Asked:
    """The arguments of `schedule_on_expiry`, each checked.

    Raises:
        InvalidTimer: one of them is unusable.
    """
    signature = checked_signature(signature)
    app = app_of(app, signature)
    checked_choice(if_exists)
    watched = None if watch is None else checked_watch(watch, seconds, at, if_exists)
    schedule, may_overlap = None, None
    if every is not None:
        others = {
            "max_wait": max_wait,
            "watch": watch,
            "unless_exists": unless_exists,
            "only_if_exists": only_if_exists,
        }
        schedule = checked_every(every, if_exists, others)
    if schedule is not None or overlap is not False:
        may_overlap = checked_overlap(overlap, signature, schedule)
    if schedule is not None and seconds is None and at is None:
        when = ""
    else:
        when = checked_when(seconds, at, app) if watched is None else NEVER
    name = None if key is None else checked_name(key)
    bound = None if max_wait is None else checked_max_wait(max_wait, when, name)
    guard = checked_guard(unless_exists, only_if_exists)
    return Asked(app, signature, when, if_exists, name, bound, guard, watched, schedule, may_overlap)


def app_of(app: Any, signature: Signature | None = None) -> Any:
    """The app that was given, else the signature's, else the current one; never Celery's proxy for it."""
    app = app or (signature.app if signature is not None else None) or app_or_default()
    return app._get_current_object() if isinstance(app, Proxy) else app


def item_arguments(item: Any) -> dict[str, Any]:
    """The arguments of `schedule_on_expiry` that an item of a bulk stands for."""
    if type(item) is dict or (isinstance(item, Mapping) and not isinstance(item, Signature)):
        if not item.keys() <= ITEM or "signature" not in item:
            unknown = set(item) - ITEM
            if "every" in unknown:
                raise InvalidTimer(
                    "a recurring timer is not scheduled in bulk: give it to schedule_on_expiry"
                )
            raise InvalidTimer(
                "an item must be a (signature, seconds) pair or a dict of schedule_on_expiry's arguments; "
                + (f"unknown: {', '.join(sorted(map(str, unknown)))}" if unknown else "signature is missing")
            )
        return dict(item)
    if isinstance(item, tuple | list) and len(item) == 2:
        return {"signature": item[0], "seconds": item[1]}
    what = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
    raise InvalidTimer(
        f"an item must be a (signature, seconds) pair or a dict of schedule_on_expiry's arguments, not {what}"
    )


def target_of(target: Any, app: Any) -> tuple[str, Any, bool]:
    """(name or id, app, whether it may be a name) of what a user means."""
    if isinstance(target, str):
        if not target:
            raise InvalidTimer("the name or task id of the timer is empty")
        return target, app_of(app), True
    label = getattr(target, "label", None)
    if isinstance(label, str):
        # of a recurring timer
        return label, app_of(app or target.app), True
    id = getattr(target, "id", None)
    if isinstance(id, str):
        return id, app_of(app or getattr(target, "app", None)), False
    raise InvalidTimer(f"give the timer's name, its task id or its result, not {type(target).__name__}")


def checked_signature(value: Any) -> Signature:
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("task"), str):
        return as_signature(dict(value))
    hint = " (did you mean task.s(…)?)" if hasattr(value, "apply_async") or callable(value) else ""
    raise InvalidTimer(
        f"signature must be a Celery signature such as task.s(42), not {type(value).__name__}{hint}"
    )


def checked_choice(if_exists: Any) -> None:
    if if_exists not in IF_EXISTS:
        raise InvalidTimer(f"if_exists must be one of {', '.join(IF_EXISTS)}, not {if_exists!r}")


def checked_watch(watch: Any, seconds: Any, at: Any, if_exists: str) -> str | None:
    """The name of the key whose expiry a timer waits for, if it is to wait for one."""
    if watch is None:
        return None
    if not isinstance(watch, str | bytes) or not watch:
        raise InvalidTimer(f"watch must be the name of a key, not {watch!r}")
    if seconds is not None or at is not None:
        raise InvalidTimer("watch waits for a key to expire: leave out seconds and at")
    if if_exists == "extend":
        raise InvalidTimer(
            'extend keeps the old signature, and so what it waits for: use if_exists="replace"'
        )
    name = watch if isinstance(watch, str) else watch.decode(errors="surrogateescape")
    if "{expiry." in name:
        raise InvalidTimer(f"{watch!r} is a key of celery-redis-expiry itself")
    return name


def checked_every(every: Any, if_exists: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of a recurring timer as it is stored.

    Arguments:
        others: arguments that a recurring timer can't have, by their names.
    """
    given = next((name for name, value in others.items() if value is not None), None)
    if given is not None:
        raise InvalidTimer(
            f"{given} doesn't go with every: it is about a timer that fires once. Leave it out"
        )
    if if_exists == "extend":
        raise InvalidTimer(
            'extend keeps the old signature, and so its schedule: use if_exists="replace", or reschedule'
        )
    return described(every)


def checked_overlap(overlap: Any, signature: Signature, every: Any) -> bool | int | None:
    """Whether occurrences may overlap; else after how many ms they may, or None where the setting says."""
    canvas = signature.get("subtask_type") in CANVASES
    if overlap is False:
        if every is not None and canvas:
            raise InvalidTimer(
                f"nobody tells when all tasks of a {signature['subtask_type']} have ended: a recurring "
                "timer for a canvas needs overlap=True"
            )
        return None
    if every is None:
        raise InvalidTimer("overlap is about the occurrences of a recurring timer: it goes with every")
    if overlap is True:
        return True
    bound = _ms("overlap", overlap)
    if canvas or not SHORTEST <= bound <= LONGEST:
        raise InvalidTimer(
            "overlap must be True, for a canvas"
            if canvas
            else f"overlap must be True, False, or seconds of at least {SHORTEST / 1000:g}, not {overlap}"
        )
    return bound


def checked_name(key: Any) -> str | None:
    return None if key is None else _checked_text("key", key)


def _checked_text(argument: str, text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidTimer(f"{argument} must be a name of at least one character, not {text!r}")
    if len(text) > NAME_LENGTH:
        raise InvalidTimer(f"{argument} has {len(text)} characters, at most {NAME_LENGTH} are allowed")
    bad = next((char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise InvalidTimer(f"{argument} {text!r} has the control character {bad!r}: leave it out")
    return text


def checked_guard(unless_exists: Any, only_if_exists: Any) -> Guard | None:
    """The guard that both make, or None where there is none."""
    if unless_exists is None and only_if_exists is None:
        return None
    guard = Guard(
        _checked_keys("unless_exists", unless_exists), _checked_keys("only_if_exists", only_if_exists)
    )
    if len(guard.keys) > GUARD_KEYS:
        raise InvalidTimer(f"the guard has {len(guard.keys)} keys, at most {GUARD_KEYS} are allowed")
    both = set(guard.unless_exists) & set(guard.only_if_exists)
    if both:
        raise InvalidTimer(f"the timer could never fire: {min(both)!r} must exist, and must not")
    return guard if guard.keys else None


def _checked_keys(argument: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list | tuple | set | frozenset) or not given:
        raise InvalidTimer(f"{argument} must be a key, or a list of at least one, not {given!r}")
    keys = tuple(dict.fromkeys(_checked_text(argument, key) for key in given))
    ours = next(filter(is_ours, keys), None)
    if ours is not None:
        raise InvalidTimer(f"{argument} {ours!r} is a key of the timers' own: give one of yours")
    return keys


def checked_max_wait(max_wait: Any, when: str, key: Any) -> int | None:
    """The bound of a debounce in ms.

    Arguments:
        when: as `checked_when` answered.
    """
    if max_wait is None:
        return None
    if key is None:
        raise InvalidTimer("max_wait needs key=: by that name the calls of a debounce know each other")
    if not when.startswith("+"):
        raise InvalidTimer("max_wait goes with seconds, which each call starts again; at is one time")
    bound = _ms("max_wait", max_wait)
    if bound < int(when):
        raise InvalidTimer(f"max_wait={max_wait} is less than seconds: already the first call would be cut")
    return bound


def checked_when(seconds: Any, at: Any, app: Any) -> str:
    """`+ms` or `=ms`, as the schedule script takes it."""
    if (seconds is None) == (at is None):
        raise InvalidTimer("give either seconds (the delay) or at (the time), and not both")
    if at is not None:
        if not isinstance(at, datetime):
            raise InvalidTimer(f"at must be a datetime, not {type(at).__name__}")
        if at.tzinfo is None:
            at = at.replace(tzinfo=app.timezone)
        try:
            return f"={max(0, math.ceil(at.timestamp() * 1000))}"
        except (OverflowError, ValueError, OSError) as exc:
            raise InvalidTimer(f"at can't be converted to a time: {exc}") from exc
    return f"+{_ms('seconds', seconds)}"


def _ms(argument: str, seconds: Any) -> int:
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidTimer(f"{argument} must be a number or a timedelta, not {type(seconds).__name__}")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise InvalidTimer(f"{argument} must be finite, not {seconds}")
    if seconds < 0:
        raise InvalidTimer(f"{argument} must be at least 0, not {seconds}")
    if seconds * 1000 > LATEST:
        raise InvalidTimer(f"{argument}={seconds} lies beyond the year 9999: give fewer")
    return round(seconds * 1000)
