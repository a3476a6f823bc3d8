"""Queues and exchanges of a stored message: described when it is stored, restored to be declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu.entity import Exchange, Queue, binding


def describe(entity: Any, app: Any) -> Any:
    """A queue of the configuration by its name, anything else in full.

    Queues that Celery made up because the configuration lacks them are declared by whoever publishes first;
    the expiry worker, which never heard of them, must be able to.
    """
    if isinstance(entity, Queue):
        known = dict.get(app.amqp.queues, entity.name) if entity.name in _configured(app) else None
        if known is entity or (known and known.as_dict(recurse=True) == entity.as_dict(recurse=True)):
            return entity.name
        return {"queue": entity.as_dict(recurse=True)}
    return {"exchange": entity.as_dict(recurse=True)}


def _configured(app: Any) -> set[str]:
    """The names of the queues in the app's configuration."""
    queues = app.conf.task_queues
    if not queues:
        return {app.conf.task_default_queue}
    if isinstance(queues, Mapping):
        return set(queues)
    return {getattr(queue, "name", queue) for queue in queues}


def restore(description: Any, app: Any) -> Any:
    """The entity that was described, or None for a queue that this worker's configuration lacks."""
    if isinstance(description, str):
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
