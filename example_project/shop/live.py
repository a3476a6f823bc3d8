"""Pages that stay up to date while one looks at them.

What changes in a page comes in lists of pieces. They are rendered here and nowhere else: into the page at
first, then as JSON for `live.js`, which replaces the pieces whose version has changed. So a page says the
same without JavaScript.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from celery_redis_expiry import Timer
from django.template.loader import render_to_string

Lists = Mapping[str, Sequence["Piece"]]


@dataclass(frozen=True)
class Piece:
    """One part of a page.

    Attributes:
        id: the id of its element.
        html: what is in that element. A time is written as a moment, never as what remains of it, so that a
            piece that has nothing new to say stays as it is.
    """

    id: str
    html: str

    @property
    def version(self) -> str:
        return f"{crc32(self.html.encode()):08x}"


def piece(id: str, template: str, **context: Any) -> Piece:
    return Piece(id, render_to_string(template, context))


def as_json(now: float | None, lists: Lists) -> dict[str, Any]:
    """The answer to `live.js`; `now` is what `redis_now` said."""
    return {
        "now": now,
        "lists": {
            name: [{"id": one.id, "version": one.version, "html": one.html} for one in pieces]
            for name, pieces in lists.items()
        },
    }


def redis_now(timers: Iterable[Timer]) -> float | None:
    """Unix time on the clock that timers go by, Redis's, as one of these tells it; None where none can.

    A browser's clock may be wrong by minutes, and so would be a countdown that relied on it.
    """
    for timer in timers:
        if timer.due is not None and timer.remaining:
            return timer.due.timestamp() - timer.remaining
    return None
