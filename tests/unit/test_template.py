"""Templates: what is split is filled again, exactly; what varies by nature makes no template of its own."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from celery import Celery
from celery.canvas import Signature
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_redis_expiry.keys import compact_member, handle, member_of, place, place_of
from celery_redis_expiry.messages import prepare
from celery_redis_expiry.template import REF, Template, split
from celery_redis_expiry.timer import Stored, Undecodable, ref_of

app = Celery("templates", broker="redis://nowhere.invalid/0", set_as_current=False)


@app.task(shared=False, name="shop.remind")
def remind(*args: Any, **kwargs: Any) -> None: ...


def sent(*args: Any, **kwargs: Any) -> Signature:
    return remind.s(*args, **kwargs)


SIGNATURES = [
    sent(),
    sent(42),
    sent(42, "friend-7"),
    sent(1, a=2),
    sent("it's", 'a "quote"', "ü\0\u2028", None, True, 1.5),
    sent(["nested", {"callbacks": 1}], {"x": [{"callbacks": 3}]}),
    sent("], {}"),
    sent("'"),
    sent(b"bytes"),
    *(sent(1, "ü").set(serializer=name) for name in ("yaml", "pickle")),
    sent(1).set(compression="zlib"),
    sent(1).set(priority=3, queue="other"),
    sent(1).set(headers={"traceparent": "00-1-2-01", "nul": "\0"}),
    sent(1).set(expires=30),
    sent(1).set(link=sent(2), link_error=sent(3)),
    sent(1).set(shadow="alias", retries=2, root_id="root", parent_id="parent", group_id="group"),
    sent("x" * 5000),
]


def stored_of(signature: Signature) -> Stored:
    stored: Stored = prepare(signature, app).stored
    return stored


@pytest.mark.parametrize("signature", SIGNATURES, ids=range(len(SIGNATURES)))
def test_what_is_split_is_filled_again(signature: Signature) -> None:
    stored = stored_of(signature)
    parts = stored.split()
    assert parts is not None
    template, rest = parts
    assert Template.read(template.text).fill(rest, stored.id) == stored.content
    member = compact_member(stored.id)
    assert member is not None
    for each in (member, "twelve-chars:name"):
        record = stored.encode_split(each, template, rest)
        assert ref_of(record) == template.ref
        decoded = Stored.decode(record, each, {template.ref: template})
        assert (decoded.id, decoded.content) == (stored.id, stored.content)
        with pytest.raises(Undecodable, match="template"):
            Stored.decode(record, each)


def test_a_timer_keeps_a_hundredth_of_its_message() -> None:
    stored = stored_of(sent(42, "friend-7"))
    parts = stored.split()
    assert parts is not None
    record = stored.encode_split(str(compact_member(stored.id)), *parts)
    assert len(record) == len(b"\x03") + 9 + REF + 1 + len('[42, "friend-7"]')
    assert len(record) * 20 < len(stored.encode())


def test_calls_of_a_kind_have_one_template() -> None:
    kinds = {
        stored_of(signature).split()[0].ref  # type: ignore[index]
        for signature in (
            sent(1),
            sent("two", 3),
            sent().set(root_id="a", parent_id="b"),
            sent().set(group_id="g", headers={"traceparent": "other"}),
        )
    }
    # those that have a root of their own, those of another's, and those of a group
    assert len(kinds) == 3
    assert len({stored_of(sent(n).set(headers={"trace": str(n)})).split()[0].ref for n in range(5)}) == 1  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(kind="canvas"),
        lambda content: content.update(watch={"key": "cart:42"}),
        lambda content: content["arguments"].update(expiration=3),
        lambda content: content["arguments"].update(correlation_id="other"),
        lambda content: content["arguments"]["headers"].update(stamps={"s": 1}),
        lambda content: content["arguments"]["headers"].update(id="other"),
        lambda content: content["arguments"]["headers"].pop("argsrepr"),
        lambda content: content["arguments"].pop("headers"),
    ],
)
def test_what_must_be_stored_whole(change: Any) -> None:
    stored = stored_of(sent(1))
    change(stored.content)
    assert split(stored.content, stored.id) is None


@settings(max_examples=30)
@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()), st.data()
)
def test_any_arguments(args: list[Any], data: st.DataObject) -> None:
    kwargs = data.draw(st.dictionaries(st.text(min_size=1), st.text() | st.integers()))
    stored = stored_of(sent(*args, **kwargs))
    parts = stored.split()
    assert parts is not None
    assert parts[0].fill(parts[1], stored.id) == stored.content


@given(st.data())
def test_damage_never_crashes(data: st.DataObject) -> None:
    stored = stored_of(sent(1, a="b"))
    template, rest = stored.split()  # type: ignore[misc]
    member = str(compact_member(stored.id))
    record = bytearray(stored.encode_split(member, template, rest))
    del record[data.draw(st.integers(1, len(record))) :]
    record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Undecodable):
        Stored.decode(bytes(record), member, {template.ref: template})


@given(st.uuids())
def test_a_member_comes_back_from_its_handle(uuid: Any) -> None:
    member = compact_member(str(uuid))
    assert member is not None
    raw = handle(member)
    assert isinstance(raw, bytes)
    assert member_of(raw) == member
    assert raw.startswith(place(member))  # type: ignore[arg-type]
    assert place(member) == place_of(str(uuid))


@pytest.mark.parametrize(
    "member",
    [
        "",
        "no colon",
        "twelve-chars:name",
        "sixsix:name",
        "sixsix:7E3F0A52-1111-4111-8111-000000000000",
        "ü:x",
    ],
)
def test_other_members_stand_as_they_are(member: str) -> None:
    assert handle(member) == place(member) == member
    assert member_of(member.encode()) == member
