"""Real workers and the command line under the users of docs/settings.md, in all that can befall them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import group

from celery_redis_expiry import get_timer, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.keys import place
from tests.documented_acl import CONFIGURES, OPERATOR, PRODUCER, WORKER, denied, forget_denied, make_user
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(150)
LEASE = 5
BATCH = 20


@pytest.fixture
def broker(shared_redis: Callable[..., RedisServer]) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", shared_redis(use="beside").port))
    yield proxy
    proxy.close()


class Stage:
    """Timers on a Redis of their own, seen by each role as its user."""

    def __init__(self, server: RedisServer, make_site: Any, beside: RedisServer, broker: Proxy) -> None:
        server.reset()
        forget_denied(server)
        self.server = server

        def site(user: str, *roles: Any) -> Site:
            made: Site = make_site(
                server,
                beside=beside,
                broker=beside.url(port=broker.port),
                expiry_redis_url=make_user(server, user, *roles),
                expiry_lease=LEASE,
                expiry_batch_size=BATCH,
                expiry_follow_foreign_ttl=True,
            )
            return made

        self.full: Site = make_site(server, beside=beside, broker=beside.url(port=broker.port))
        self.producer = site("producer", PRODUCER)
        self.operator = site("operator", OPERATOR)
        self.worker = site("worker", WORKER, CONFIGURES)
        self.unconfigured = site("unconfigured", WORKER)

    def schedule(self, count: int, seconds: float = 0) -> None:
        items = ((self.producer.record(number), seconds) for number in range(count))
        assert schedule_many_on_expiry(items).scheduled == count

    def trigger(self, seconds: float) -> str:
        """Schedule one; answers its trigger key."""
        timer = schedule_on_expiry(self.producer.record("one"), seconds=seconds)
        found = get_timer(timer)
        assert found is not None
        return found.trigger_key

    def queued(self) -> int:
        return int(self.full.queues.llen("celery"))

    def refused(self) -> dict[str, set[str]]:
        found = {
            user: denied(self.server, user) for user in ("producer", "operator", "worker", "unconfigured")
        }
        return {user: what for user, what in found.items() if what}


@pytest.fixture
def stage(
    redis_server: RedisServer, make_site: Any, shared_redis: Callable[..., RedisServer], broker: Proxy
) -> Stage:
    return Stage(redis_server, make_site, shared_redis(use="beside"), broker)


def publishes(command: tuple[str, ...]) -> bool:
    return command[0].upper() in ("LPUSH", "RPUSH") and len(command) > 1 and command[1] == "celery"


def test_an_expiry_worker_in_all_that_befalls_it(stage: Stage, broker: Proxy) -> None:
    redis, key = stage.full.redis, stage.full.key
    # more is due than two batches: the newest are read from the other end
    stage.schedule(10 * BATCH)
    first = stage.worker.expiry("first")
    first.wait_for("notifications on")
    eventually(lambda: stage.queued() == 10 * BATCH, what=lambda: f"the backlog\n{first.process.tail()}")

    # the broker takes its time: what is claimed is prolonged; then the worker dies
    broker.hold_at(publishes)
    parts = group(stage.producer.record("part"), stage.producer.record("part"))
    schedule_on_expiry(parts, seconds=0)
    eventually(lambda: broker.holding, what="it publishes")

    def lease_end() -> float:
        return max((score for _, score in redis.zrange(key("claimed"), 0, -1, withscores=True)), default=0)

    end = lease_end()
    assert end
    eventually(lambda: lease_end() > end, what=lambda: f"a longer lease\n{first.process.tail()}")
    first.kill()
    broker.clear()
    second = stage.worker.expiry("second")
    second.wait_for("recovered .* timers")
    stage.full.wait_forgotten()

    # the broker goes away while it publishes: released, and published again
    broker.hold_at(publishes)
    stage.schedule(1)
    eventually(lambda: broker.holding, what="it publishes")
    broker.refuse()
    broker.release()
    second.wait_for("the broker's answer to .* was lost")
    broker.accept_again()
    stage.full.wait_forgotten()

    # a record that nobody can read
    member = stage.trigger(1).partition(":trigger:")[2]
    redis.hset(key("timers"), place(member), "\x01no message at all")
    eventually(lambda: stage.full.dead() == 1, what="a dead letter")

    # other clients move, park and wake trigger keys
    later, parked, sooner = stage.trigger(1), stage.trigger(600), stage.trigger(600)
    redis.expire(later, 3)
    redis.persist(parked)
    eventually(lambda: redis.zcard(key("parked")) == 1, what="parked")
    before = stage.queued()
    redis.expire(sooner, 1)
    redis.expire(parked, 1)
    eventually(lambda: stage.queued() == before + 3, what=lambda: f"all three\n{second.process.tail()}")
    assert second.stop() == 0
    assert redis.zcard(key("pacers")) <= 1  # the killed one's
    assert stage.refused() == {}


def test_an_expiry_worker_that_lacks_a_right(stage: Stage) -> None:
    """It touches nothing, says what it lacks, and goes on once that is granted."""
    stage.full.redis.execute_command("ACL SETUSER", "worker", "-zadd", "-hset")
    stage.schedule(5)
    worker = stage.worker.expiry(ready=False)
    worker.wait_for(r"'worker' lacks, as worker: \+hset \+zadd .*trying again")
    assert stage.full.redis.zcard(stage.full.key("due")) == 5
    stage.full.redis.execute_command("ACL SETUSER", "worker", "+zadd", "+hset")
    eventually(lambda: stage.queued() == 5, what=lambda: f"fired\n{worker.process.tail()}")
    assert worker.stop() == 0


def test_an_expiry_worker_that_may_not_configure(stage: Stage) -> None:
    """What it is refused is CONFIG alone; that it says, and is on time."""
    worker = stage.unconfigured.expiry()
    worker.wait_for(r"WARNING.*the server refuses CONFIG")
    stage.schedule(5, seconds=0.5)
    eventually(lambda: stage.queued() == 5, what=lambda: f"fired\n{worker.process.tail()}")
    assert worker.stop() == 0
    assert stage.refused() in ({"unconfigured": {"config|get"}}, {"unconfigured": {"config"}})


def test_an_operator(stage: Stage) -> None:
    worker = stage.worker.expiry()
    redis, timers = stage.full.redis, stage.full.key("timers")
    members, records = {}, {}
    for name in ("mended", "hopeless"):
        schedule_on_expiry(stage.producer.record(name), seconds=1, key=name)
        members[name] = redis.hget(stage.full.key("names"), name)
        records[name] = redis.hget(timers, members[name])
        redis.hset(timers, members[name], "\x01no message at all")
    eventually(lambda: stage.full.dead() == 2, what=lambda: f"dead letters\n{worker.process.tail()}")
    redis.hset(timers, members["mended"], records["mended"])

    def expiry(*arguments: str) -> str:
        return stage.operator.celery("-A", "ledger_app:app", "expiry", *arguments)

    assert "dead  2" in expiry("stats")
    told = expiry("dead", "list")
    assert "mended" in told
    assert "hopeless" in told
    assert "1 wait again" in expiry("dead", "retry", "mended")
    eventually(lambda: stage.queued() == 1, what=lambda: f"fired\n{worker.process.tail()}")
    assert "1 discarded" in expiry("dead", "discard", "--all", "--yes")
    assert "adopted" in expiry("adopt", "--yes")
    assert stage.refused() == {}
