"""Queues and exchanges of a stored message: described when it is stored, restored to be declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu.entity import Exchange, Queue, binding


def describe(entity: Any, app: Any) -> Any:
    """A queue by its name where the app knows it just so, else in full."""
    if isinstance(entity, Queue):
        known = dict.get(app.amqp.queues, entity.name)
        if known is entity or (known and known.as_dict(recurse=True) == entity.as_dict(recurse=True)):
            return entity.name
        return {"queue": entity.as_dict(recurse=True)}
    return {"exchange": entity.as_dict(recurse=True)}


def restore(description: Any, app: Any) -> Any:
    if isinstance(description, str):
        # what this worker's configuration does not know was declared by those who scheduled
        return dict.get(app.amqp.queues, description)
    if "exchange" in description:
        return _exchange(description["exchange"])
    attributes = dict(description["queue"])
    attributes["exchange"] = _exchange(attributes.get("exchange"))
    attributes["bindings"] = [
        binding(_exchange(each.pop("exchange")), **each)
        for each in map(dict, attributes.get("bindings") or ())
    ]
    return Queue(**attributes)


def _exchange(attributes: Mapping[str, Any] | None) -> Exchange | None:
    return Exchange(**attributes) if attributes else None
