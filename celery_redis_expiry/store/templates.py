"""The templates of a shard's stored messages: brought with the first message of a kind, read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from celery_redis_expiry.keys import Keys
from celery_redis_expiry.store.link import AnyLink
from celery_redis_expiry.template import Template, template
from celery_redis_expiry.timer import Stored, Undecodable, ref_of

#: How many read templates are remembered.
MOST = 10_000


class Templates:
    """What this process knows of the templates in Redis.

    Arguments:
        link: the way to Redis.
        keys: of the shard.
    """

    def __init__(self, link: AnyLink, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._read: dict[bytes, Template] = {}
        self._there: set[bytes] = set()
        self._clashing: set[bytes] = set()

    # -- storing

    def split(self, stored: Stored) -> tuple[Template, bytes] | None:
        """The template of a message, and what differs; None where it must be stored whole."""
        parts = stored.split()
        return None if parts is None or parts[0].ref in self._clashing else parts

    def brought(self, templates: Iterable[Template]) -> list[bytes | int]:
        """How many, and pairs of name and text, as scripts take them: without the text where it is there."""
        pairs: dict[bytes, bytes] = {
            each.ref: b"" if each.ref in self._there else each.text for each in templates
        }
        flat: list[bytes | int] = [len(pairs)]
        for pair in pairs.items():
            flat += pair
        return flat

    def stored(self, brought: Sequence[Any]) -> None:
        """The script has taken them."""
        self._there.update(brought[1::2])

    def refused(self, problem: str, ref: bytes) -> None:
        """The script has not: one is lacking, or is another's by its name; the call is to be repeated."""
        if problem == "clash":
            self._clashing.add(ref)
        self._there.discard(ref)

    # -- reading

    async def decoded(self, rows: Iterable[tuple[str, bytes]]) -> list[Stored | Undecodable]:
        """What the stored messages of these members say, or why that can't be told.

        Arguments:
            rows: member and record.

        Raises:
            redis.RedisError: a template is not known yet, and Redis can't be asked.
        """
        rows = list(rows)
        known = await self._learn({ref_of(record) for _, record in rows})
        found: list[Stored | Undecodable] = []
        for member, record in rows:
            try:
                found.append(Stored.decode(record, member, known))
            except Undecodable as exc:
                found.append(exc)
        return found

    async def named(self, ref: bytes) -> Template | None:
        """The template of this name; None where it is missing or damaged. Raises as `decoded` does."""
        return (await self._learn({ref})).get(ref)

    async def _learn(self, refs: set[bytes | None]) -> dict[bytes, Template]:
        """Those that are known then. Another thread may begin anew meanwhile, with a dict of its own."""
        read = self._read
        unknown = [ref for ref in refs if ref is not None and ref not in read]
        if not unknown:
            return read
        if len(read) > MOST:
            read = self._read = {}
            unknown = [ref for ref in refs if ref is not None]
        texts = await self._link.execute("HMGET", self._keys.templates, *unknown)
        for ref, text in zip(unknown, texts, strict=True):
            try:
                found = template(text or b"")
            except Exception:
                continue  # whoever needs it says so
            if found.ref == ref:
                read[ref] = found
        return read
