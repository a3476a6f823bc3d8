"""`celery expiry doctor` as a process: what it prints, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from celery_redis_expiry import schedule_on_expiry
from celery_redis_expiry.store import store_of
from tests.servers.cluster import RedisCluster
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer
from tests.servers.workers import celery, environment
from tests.site import Site
from tests.waiting import eventually

DOCTOR = ("-A", "ledger_app:app", "expiry", "doctor", "--timeout", "3")


@pytest.fixture
def durable(start_redis: Callable[..., RedisServer], make_site: Callable[..., Site]) -> Site:
    """A site that nothing is wrong with but what a test does to it."""
    return make_site(start_redis(None, appendonly="yes"))


def doctor(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    return celery(site.config, site.folder, *DOCTOR, *options)


def told(site: Site, *options: str) -> tuple[int, dict[str, Any]]:
    done = doctor(site, "--json", *options)
    return done.returncode, json.loads(done.stdout)


def statuses(document: dict[str, Any]) -> dict[str, str]:
    for check in document["checks"]:
        assert set(check) == {"check", "status", "finding", "remedy", "data"}
        assert check["finding"]
        assert check["status"] == "ok" or check["remedy"], check
    return {check["check"]: check["status"] for check in document["checks"]}


def test_well_and_unwell(durable: Site) -> None:
    code, document = told(durable)
    assert (code, document["ok"]) == (1, False)
    assert statuses(document)["workers"] == "fail"

    durable.expiry("one")
    two = durable.expiry("two")
    code, document = told(durable, "--strict")
    unwell = [check for check in document["checks"] if check["status"] != "ok"]
    assert not unwell
    assert (code, document["ok"]) == (0, True)
    [workers] = [check for check in document["checks"] if check["check"] == "workers"]
    assert workers["data"]["answering"] == ["one@test", "two@test"]

    two.kill()
    code, document = told(durable, "--strict")
    assert statuses(document)["workers"] == "warn"  # it had announced itself, and answers no ping
    assert (code, document["ok"]) == (1, False)


def test_a_dead_letter(durable: Site) -> None:
    worker = durable.expiry()
    schedule_on_expiry(durable.record("bad"), seconds=2, key="bad")
    member = durable.redis.hget(durable.key("names"), "bad")
    assert member
    durable.redis.hset(durable.key("timers"), member, "\x01no message at all")
    eventually(lambda: durable.dead() == 1, what=lambda: f"one dead letter\n{worker.process.tail()}")
    done = doctor(durable)
    assert done.returncode == 0, done.stdout
    assert "the newest is bad" in done.stdout
    assert "dead list" in done.stdout
    assert "\x1b[" not in done.stdout  # which is no terminal
    assert doctor(durable, "--strict").returncode == 1


def test_overdue_while_the_broker_is_down(durable: Site, make_site: Callable[..., Site]) -> None:
    broken = make_site(durable.server, broker=f"redis://:verysecret@127.0.0.1:{free_port()}/0")
    broken.expiry(ready=False)
    schedule_on_expiry(broken.record("late"), seconds=0)
    eventually(lambda: statuses(told(broken, "--late", "1")[1])["overdue"] == "fail", every=0.5)
    done = doctor(broken, "--late", "1")
    assert done.returncode == 1
    assert "1 timer overdue" in done.stdout
    assert "verysecret" not in done.stdout


def test_redis_down(make_site: Callable[..., Site]) -> None:
    site = make_site(expiry_redis_url=f"redis://app:verysecret@127.0.0.1:{free_port()}/3")
    done = doctor(site)
    assert done.returncode == 1
    assert "can't be reached" in done.stdout
    assert "Traceback" not in done.stdout
    assert "verysecret" not in done.stdout
    code, document = told(site)
    assert (code, document["ok"]) == (1, False)
    assert statuses(document)["broker"] == "ok"
    assert statuses(document)["overdue"] == "unknown"


def test_colours_for_a_terminal_only(durable: Site) -> None:
    assert "\x1b[" in on_a_terminal(durable, *DOCTOR)
    assert "\x1b[" not in on_a_terminal(durable, "--no-color", *DOCTOR)


def on_a_terminal(site: Site, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    env = {name: value for name, value in environment(site.config).items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "celery", *arguments], env=env, cwd=site.folder, stdin=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 65536):
                output += chunk
        except OSError:  # how a terminal tells that its last writer has gone
            pass
        process.wait(60)
    os.close(ours)
    return output.decode()


def test_a_cluster(
    redis_cluster: RedisCluster, shared_redis: Callable[..., RedisServer], make_site: Callable[..., Site]
) -> None:
    """Each primary is looked at, and the timers of all shards."""
    site = make_site(redis_cluster, beside=shared_redis())
    site.expiry()
    for number in range(300):
        schedule_on_expiry(site.record(number), seconds=600)
    document = told(site, "--role", "producer", "--role", "worker")[1]
    primaries = {f"127.0.0.1:{node.port}" for node in redis_cluster.primaries()}
    assert set(document["checks"][0]["data"]["primaries"]) == primaries
    for name in ("notifications", "rights", "version"):
        found = [check for check in document["checks"] if check["check"] == name]
        assert {check["data"]["server"] for check in found} == primaries
        assert {check["status"] for check in found} == {"ok"}, found
    found = {check["check"]: check for check in document["checks"]}
    assert found["namespace"]["status"] == "ok"
    assert found["workers"]["data"]["answering"] == ["expiry@test"]
    # of 64 shards, one or another has none of them
    filled = [(shard, shard.page("due", 0, 1)) for shard in store_of(site.app).shards]
    for shard, [member] in [each for each in filled if each[1]][:2]:
        site.redis.zadd(shard.keys.parked, {member: 1})
    assert {check["check"]: check for check in told(site)[1]["checks"]}["parked"]["data"]["parked"] == 2


def test_options_of_the_app_reach_the_command(durable: Site) -> None:
    """Celery hands an app's own options to the group."""
    (durable.folder / "with_options.py").write_text(
        "import click\n"
        "from ledger_app import app\n"
        'app.user_options["preload"].add(click.Option(["--tenant"], default="none"))\n'
    )
    env = environment(durable.config)
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "with_options:app", "expiry", "--tenant", "x", "stats"],
        env={**env, "PYTHONPATH": f"{durable.folder}{os.pathsep}{env['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "waiting" in done.stdout
