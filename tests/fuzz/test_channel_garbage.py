"""Anybody may publish whatever on the channels that a worker hears: it fires what is due, then rests."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from celery_redis_expiry import schedule_many_on_expiry
from tests.fuzz.garbage import raw as raw_bytes
from tests.fuzz.profiles import LIMIT, effort
from tests.fuzz.rounds import fired, forget, schedule_sane, settled
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT)

WAKE = [b"", b"!", b"!:", b"!\xff", b"!nowhere:x", b"!" + b"x" * 100_000]
WAKE += [b"inf", b"-inf", b"nan", b"-1", b"0", b"1", b"9" * 15, b"9" * 400, b"1e5", b"1.5", b" 1", b"\xff"]
WAKE += ["٣٣٣".encode(), "²".encode(), b"0x10", b"1_000"]
EVENTS = [b"expired", b"expire", b"del", b"set", b"persist", b"rename_to", b"subscribed", b"wake", b"\xff"]
MEMBERS = [b"", b":", b"a:b", b"\xff:x", b"a:\x1fprobe", b"\x1fprobe", b"x" * 100_000, b"{a}:{b}", b"*"]

#: (what stands after the prefix of our trigger keys, or None for the wake channel; the message)
messages = st.one_of(
    st.tuples(
        st.none(), st.one_of(st.sampled_from(WAKE), raw_bytes, raw_bytes.map(lambda text: b"!" + text))
    ),
    st.tuples(st.one_of(st.sampled_from(MEMBERS), raw_bytes), st.one_of(st.sampled_from(EVENTS), raw_bytes)),
)


@given(chosen=st.lists(messages, min_size=50, max_size=200))
@effort(examples=6, long=300)
def test_what_anybody_may_say(
    troubled_site: Site, troubled_worker: Worker, raw: redis.Redis, chosen: list[tuple[bytes | None, bytes]]
) -> None:
    site = troubled_site
    forget(site, raw)
    said = len(troubled_worker.log)
    sane = schedule_sane(site)
    for member, text in chosen:
        raw.publish(site.key("wake") if member is None else channel(site, member), text)
    eventually(lambda: set(fired(site)) >= sane, timeout=15, what=troubled_worker.process.tail)
    settled(site, troubled_worker)
    assert sorted(fired(site)) == sorted(sane)
    assert troubled_worker.process.running
    text = troubled_worker.log[said:]
    assert "Traceback" not in text, text
    assert len(text.splitlines()) < 10, text
    rests(site)


def test_events_that_lie(troubled_site: Site, troubled_worker: Worker, raw: redis.Redis) -> None:
    """What is not due does not fire, whoever says that it has expired."""
    site = troubled_site
    forget(site, raw)
    later = [(site.record(number).set(queue="sane"), 3600) for number in range(20)]
    assert schedule_many_on_expiry(later, app=site.app).scheduled == 20
    members = raw.zrange(site.key("due"), 0, -1)
    for member in members:
        for _ in range(20):
            raw.publish(channel(site, member), "expired")
            raw.publish(site.key("wake"), b"!" + member)
    sane = schedule_sane(site)
    eventually(lambda: set(fired(site)) >= sane, timeout=15, what=troubled_worker.process.tail)
    settled(site, troubled_worker)
    assert sorted(fired(site)) == sorted(sane)
    # their scores may have moved by a millisecond, and their order with it
    assert sorted(raw.zrange(site.key("due"), 0, -1)) == sorted(members)


def channel(site: Site, member: bytes) -> bytes:
    return f"__keyspace@0__:{site.key('trigger:')}".encode() + member


def rests(site: Site) -> None:
    """Until the worker asks next to nothing of Redis."""
    asked = [0]

    def little() -> bool:
        asked.append(int(site.redis.info("stats")["total_commands_processed"]))
        return asked[-1] - asked[-2] < 15

    eventually(little, every=0.5, what=lambda: f"rest; commands each half second: {asked}")
