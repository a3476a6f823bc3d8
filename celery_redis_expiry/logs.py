"""The structured fields of log lines, for who collects logs as JSON. Their table is in docs/monitoring.md."""

from __future__ import annotations

from typing import Any


def log_fields(event: str, **fields: Any) -> dict[str, Any]:
    """What a line gives as `extra`: stable names, however its words change.

    Arguments:
        event: what happened, in a word that stays.
    """
    return {"expiry_event": event, **{f"expiry_{name}": value for name, value in fields.items()}}
