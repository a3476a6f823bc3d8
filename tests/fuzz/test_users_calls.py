"""Whatever is stored, calls answer or raise an ExpiryError, and the operator's commands end in words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from celery_redis_expiry import (
    ExpiryError,
    cancel,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.store import store_of
from tests.fuzz.garbage import Damage, Victim, damages
from tests.fuzz.profiles import LIMIT, effort
from tests.servers.redis import RedisServer
from tests.site import Site

pytestmark = pytest.mark.timeout(LIMIT)

KEYS = ["due", "parked", "claimed", "dead", "pacers"]
KEYS += ["timers", "names", "ids", "claims", "reasons", "namespace"]
MODES = ["replace", "keep", "extend", "raise"]


@pytest.fixture
def quiet_site(redis_server: RedisServer, tmp_path: Path) -> Iterator[Site]:
    """A site without workers, on every Redis version."""
    site = Site(redis_server, tmp_path)
    yield site
    site.close()


@given(
    chosen=st.lists(damages, min_size=1, max_size=4),
    mode=st.sampled_from(MODES),
    broken=st.one_of(st.none(), st.none(), st.sampled_from(KEYS)),
)
@effort(examples=60, long=3000)
def test_calls_answer_or_raise_ours(
    quiet_site: Site, chosen: list[Damage], mode: str, broken: str | None
) -> None:
    site = quiet_site
    raw = site.server.raw_client()
    raw.flushdb()
    result = schedule_on_expiry(site.record(1), 3600, key="odd", app=site.app)
    victim = Victim(raw, site.key(""), raw.hget(site.key("names"), "odd") or b"", "odd", result.id)
    for damage in chosen:
        # the first may have taken away what the second damages
        with contextlib.suppress(Exception):
            damage.apply(victim)
    if broken:
        raw.delete(site.key(broken))
        raw.set(site.key(broken), "garbage")
    store = store_of(site.app)
    for call in (
        lambda: get_timer("odd", app=site.app),
        lambda: get_timer(result, app=site.app),
        lambda: (result.timer, result.due, result.remaining),
        lambda: store.counts(),
        lambda: store.dead_letters(),
        lambda: [store.retry(letter) for letter in store.dead_letters()],
        lambda: store.enter("redis://here"),
        lambda: reschedule("odd", 700, app=site.app),
        lambda: reschedule(result, 700, app=site.app),
        lambda: schedule_on_expiry(site.record(2), 60, key="odd", if_exists=mode, app=site.app).due,
        lambda: schedule_many_on_expiry([(site.record(3), 60)], app=site.app),
        lambda: cancel("odd", app=site.app),
        lambda: cancel(result, app=site.app),
        lambda: [store.discard(letter) for letter in store.dead_letters()],
    ):
        with contextlib.suppress(ExpiryError):
            call()
    raw.close()


def test_commands_end_in_words(shared_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = shared_redis(use="commands")
    server.reset()
    site = Site(server, tmp_path)
    raw: redis.Redis = site.server.raw_client()
    letters = {
        b"": b"\xff",
        b":": b"",
        b"nocolon": b"null",
        b"\xff:\xfe": b'{"reason": "\\ud800"}',
        b"a:\x1b[2J": b"\x1b",
        "a:ü€".encode(): b"[]",
    }
    raw.zadd(site.key("dead"), dict.fromkeys(letters, 1))
    raw.hset(site.key("reasons"), mapping=letters)
    raw.zadd(site.key("dead"), {b"a:never": "inf", b"a:gone": "-inf"})
    told = site.celery("-A", "ledger_app:app", "expiry", "dead", "list")
    assert "Traceback" not in told
    assert "\x1b" not in told
    assert "\\xfe" in told or "\\udcfe" in told, told
    told = site.celery("-A", "ledger_app:app", "expiry", "dead", "list", "--json")
    assert len(told.strip().splitlines()) >= 8
    told = site.celery("-A", "ledger_app:app", "expiry", "dead", "discard", "--yes", "nocolon", "never")
    assert "2 discarded" in told
    told = site.celery("-A", "ledger_app:app", "expiry", "dead", "discard", "--yes", "--all")
    assert "6 discarded" in told
    for key in ("due", "dead", "reasons"):
        raw.delete(site.key(key))
        raw.set(site.key(key), "garbage")
        for command in (["stats"], ["dead", "list"]):
            told = site.celery("-A", "ledger_app:app", "expiry", *command)
            assert "Traceback" not in told, told
    raw.close()
    site.close()
