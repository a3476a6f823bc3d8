"""A reply lost at each script in turn: every public call still tells the truth, and does its work once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from celery_redis_expiry import cancel, get_timer, reschedule, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.blocking import run
from celery_redis_expiry.messages import prepare
from celery_redis_expiry.store import Delivery, Note, new_store, store_of
from celery_redis_expiry.worker.bounds import Bounds
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.settler import Settler
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.resp import Command
from tests.site import Site
from tests.waiting import eventually

ONE = {"due": 1, "timers": 1, "trigger": 1}
NAMED = {**ONE, "names": 1, "ids": 1}


def is_script(command: Command) -> bool:
    return command[0].upper() == "EVALSHA"


def schedule(site: Site) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600)
    assert result.remaining is not None
    assert 590 < result.remaining <= 600
    assert site.stored() == ONE


def schedule_or_raise(site: Site) -> None:
    """It must not take its own timer for another's."""
    schedule_on_expiry(site.record(1), seconds=600, key="mine", if_exists="raise")
    assert site.stored() == NAMED


def schedule_or_keep(site: Site) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600, key="mine", if_exists="keep")
    timer = get_timer("mine", app=site.app)
    assert timer is not None
    assert timer.id == result.id
    assert site.stored() == NAMED


def replace(site: Site) -> None:
    result = schedule_on_expiry(site.record(2), seconds=700, key="there")
    timer = get_timer("there", app=site.app)
    assert timer is not None
    assert timer.id == result.id
    assert timer.remaining is not None
    assert timer.remaining > 650
    assert site.stored() == NAMED


def extend(site: Site) -> None:
    before = get_timer("there", app=site.app)
    result = schedule_on_expiry(site.record(2), seconds=700, key="there", if_exists="extend")
    assert before is not None
    assert result.id == before.id
    assert result.remaining is not None
    assert result.remaining > 650
    assert site.stored() == NAMED


def debounce(site: Site) -> None:
    """The first call stays the first."""
    for seconds in (600, 650):
        result = schedule_on_expiry(site.record(1), seconds=seconds, key="mine", max_wait=650)
    timer = get_timer("mine", app=site.app)
    assert timer is not None
    assert timer.since is not None
    assert timer.id == result.id
    assert timer.remaining is not None
    assert 640 < timer.remaining <= 650
    assert site.stored() == NAMED


def move(site: Site) -> None:
    assert reschedule("there", seconds=700, app=site.app) is True
    timer = get_timer("there", app=site.app)
    assert timer is not None
    assert timer.remaining is not None
    assert timer.remaining > 650
    assert site.stored() == NAMED


def take_back(site: Site) -> None:
    assert cancel("there", app=site.app) is True
    assert site.stored() == {}


def recurring(site: Site) -> None:
    made = schedule_on_expiry(site.record(1), every=600, key="mine", if_exists="raise")
    assert made.timer is not None
    assert made.timer.every == "every 10 minutes"
    assert site.stored() == NAMED


def occurrence(site: Site) -> None:
    """An expiry worker's calls: one occurrence, and armed once."""
    made = schedule_on_expiry(site.record(1), 0, every=600, key="mine")
    planned = made.due
    assert planned is not None
    eventually(lambda: site.now() > planned.timestamp() + 0.001, what="its time")
    shard = store_of(site.app).shards[0]
    due = shard.claim([(str(shard.find("mine")), False)], token="first", lease=60).recurring
    occurrences, broken = Recurrence(site.app, Figures()).occurrences(shard, due)
    assert (len(occurrences), broken) == (1, {})
    claims = shard.claim(occurrences, token="second", lease=60)
    timer = made.timer
    assert timer is not None
    assert (timer.fired, timer.last_id) == (1, claims[0].id)
    assert timer.due == planned + timedelta(seconds=600)
    shard.ack("second", claims)
    run(shard._users.finish("mine", claims[0].id))
    assert not site.redis.get(site.key("running:mine"))
    assert site.stored() == NAMED


def dead_letter(site: Site) -> None:
    """An expiry worker's: it is counted, and the next occurrence does not wait for it."""
    made = schedule_on_expiry(site.record(1), 0, every=600, key="mine")
    planned = made.due
    assert planned is not None
    eventually(lambda: site.now() > planned.timestamp() + 0.001, what="its time")
    store = store_of(site.app)
    shard, figures = store.shards[0], Figures()
    due = shard.claim([(str(shard.find("mine")), False)], token="first", lease=60).recurring
    occurrences, _ = Recurrence(site.app, figures).occurrences(shard, due)
    [claim] = shard.claim(occurrences, token="second", lease=60)
    assert site.redis.get(site.key("running:mine"))
    settler = Settler(store, Lanes(1), "worker", Bounds(10, 86400), figures)
    settler.bury(claim, "no queue takes it")
    assert not site.redis.get(site.key("running:mine"))
    assert (figures.snapshot().buried, site.dead()) == (1, 1)
    # another's
    assert not store.bury(claim, "another reason", "worker")


def look_up(site: Site) -> None:
    timer = get_timer("there", app=site.app)
    assert timer is not None
    assert timer.name == "there"


def many(site: Site) -> None:
    results: list[Any] = []
    rows = [
        {"signature": site.record(n), "seconds": 600, "key": f"{n}", "if_exists": "raise"} for n in range(250)
    ]
    summary = schedule_many_on_expiry(rows, on_result=lambda _, result: results.append(result))
    assert (summary.scheduled, summary.errors) == (250, [])
    assert site.waiting() == 250
    assert len({result.id for result in results}) == 250


CALLS: dict[str, Callable[[Site], None]] = {
    call.__name__: call
    for call in (
        schedule,
        schedule_or_raise,
        schedule_or_keep,
        replace,
        extend,
        debounce,
        move,
        take_back,
        recurring,
        occurrence,
        dead_letter,
        look_up,
        many,
    )
}
NEEDS_ONE = (replace, extend, move, take_back, look_up)


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize("name", CALLS)
def test_the_truth_after_a_lost_reply(
    redis_server: RedisServer, make_site: Callable[..., Site], proxy: Proxy, name: str
) -> None:
    call = CALLS[name]
    site = make_site(expiry_redis_url=redis_server.url(port=proxy.port))

    def prepare() -> None:
        proxy.clear()
        site.reset()
        if call in NEEDS_ONE:
            schedule_on_expiry(site.record(1), seconds=600, key="there")
        proxy.clear()

    prepare()
    call(site)  # undisturbed: every script is loaded, and we see how many there are
    prepare()
    call(site)
    scripts = sum(1 for command in proxy.seen if is_script(command))
    assert scripts, f"no script seen: {proxy.counts()}"
    for nth in range(1, scripts + 1):
        prepare()
        proxy.drop_reply(is_script, nth=nth)
        call(site)
        assert len(proxy.dropped) == 1, f"script {nth} of {scripts} was not asked for"


def test_a_delivery_is_repeated_after_its_timer_fired(site: Site) -> None:
    """Its reply was lost, and a dispatcher was quick: what a watched key's expiry made comes once."""
    shard = new_store(site.app).shards[0]
    assert shard.lead("watch", "leader", 60) == "taken"
    shard.note("watch", "leader", [Note(b"session:1", 1000)], 10)
    stored = prepare(site.record("told"), site.app).stored
    delivery = Delivery("delivery", [b"session:1"], [stored])
    shard.deliver("watch", "leader", delivery)
    [member] = site.redis.zrange(site.key("due"), 0, -1)
    claims = shard.claim([(member, True)], token="claim", lease=60)
    assert shard.ack("claim", claims) == 1
    shard.deliver("watch", "leader", delivery)
    assert site.waiting() == 0
