"""Storing new timers, the quick way: those without a name, of messages that have a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.errors import NamespaceTaken
from celery_redis_expiry.keys import compact, generations, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS
from celery_redis_expiry.store.rescuing import Rescuing
from celery_redis_expiry.template import Template
from celery_redis_expiry.timer import LATEST, Outcome, Request

#: How many at most: what a script of Redis can take out of a table at once has a bound.
MOST = 1000


def _is_plain(request: Request) -> bool:
    """Whether there is no more to be done about it than to store it."""
    return not (request.name or request.lying or request.token or request.max_wait is not None)


class Adding(Rescuing):
    async def add(self, requests: Sequence[Request]) -> list[Outcome] | None:
        """Store timers if all of them are new, and this way is open to them; None where nothing was stored.

        Raises as `Users.schedule` does.
        """
        k = self.keys
        members: list[str] = []
        triggers: list[str] = []
        timers: list[str | bytes] = []
        templates: dict[bytes, Template] = {}
        for request, generation in zip(requests, generations(len(requests)), strict=True):
            stored = request.stored
            parts = self.templates.split(stored) if stored is not None and _is_plain(request) else None
            new = None if parts is None else compact(request.id, generation)
            if parts is None or new is None:
                return None
            (template, rest), (member, handle) = parts, new
            templates[template.ref] = template
            members.append(member)
            triggers.append(k.trigger(member))
            timers += request.when, handle + template.ref + rest
        if len(members) > MOST:
            return None
        fixed = [self.owner, REMEMBER_MS, k.wake, LATEST, self.shards]
        keys = [k.due, k.timers, k.ids, k.pacers, k.namespace, k.answer(new_token()), k.templates, k.used]
        brought = self.templates.brought(templates.values())
        with self._translated():
            answer = await self.link.call("add", keys=keys + triggers, args=[*fixed, *brought, *timers])
        if not isinstance(answer, bytes):
            self.see_why([text(each) for each in answer[0]])
            return await self.add(requests)
        if not answer:
            return None
        self.templates.stored(brought)
        return [
            Outcome("scheduled", int(due), member, request.id)
            for due, member, request in zip(answer.split(), members, requests, strict=True)
        ]

    def see_why(self, answer: Sequence[Any]) -> None:
        """Return where a call that stored nothing, and why, is to be repeated; else raise why not."""
        status, _, about = answer[:3]
        if status == "foreign":
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} in {self.location.url} belongs to the app "
                f"{about!r}, this is {self.owner!r}: set another expiry_namespace"
            )
        if status == "shards":
            raise self.recut(about)
        self.templates.refused(status, about.encode(errors="surrogateescape"))
