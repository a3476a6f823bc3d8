"""Task ids and members that are made quickly are what the slow way makes."""

from __future__ import annotations

import uuid

from celery_redis_expiry.keys import (
    SHORT,
    compact,
    compact_member,
    generations,
    handle,
    member_of,
    new_id,
    place,
    place_of,
)


def test_an_id_is_a_uuid_as_celery_makes_it() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for id in ids:
        known = uuid.UUID(id)
        assert (str(known), known.version, known.variant) == (id, 4, uuid.RFC_4122)


def test_a_compact_member_and_its_handle() -> None:
    for generation in (b"\0" * SHORT, b"\xff" * SHORT, b"\xfb\xef\xbe\xfb", *generations(100)):
        id = new_id()
        found = compact(id, generation)
        assert found is not None
        member, its_handle = found
        assert member.endswith(f":{id}")
        assert (handle(member), member_of(its_handle)) == (its_handle, member)
        assert place(member) == place_of(id) == its_handle[:12]


def test_generations_differ() -> None:
    drawn = generations(50)
    assert {len(each) for each in drawn} == {SHORT}
    assert len(set(drawn)) == 50
    assert generations(0) == []


def test_what_is_no_uuid_has_none() -> None:
    for id in ("name", str(uuid.uuid4()).upper(), uuid.uuid4().hex, f"{uuid.uuid4()}\n"):
        assert compact(id, b"1234") is None
        assert compact_member(id) is None
