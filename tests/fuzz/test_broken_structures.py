"""A whole key replaced by one of another type: the worker says so, waits, and goes on when it is mended."""

from __future__ import annotations

import pytest
import redis

from tests.fuzz.rounds import fired, forget, schedule_sane, settled
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually

#: Without these nothing can fire.
VITAL = ("due", "timers", "claims")
#: Without these nothing can be claimed; what fires in place does without.
CLAIMING = ("parked", "claimed")
OTHERS = ("dead", "reasons", "pacers", "namespace")
#: Without these nothing can be acked: what was published stays claimed, and is not published again.
POINTERS = ("names", "ids")


@pytest.mark.parametrize("broken", [*zip(VITAL + CLAIMING), POINTERS, OTHERS], ids=" ".join)
def test_it_goes_on_when_mended(
    troubled_site: Site, troubled_worker: Worker, raw: redis.Redis, broken: tuple[str, ...]
) -> None:
    site, keys = troubled_site, [troubled_site.key(name) for name in broken]
    forget(site, raw)
    said = len(troubled_worker.log)
    sane = schedule_sane(site)
    kept = {key: raw.dump(key) for key in keys}
    for key in keys:
        raw.set(key, b"\xffgarbage")
    past = site.now() + 1
    if broken != OTHERS:
        eventually(lambda: "WRONGTYPE" in troubled_worker.log[said:], what=troubled_worker.process.tail)
    eventually(lambda: site.now() > past, what="all fell due meanwhile")
    assert troubled_worker.process.running
    if broken[0] in VITAL:
        assert fired(site) == []
    for key, value in kept.items():
        raw.delete(key)
        if value is not None:
            raw.restore(key, 0, value)
    eventually(lambda: set(fired(site)) >= sane, timeout=30, what=troubled_worker.process.tail)
    settled(site, troubled_worker)
    # what goes on failing is told of once: who still waits would say nothing of what the next round breaks
    eventually(lambda: waiting(troubled_worker.log[said:]) == 0, what=troubled_worker.process.tail)
    assert sorted(fired(site)) == sorted(sane)
    text = troubled_worker.log[said:]
    assert "Traceback" not in text, text
    assert len(text.splitlines()) < 20, text
    assert site.stored() == {}


def waiting(text: str) -> int:
    """How many parts of the worker still wait for Redis to answer, by its log."""
    return text.count("trying again until it answers") - text.count("Redis answers again")
