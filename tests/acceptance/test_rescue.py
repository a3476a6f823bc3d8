"""`celery expiry rescue` beside workers and producers: each task runs once, though the rescue is killed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import pytest

from tests.integration.commands import expiry
from tests.servers.processes import Process
from tests.servers.redis import RedisServer
from tests.servers.workers import environment
from tests.site import Site, once_each
from tests.waiting import eventually

#: Seconds. On a busy machine a part of it is due before the second run: that is left to workers.
DELAY = 8
BACKLOG = 400


def rescue(site: Site) -> Process:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "ledger_app:app",
        "expiry",
        "rescue",
        "--min-delay",
        "1s",
    ]
    return Process(command, log=site.folder / "rescue.log", env=environment(site.config), cwd=site.folder)


@pytest.mark.parametrize("apart", [False, True], ids=["in place", "apart"])
def test_the_ledger_is_exact(
    make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer], apart: bool
) -> None:
    server = shared_redis(use="rescue")
    site = make_site(server, **({"expiry_redis_url": server.url(2)} if apart else {}))
    site.reset()
    timers = server.client(2 if apart else 0)
    timers.flushdb()
    site.expiry()
    labels = []
    sent = threading.Lock()

    def send(name: str, count: int, share: int) -> None:
        """Countdowns, and one in `share` that runs at once and so keeps others waiting behind it."""
        with site.app.producer_pool.acquire(block=True) as producer:
            for n in range(count):
                label = f"{name} {n}"
                how = {} if n % share == 0 else {"countdown": DELAY, "priority": n % 2 * 3}
                site.record(label).apply_async(producer=producer, **how)
                with sent:
                    labels.append(label)

    send("backlog", BACKLOG, 10)
    # what it holds until its ETA is no affair of ours
    # It starts beside the rescue: one that is ready soon holds the whole backlog, and nothing is left.
    site.worker("busy", "-P", "solo", ready=False, worker_prefetch_multiplier=1)
    producers = [threading.Thread(target=send, args=(f"producer {n}", 80, 2)) for n in range(2)]
    for thread in producers:
        thread.start()

    first = rescue(site)
    due = site.key("due")
    eventually(lambda: timers.zcard(due) > 40 or not first.running, every=0.001, what=first.tail)
    first.kill()
    assert first.popen.returncode == -signal.SIGKILL, first.tail()
    for thread in producers:
        thread.join()
    second = rescue(site)
    assert second.wait(60) == 0, second.tail()
    assert not any(tag.startswith("expiry-rescue:") for tag in site.queues.hkeys("unacked"))

    site.ordinary()
    eventually(lambda: len(site.runs()) >= len(labels), timeout=60, every=0.2, what=second.tail)
    eventually(lambda: not timers.zcard(due), what="no timer waits")
    site.wait_broker_empty()
    once_each(site.runs(), labels)


def test_what_workers_hold(make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer]) -> None:
    """Left to those that run; put back by one that stops; taken from one that was killed, when none runs."""
    site = make_site(shared_redis(use="rescue"))
    queues = site.queues

    def hold(labels: range) -> None:
        for label in labels:
            site.record(label).apply_async(countdown=3600)
        eventually(lambda: queues.hlen("unacked") == len(labels), what="all with the worker")

    def rescued(*options: str, code: int = 0) -> str:
        return str(expiry(site.app, "rescue", *options, "--timeout", "1", code=code).output)

    worker = site.ordinary("warm")
    hold(range(20))
    told = rescued("--unacked", code=1)
    assert "stop the workers first" in told
    assert "warm@test" in told
    assert "a client at" in told
    assert site.waiting() == 0
    worker.stop()
    assert queues.llen("celery") == 20
    assert "20 rescued" in rescued()

    worker = site.ordinary("killed")
    hold(range(20, 40))
    worker.kill()
    assert "20 messages more are held" in rescued()
    # Redis has to notice that the connections of the worker are closed
    eventually(
        lambda: not [client for client in queues.client_list() if client["cmd"] == "brpop"],
        what="nobody waits any more",
    )
    assert "20 rescued" in rescued("--unacked")
    assert site.waiting() == 40
    assert not queues.exists("unacked", "unacked_index", "celery")
