"""Replies get lost: Redis did it, the caller does not know. Every call tells the truth all the same."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator

import pytest

from celery_redis_expiry import cancel, get_timer, reschedule, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.scripts import NAMES, program
from tests.servers.proxy import Proxy
from tests.servers.resp import Command
from tests.site import Site, once_each
from tests.waiting import eventually


def script_names() -> dict[str, str]:
    """The name of each script by its SHA1."""
    return {hashlib.sha1(program(name).encode()).hexdigest(): name for name in NAMES}


SCRIPTS = script_names()


def runs_script(name: str) -> Callable[[Command], bool]:
    """Whether a command runs the script, by its SHA1 or, where the server may not know it, by its text."""

    def runs(command: Command) -> bool:
        verb = command[0].upper()
        return (verb == "EVALSHA" and SCRIPTS.get(command[1]) == name) or (
            verb == "EVAL" and command[1] == program(name)
        )

    return runs


def is_publish(command: Command) -> bool:
    return command[0] == "LPUSH" and command[1] == "celery"


@pytest.fixture
def store_proxy(site: Site) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", site.server.port))
    yield proxy
    proxy.close()


@pytest.fixture
def broker_proxy(site: Site) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", site.server.port))
    yield proxy
    proxy.close()


@pytest.mark.parametrize("script", ["look", "touch", "claim", "ack"])
def test_the_worker_loses_a_reply(site: Site, store_proxy: Proxy, script: str) -> None:
    worker = site.expiry(expiry_redis_url=site.server.url(port=store_proxy.port))
    schedule_on_expiry(site.record("warm"), seconds=0)  # every script is loaded after this one
    site.drain(1)
    for nth in (1, 2):
        store_proxy.drop_reply(runs_script(script), nth=nth)
        for number in range(20):
            schedule_on_expiry(site.record((nth, number)), seconds=0.3 + 0.1 * (number % 3))
        site.drain(1 + 20 * nth)
    assert [SCRIPTS[command[1]] for command in store_proxy.dropped] == [script, script]
    ran = [{**run, "label": tuple(run["label"])} for run in site.runs() if run["label"] != "warm"]
    once_each(ran, [(nth, number) for nth in (1, 2) for number in range(20)])
    assert worker.process.running


def test_the_worker_loses_the_reply_of_a_burial(site: Site, store_proxy: Proxy) -> None:
    worker = site.expiry(expiry_redis_url=site.server.url(port=store_proxy.port))
    schedule_on_expiry(site.record("warm"), seconds=0)
    site.drain(1)
    schedule_on_expiry(site.record("bad"), seconds=0.5, key="bad")
    site.redis.hset(site.key("timers"), site.redis.hget(site.key("names"), "bad"), "no message at all")
    store_proxy.drop_reply(runs_script("bury"))
    eventually(lambda: store_proxy.dropped, what=lambda: f"a burial\n{worker.process.tail()}")
    schedule_on_expiry(site.record("good"), seconds=0).get(timeout=20)
    eventually(lambda: site.dead() == 1, what="one dead letter")
    assert site.redis.zcard(site.key("claimed")) == 0


def test_changed_while_being_published(
    site: Site, broker_proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    """A claimed timer is on its way: it runs, and what replaces or moves it runs as well; none is lost."""
    behind = make_site(broker=site.server.url(port=broker_proxy.port), expiry_redis_url=site.server.url())
    worker = behind.expiry()

    def hold(name: str) -> None:
        """Schedule a timer, and stop its message on the way to the broker."""
        broker_proxy.hold_at(is_publish)
        schedule_on_expiry(behind.record(name), seconds=0.2, key=name)
        eventually(lambda: broker_proxy.holding, what=lambda: f"{name} published\n{worker.process.tail()}")
        timer = get_timer(name, app=behind.app)
        assert timer is not None
        assert timer.state == "claimed"

    hold("cancelled")
    assert cancel("cancelled", app=behind.app) is False  # it can't be called back, and that is said
    broker_proxy.release()
    site.wait_run("cancelled")

    hold("replaced")
    second = schedule_on_expiry(behind.record("second"), seconds=0.5, key="replaced")
    timer = get_timer("replaced", app=behind.app)
    assert timer is not None
    assert (timer.id, timer.state) == (second.id, "waiting")
    broker_proxy.release()
    site.wait_run("replaced")
    site.wait_run("second")

    hold("moved")
    assert reschedule("moved", seconds=0.5, app=behind.app) is True
    broker_proxy.release()
    runs = behind.drain(5)
    assert sorted(run["label"] for run in runs) == ["cancelled", "moved", "moved", "replaced", "second"]


def test_cut_off_before_the_broker_had_it(
    site: Site, broker_proxy: Proxy, store_proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    """The worker gives back what it could not publish, though it never hears that Redis took it back."""
    behind = make_site(
        broker=site.server.url(port=broker_proxy.port),
        expiry_redis_url=site.server.url(port=store_proxy.port),
    )
    worker = behind.expiry()
    broker_proxy.hold_at(is_publish)
    schedule_many_on_expiry((behind.record(number), 0.5) for number in range(50))
    eventually(lambda: broker_proxy.holding, what=lambda: f"a publish\n{worker.process.tail()}")
    store_proxy.drop_reply(runs_script("release"))
    broker_proxy.cut()
    broker_proxy.release()
    once_each(behind.drain(50), range(50))
    assert [SCRIPTS[command[1]] for command in store_proxy.dropped] == ["release"]
    assert worker.process.running


def test_cut_off_after_the_broker_had_it(
    site: Site, broker_proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    """The outcome is unknown: a repetition is allowed, under the same task id, and no loss."""
    behind = make_site(broker=site.server.url(port=broker_proxy.port), expiry_redis_url=site.server.url())
    worker = behind.expiry()
    broker_proxy.drop_reply(is_publish, nth=5)
    for number in range(50):
        schedule_on_expiry(behind.record(number), seconds=0.5 + number / 100)
    runs = behind.drain(50)
    assert len(broker_proxy.dropped) == 1
    assert {run["label"] for run in runs} == set(range(50))
    assert len({run["request"]["id"] for run in runs}) == 50
    assert len(runs) < 100
    assert worker.process.running


def test_killed_while_publishing(
    site: Site, broker_proxy: Proxy, store_proxy: Proxy, make_site: Callable[..., Site]
) -> None:
    """What a dead worker had claimed is recovered at its lease's end, though the reply to that is lost."""
    behind = make_site(
        broker=site.server.url(port=broker_proxy.port),
        expiry_redis_url=site.server.url(port=store_proxy.port),
        expiry_lease=5,
    )
    first = behind.expiry("first")
    broker_proxy.hold_at(is_publish)
    schedule_many_on_expiry((behind.record(number), 0.5) for number in range(20))
    eventually(lambda: broker_proxy.holding, what=lambda: f"a publish\n{first.process.tail()}")
    first.kill()
    broker_proxy.cut()
    broker_proxy.release()
    assert behind.redis.zcard(behind.key("claimed")) > 0
    store_proxy.drop_reply(runs_script("recover"))
    behind.expiry("second")
    once_each(behind.drain(20), range(20))
    assert [SCRIPTS[command[1]] for command in store_proxy.dropped] == ["recover"]


def test_stalled_beyond_its_lease(site: Site, broker_proxy: Proxy, make_site: Callable[..., Site]) -> None:
    """Who wakes up after its claim became another's neither acknowledges it nor gives it back."""
    behind = make_site(
        broker=site.server.url(port=broker_proxy.port),
        expiry_redis_url=site.server.url(),
        expiry_lease=5,
    )
    sleeper = behind.expiry("sleeper")
    broker_proxy.hold_at(is_publish)
    schedule_many_on_expiry((behind.record(number), 0.5) for number in range(20))
    eventually(lambda: broker_proxy.holding, what=lambda: f"a publish\n{sleeper.process.tail()}")
    sleeper.process.signal(signal.SIGSTOP)
    broker_proxy.cut()
    broker_proxy.release()
    other = behind.expiry("other")
    eventually(lambda: len(behind.runs()) == 20, what=lambda: f"the other took over\n{other.process.tail()}")
    behind.wait_forgotten()
    sleeper.process.signal(signal.SIGCONT)
    inspect = behind.app.control.inspect([sleeper.hostname], timeout=1)
    eventually(inspect.ping, timeout=30, what=lambda: f"it is awake\n{sleeper.process.tail()}")
    other.stop()
    once_each(behind.drain(20), range(20))  # by the one that slept


@pytest.mark.parametrize("how", ["the answer is lost", "the worker dies"])
def test_cancel_tells_the_truth_of_what_the_broker_may_have(
    site: Site, make_site: Callable[..., Site], how: str
) -> None:
    """Its message is out, its timer back in the index: to cancel it now would be a promise that is broken."""
    broker, store = (Proxy(("127.0.0.1", site.server.port)) for _ in range(2))
    behind = make_site(
        broker=site.server.url(port=broker.port),
        expiry_redis_url=site.server.url(port=store.port),
        expiry_lease=5,
    )
    worker = behind.expiry()
    try:
        if how == "the answer is lost":
            broker.drop_reply(is_publish)
            schedule_on_expiry(site.record("a"), seconds=0.3, key="a")
            eventually(lambda: broker.dropped and (broker.refuse() or True), what="published", every=0.001)
        else:
            store.hold_at(runs_script("ack"))
            schedule_on_expiry(site.record("a"), seconds=0.3, key="a")
            eventually(lambda: store.holding, what="an ack on its way")
            worker.kill()
            store.cut()
            behind.expiry("second", ready=False)
            broker.refuse()
            store.release()
        site.wait_run("a")
        eventually(lambda: site.waiting() == 1, timeout=20, what="it is back in the index")
        assert cancel("a", app=site.app) is False
        replaced = schedule_on_expiry(site.record("b"), seconds=600, key="a")
        assert site.waiting() == 2, "what may be out is left to finish"
        assert replaced.cancel()
        broker.accept_again()
        eventually(lambda: len(site.runs("a")) == 2, what="it runs again")
        assert len({run["request"]["id"] for run in site.runs("a")}) == 1
    finally:
        broker.close()
        store.close()
