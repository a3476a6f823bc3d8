"""The doctor on real Redis servers: each check, well and unwell."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celery_redis_expiry import schedule_on_expiry
from celery_redis_expiry.doctor import ROLES, Finding, checks_server, examine
from celery_redis_expiry.store import store_of
from celery_redis_expiry.store.rights import rights_of
from celery_redis_expiry.worker.service import broker_identity
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer
from tests.servers.sentinel import Sentinel
from tests.site import Site
from tests.waiting import eventually

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.fixture(autouse=True)
def notified(redis_server: RedisServer) -> None:
    """A probe whose event does not come takes a second: only where that is the matter."""
    with redis_server.client() as client:
        client.config_set("notify-keyspace-events", "Kx")


def look(site: Site, **options: Any) -> dict[str, Finding]:
    return {check.name: check.finding for check in examine(site.app, **{"timeout": 2.0, **options}).checks}


@contextmanager
def configured(site: Site, **settings: str) -> Iterator[None]:
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    before = {name: site.redis.config_get(name)[name] for name in names}
    try:
        for name, value in names.items():
            site.redis.config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            site.redis.config_set(name, value)


def user(site: Site, make_site: Callable[..., Site], *commands: str, **rules: Any) -> Site:
    """The same site, its timers by a user of these rules."""
    rules = {"keys": ["{expiry.ledger.0}:*"], "channels": ["*"], **rules}
    site.redis.acl_setuser("app", enabled=True, passwords=["+verysecret"], commands=list(commands), **rules)
    return make_site(
        broker=site.server.url(), expiry_redis_url=site.server.url(user="app", password="verysecret")
    )


def test_a_healthy_site(site: Site) -> None:
    with configured(site, appendonly="yes", notify_keyspace_events="Kx"):
        store_of(site.app).enter(broker_identity(site.app))
        findings = look(site, roles=ROLES)
    unwell = {name: finding for name, finding in findings.items() if finding.status != "ok"}
    assert set(unwell) == {"workers"}, unwell
    assert all(finding.remedy for finding in unwell.values())
    assert "TLS off" in findings["redis"].text
    assert findings["version"].data["version"].startswith(site.server.version)


def test_it_changes_nothing(site: Site) -> None:
    for role in ROLES:
        look(site, roles=(role,))
    eventually(lambda: not site.redis.keys(), what=lambda: f"no key: {site.redis.keys()}")
    schedule_on_expiry(site.record("waits"), seconds=600, key="waits")
    schedule_on_expiry(site.record("due"), seconds=0)

    def everything() -> dict[str, Any]:
        names = [name for name in site.redis.scan_iter(count=1000) if ":answer:" not in name]
        raw = {name: site.redis.type(name) for name in names}
        return {
            **raw,
            "due": site.redis.zrange(site.key("due"), 0, -1, withscores=True),
            "timers": site.redis.hgetall(site.key("timers")),
            "config": site.redis.config_get("*"),
        }

    before = everything()
    look(site, roles=ROLES)
    eventually(lambda: everything() == before, what=lambda: f"as before: {before}, {everything()}")


def test_redis_down(start_redis: Callable[..., RedisServer], make_site: Callable[..., Site]) -> None:
    server = start_redis()
    site = make_site(broker=server.url(), expiry_redis_url=server.url())
    assert look(site)["redis"].status == "ok"
    server.remove()
    findings = look(site)
    assert findings["redis"].status == "fail"
    assert findings["broker"].status == "fail"
    assert findings["overdue"].status == "unknown"


def test_redis_stopped(start_redis: Callable[..., RedisServer], make_site: Callable[..., Site]) -> None:
    """It takes connections and never answers."""
    server = start_redis()
    site = make_site(broker=server.url(), expiry_redis_url=server.url())
    assert server.process is not None
    server.process.signal(signal.SIGSTOP)
    try:
        assert look(site, timeout=0.5)["redis"].status == "fail"
    finally:
        server.remove()


def test_a_wrong_password_is_not_told(site: Site, make_site: Callable[..., Site]) -> None:
    site.redis.acl_setuser("app", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
    wrong = make_site(expiry_redis_url=site.server.url(user="app", password="verysecret"))
    report = examine(wrong.app, timeout=2)
    assert report.checks[0].finding.status == "fail"
    assert "user or password" in report.checks[0].finding.text
    assert "verysecret" not in str([check.as_dict() for check in report.checks])


def test_the_broker_is_down(make_site: Callable[..., Site]) -> None:
    site = make_site(broker=f"redis://:verysecret@127.0.0.1:{free_port()}/0")
    report = examine(site.app, timeout=2)
    findings = {check.name: check.finding for check in report.checks}
    assert findings["broker"].status == "fail"
    assert findings["redis"].status == "ok"
    assert findings["overdue"].status == "ok"
    assert "verysecret" not in str([check.as_dict() for check in report.checks])


def test_one_by_one(site: Site, make_site: Callable[..., Site]) -> None:
    assert look(site)["publishing"].status == "ok"
    slow = make_site(broker_transport_options={"retry_on_timeout": True})
    assert look(slow)["publishing"].status == "warn"


def test_a_replica(
    site: Site, start_redis: Callable[..., RedisServer], make_site: Callable[..., Site]
) -> None:
    replica = start_redis(site.server.version)
    try:
        there = make_site(expiry_redis_url=replica.url())
        assert look(there)["role"].status == "ok"
        assert "no replica" in look(site)["replicas"].text
        with replica.client() as client:
            client.replicaof("127.0.0.1", str(site.server.port))
        told = eventually(
            lambda: (found := look(site)["replicas"]).data.get("replicas") and found,
            what=lambda: f"the replica: {look(site)['replicas']}",
        )
        assert told.data["replicas"][0]["address"].endswith(str(replica.port))
        eventually(lambda: look(site)["replicas"].status == "ok", what="the replica online")
        findings = look(there)
        assert findings["role"].status == "fail"
        assert str(site.server.port) in findings["role"].text
        assert findings["eviction"].status == "ok"
    finally:
        replica.remove()


def test_fewer_replicas_than_are_waited_for(site: Site, make_site: Callable[..., Site]) -> None:
    waits = make_site(expiry_wait_replicas=1)
    finding = look(waits)["replicas"]
    assert finding.status == "fail"
    assert "NotReplicated" in finding.text
    assert look(site)["replicas"].status == "ok"


@pytest.mark.parametrize(
    ("policy", "maxmemory", "status"),
    [
        ("noeviction", "100mb", "ok"),
        ("allkeys-lru", "100mb", "fail"),
        ("allkeys-lru", "0", "warn"),
        ("volatile-ttl", "100mb", "warn"),
        ("volatile-ttl", "0", "ok"),
    ],
)
def test_eviction(
    site: Site, make_site: Callable[..., Site], policy: str, maxmemory: str, status: str
) -> None:
    with configured(site, maxmemory_policy=policy, maxmemory=maxmemory):
        finding = look(site)["eviction"]
        assert finding.status == status
        assert policy in finding.text
        refused = user(site, make_site, "+@all", "-config")
        assert look(refused)["eviction"].status == status


def test_a_full_redis(site: Site) -> None:
    with configured(site, maxmemory="1"):
        findings = look(site)
    assert findings["memory"].status == "fail"
    assert findings["rights"].status == "ok"  # refused for want of memory, not of rights
    assert (findings["notifications"].status, findings["notifications"].remedy) == ("unknown", "see memory")


@pytest.mark.parametrize(
    ("settings", "status", "word"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, "ok", "always"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "ok", "a second"),
        ({"appendonly": "yes", "appendfsync": "no"}, "warn", "kernel"),
        ({"appendonly": "no", "save": "3600 1"}, "warn", "snapshots alone"),
        ({"appendonly": "no", "save": ""}, "fail", "forgets every timer"),
    ],
)
def test_persistence(site: Site, settings: dict[str, str], status: str, word: str) -> None:
    with configured(site, **settings):
        finding = look(site)["persistence"]
    assert finding.status == status
    assert word in finding.text


def test_persistence_where_config_is_refused(site: Site, make_site: Callable[..., Site]) -> None:
    managed = user(site, make_site, "+@all", "-config")
    finding = look(managed)["persistence"]
    assert finding.status == "warn"
    assert "CONFIG is refused" in finding.text
    with configured(site, appendonly="yes"):
        assert look(managed)["persistence"].status == "ok"


def test_notifications_are_proven(site: Site, make_site: Callable[..., Site]) -> None:
    managed = user(site, make_site, "+@all", "-config")
    for flags in ("Kx", "KEA"):
        with configured(site, notify_keyspace_events=flags):
            assert look(site)["notifications"].status == "ok"
            finding = look(managed)["notifications"]
            assert finding.status == "ok"
            assert "CONFIG is refused" in finding.text
    # set, but not to what is needed
    for flags in ("", "Ex", "Kg"):
        with configured(site, notify_keyspace_events=flags):
            finding = look(site)["notifications"]
            assert finding.status == "warn"
            assert "when it starts" in finding.remedy
            finding = look(managed)["notifications"]
            assert finding.status == "warn"
            assert "at the provider" in finding.remedy


def test_notifications_of_foreign_changes(site: Site, make_site: Callable[..., Site]) -> None:
    follower = make_site(expiry_follow_foreign_ttl=True)
    with configured(site, notify_keyspace_events="Kx"):
        assert look(site)["notifications"].status == "ok"
        assert look(follower)["notifications"].status == "warn"
    with configured(site, notify_keyspace_events="Kxg"):
        assert look(follower)["notifications"].status == "ok"


def test_the_clock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(site)["clock"].status == "ok"
    now = time.time
    monkeypatch.setattr(checks_server.time, "time", lambda: now() + 3600)
    finding = look(site)["clock"]
    assert finding.status == "warn"
    assert "behind" in finding.text


def test_keys_with_a_ttl(site: Site) -> None:
    site.redis.set("session:1", "", ex=600)
    site.redis.set("session:2", "")
    assert look(site)["expiring_keys"].data == {"keys": 2, "expires": 1}


def rules_of(role: str) -> list[str]:
    return [f"+{right}" for right in sorted(rights_of(role))]


def test_rights(site: Site, make_site: Callable[..., Site]) -> None:
    """Each role has all it needs; each of its rights that is taken away is named, and nothing else."""
    keys, wake = "~{expiry.ledger.0}:*", "{expiry.ledger.0}:wake"
    events = "__keyspace@0__:{expiry.ledger.0}:trigger:*"
    app = user(site, make_site)
    for role in ROLES:
        granted = rules_of(role)
        for lacking in ["", *granted, keys, f"&{wake}", f"&{events}"]:
            site.redis.acl_deluser("app")
            site.redis.acl_setuser(
                "app",
                enabled=True,
                passwords=["+verysecret"],
                commands=[*(rule for rule in granted if rule != lacking), *({"+ping", "+info"} - {lacking})]
                if lacking != "+ping"
                else granted,
                keys=[] if lacking == keys else ["{expiry.ledger.0}:*"],
                channels=[channel for channel in (wake, events) if lacking != f"&{channel}"],
                reset_channels=True,
            )
            finding = look(app, roles=(role,))["rights"]
            spared = {"+ping"}
            if role != "worker":
                spared.add(f"&{events}")
            if role in ("in place", "task"):  # nobody else waits for what fires so, or for a task's end
                spared.add(f"&{wake}")
            needed = lacking and lacking not in spared
            assert finding.data["missing"] == ([lacking] if needed else []), (role, lacking)
            if not needed:
                assert finding.status == "ok"
            elif lacking in ("+publish", "+psubscribe", "+zcount", "+hscan", f"&{wake}", f"&{events}"):
                assert finding.status == "warn"
            else:
                assert finding.status == "fail"
                assert lacking in finding.remedy
    eventually(lambda: not site.redis.keys(), what=lambda: f"nothing left: {site.redis.keys()}")


def test_what_the_user_may_not_look_at(site: Site, make_site: Callable[..., Site]) -> None:
    """A user that only schedules: nothing fails for what it need not see."""
    findings = look(user(site, make_site, *rules_of("producer")), roles=("producer",))
    assert findings["redis"].status == "ok"  # who is refused a PING was answered
    assert findings["rights"].status == "ok"
    assert {findings[name].status for name in ("eviction", "persistence")} == {"unknown"}
    assert "+psubscribe" in findings["notifications"].remedy
    assert "fail" not in {finding.status for name, finding in findings.items() if name != "workers"}


def test_the_documented_user_sees_everything(site: Site, make_site: Callable[..., Site]) -> None:
    [line] = re.findall(r"^`(\+info .*)`", OPERATING.read_text(), re.MULTILINE)
    told = re.findall(r"\+[a-z|]+", line)
    needed = {rule for role in ROLES for rule in rules_of(role)}
    channels = ["{expiry.ledger.0}:wake", "__keyspace@0__:{expiry.ledger.0}:trigger:*"]
    app = user(site, make_site, *needed, *told, channels=channels, reset_channels=True)
    findings = look(app, roles=ROLES)
    assert "unknown" not in {finding.status for finding in findings.values()}, findings
    assert findings["persistence"].data["save"] == ""  # CONFIG was read
    assert findings["rights"].data["user"] == "app"


def test_the_namespace(site: Site, make_site: Callable[..., Site]) -> None:
    assert look(site)["namespace"].status == "ok"
    store_of(site.app).enter(broker_identity(site.app))
    assert look(site)["namespace"].data["app"] == "ledger"
    assert look(make_site(expiry_namespace="own", main="other"))["namespace"].status == "ok"
    finding = look(make_site(expiry_namespace="ledger", main="other"))["namespace"]
    assert finding.status == "fail"
    assert "adopt" in finding.remedy
    moved = make_site(broker=f"redis://127.0.0.1:{free_port()}/0")
    assert look(moved)["namespace"].status == "fail"
    site.redis.hset(site.key("namespace"), "format", "99")
    assert "99" in look(site)["namespace"].text
    assert look(site)["namespace"].status == "fail"


def test_workers(site: Site, make_site: Callable[..., Site]) -> None:
    assert look(site)["workers"].status == "fail"
    store_of(site.app).shards[0].look("a@here:token", limit=10, parked=10)
    finding = look(site, timeout=0.5)["workers"]
    assert finding.status == "warn", finding  # announced itself, but it answers no ping
    assert "a@here" in finding.text
    alone = make_site(broker=f"redis://127.0.0.1:{free_port()}/0")
    assert look(alone)["workers"].status == "ok"  # the broker is away: believed
    site.redis.zadd(site.key("pacers"), {"a@here:token": (site.now() - 40) * 1000})
    finding = look(site)["workers"]
    assert finding.status == "fail"
    assert "a@here should have woken" in finding.text
    store_of(site.app).shards[0].look("a@here:another", limit=10, parked=10)
    assert look(alone)["workers"].status == "ok"  # started again
    site.redis.zadd(site.key("pacers"), {"b@here:token": (site.now() - 40) * 1000})
    assert look(alone)["workers"].status == "warn"


def test_overdue_timers(site: Site) -> None:
    schedule_on_expiry(site.record("waits"), seconds=600)
    schedule_on_expiry(site.record("due"), seconds=0, key="due")
    assert look(site)["overdue"].status == "ok"
    member = site.redis.hget(site.key("names"), "due")
    assert member
    site.redis.zadd(site.key("due"), {member: (site.now() - 42) * 1000}, xx=True)
    finding = look(site)["overdue"]
    assert finding.status == "fail"
    assert "1 timer overdue" in finding.text
    assert 42 <= finding.data["oldest_seconds"] < 60
    assert look(site, late=60)["overdue"].status == "ok"


def test_abandoned_and_dead(site: Site) -> None:
    store = store_of(site.app).shards[0]
    schedule_on_expiry(site.record("x"), seconds=0, key="x")
    member = site.redis.hget(site.key("names"), "x")
    assert member
    [claim] = eventually(lambda: store.claim([(member, False)], token="t", lease=60))
    findings = look(site)
    assert findings["claimed"].status == "ok"
    assert findings["claimed"].data["claimed"] == 1
    site.redis.zadd(site.key("claimed"), {member: (site.now() - 33) * 1000}, xx=True)
    finding = look(site)["claimed"]
    assert finding.status == "fail"
    assert 33 <= finding.data["oldest_seconds"] < 60
    assert look(site)["dead_letters"].status == "ok"
    claim.id = claim.label
    assert store.bury(claim, "nobody wants it", "w@h")
    finding = look(site)["dead_letters"]
    assert finding.status == "warn"
    assert "nobody wants it" in finding.text
    assert finding.data["newest"]["timer"] == "x"
    assert look(site)["claimed"].data["claimed"] == 0


def test_parked(site: Site) -> None:
    assert look(site)["parked"].data["parked"] == 0
    site.redis.zadd(site.key("parked"), {"a:b": site.now() * 1000})
    assert look(site)["parked"].data["parked"] == 1


def test_the_primary_behind_a_sentinel(redis_server: RedisServer, make_site: Callable[..., Site]) -> None:
    sentinel = Sentinel(redis_server)
    try:
        site = make_site(
            broker=redis_server.url(),
            expiry_redis_url=f"sentinel://127.0.0.1:{sentinel.port}/0",
            expiry_redis_options={"master_name": "main"},
        )
        finding = look(site)["redis"]
        assert finding.status == "ok"
        assert finding.data["primaries"] == [f"127.0.0.1:{redis_server.port}"]
    finally:
        sentinel.remove()
    assert look(site, timeout=0.5)["redis"].status == "fail"


def test_tls_is_told(site: Site, make_site: Callable[..., Site]) -> None:
    url = site.server.url().replace("redis://", "rediss://")
    finding = look(make_site(broker=site.server.url(), expiry_redis_url=url))["redis"]
    assert finding.status == "fail"  # this server speaks none
    assert finding.data["tls"] is True
