"""Stored records: what is written is read, what is damaged is a dead letter and no crash."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_redis_expiry.timer import Stored, Undecodable

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.text(min_size=1).filter(lambda text: text.isprintable()),
    # guard and since are the record's own
    st.dictionaries(st.text().filter(lambda name: name not in ("guard", "since")), json_values).filter(
        lambda content: "__type__" not in str(content)
    ),
)
def test_round_trip(id: str, content: dict) -> None:
    decoded = Stored.decode(Stored(id, content).encode())
    assert decoded.id == id
    assert decoded.content == content


@given(st.binary())
def test_random_bytes(record: bytes) -> None:
    with pytest.raises(Undecodable):
        Stored.decode(record)


@given(st.data())
def test_one_changed_byte_never_crashes(data: st.DataObject) -> None:
    record = bytearray(Stored("id", {"kind": "message", "task": "t", "body": "[]"}).encode())
    record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Undecodable):
        Stored.decode(bytes(record))


def test_a_later_format_is_named() -> None:
    with pytest.raises(Undecodable, match="format 9"):
        Stored.decode(b"9:2:id{}")
