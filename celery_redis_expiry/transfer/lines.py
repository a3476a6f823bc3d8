"""The lines of an exported file: what they are, and whether they can be what was exported.

The first line says what the file is; each further one is a timer or a dead letter, in the words of
`timer.Lain`; the last one counts them, so that a file that was cut off is noticed. Bytes that are no UTF-8
are kept as Python's `surrogateescape` has them, so all of it is ASCII.
"""

from __future__ import annotations

import json
import re
from typing import Any

from celery_redis_expiry.errors import BadExport
from celery_redis_expiry.keys import text
from celery_redis_expiry.timer import FORMAT, LATEST, Lain, Stored

#: Version of the file; a release reads its own and older ones.
VERSION = 1
#: States as users know them, and where such timers lie.
HOMES = {"waiting": "due", "parked": "parked", "dead": "dead"}
#: The fields of a line, and what they must be.
FIELDS = {
    **dict.fromkeys(("member", "id", "home"), str),
    "score": int,
    "expiry": str,
    **dict.fromkeys(("named", "known"), bool),
    **dict.fromkeys(("record", "claim", "reason"), str),
}


def parsed(line: str) -> Any:
    """The JSON of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def header(line: str) -> dict[str, Any]:
    """The first line of a file.

    Raises:
        BadExport: it is none that this release reads.
    """
    try:
        told = parsed(line)
        version, stored = int(told["celery_redis_expiry"]), int(told["format"])
    except (ValueError, TypeError, KeyError, OverflowError) as exc:
        raise BadExport("this is no file of celery expiry export: its first line is not the header") from exc
    if version > VERSION or stored > FORMAT:
        raise BadExport(
            f"the file has version {version} and format {stored}, this release reads {VERSION} and {FORMAT}: "
            "upgrade"
        )
    return dict(told)


def written(item: Lain) -> str:
    """The line of a timer or dead letter, without its end."""
    return json.dumps(vars(item) | {"record": text(item.record)})


def read(data: Any) -> Lain:
    """What a line holds.

    Raises:
        ValueError: it can't be what was exported.
        Undecodable: its stored message is damaged, or of a newer release. A dead letter's may be.
    """
    if not isinstance(data, dict) or set(data) != set(FIELDS):
        raise ValueError(f"it must have the fields {', '.join(FIELDS)}")
    for name, kind in FIELDS.items():
        if type(data[name]) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, not {data[name]!r}")
    item = Lain(**data | {"record": data["record"].encode(errors="surrogateescape")})
    if item.home not in HOMES.values():
        raise ValueError(f"home must be one of {', '.join(HOMES.values())}, not {item.home!r}")
    if not 0 <= item.score <= LATEST:
        raise ValueError(f"score must be ms since the epoch, not {item.score}")
    if not re.fullmatch(r"-?|[0-9]{1,15}", item.expiry):
        raise ValueError(f"expiry must be ms since the epoch, - or empty, not {item.expiry!r}")
    if not re.fullmatch(r"|-:[0-9]{1,15}:[0-9]{1,9}(:\?)?", item.claim):
        raise ValueError(f"claim is damaged: {item.claim!r}")
    if not item.member or not item.id:
        raise ValueError("member and id can't be empty")
    for name in ("member", "id", "reason"):
        data[name].encode(errors="surrogateescape")  # what Redis can't have had is a ValueError
    if item.home != "dead" and Stored.decode(item.record).id != item.id:
        raise ValueError("the task id in its record is another")
    return item
