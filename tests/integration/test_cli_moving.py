"""`celery expiry export` and `import`: a namespace lies elsewhere exactly as it lay here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain

from celery_redis_expiry import (
    StoreUnavailable,
    get_timer,
    iter_timers,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Shard, store_of
from celery_redis_expiry.store.moving import Moving
from tests.integration.commands import expiry, told
from tests.releases.dump import taken
from tests.servers.cluster import RedisCluster
from tests.site import Site

NUMBER = 120


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


@pytest.fixture
def elsewhere(make_site: Callable[..., Site], site: Site) -> Site:
    """The same app with another database: another Redis as far as its timers know."""
    return make_site(expiry_redis_url=site.server.url(2))


@pytest.fixture
def full(site: Site, shard: Shard, current: None) -> Site:
    """Timers of every kind: waiting, moved by others, parked, due, tried before, unsure; and dead letters."""
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    schedule_many_on_expiry({"signature": site.record(n), "at": at, "key": f"t:{n}"} for n in range(NUMBER))
    schedule_on_expiry(site.record("ü\n", note="\u2028"), 601.234, key="name with ü")
    schedule_on_expiry(site.record(2), 602)
    schedule_on_expiry(chain(site.record(1), site.record(2)), 603, key="canvas")
    schedule_on_expiry(site.record(3), 604, key="moved")
    site.redis.pexpire(trigger(site, shard, "moved"), 5_000_000)
    schedule_on_expiry(site.record(4), 605, key="parked")
    site.redis.persist(trigger(site, shard, "parked"))
    shard.touch([str(shard.find("parked"))])
    for name in ("tried", "unsure", "dead", "damaged"):
        schedule_on_expiry(site.record(name), 0, key=name)
        while not (claims := shard.claim([(str(shard.find(name)), True)], token=new_token(), lease=60)):
            pass  # due in this very millisecond
        claims[0].id = get_timer(name).id  # type: ignore[union-attr]
        if name in ("tried", "unsure"):
            shard.release(claims[0].token, claims, delay=600, tried=True, unsure=name == "unsure")
        else:
            shard.bury(claims[0], f"why {name} \U0001f600", "expiry@here")
    with site.server.raw_client() as raw:
        raw.hset(site.key("timers"), claims[0].member, b"\xff no record \x00")
    schedule_on_expiry(site.record(5), 0, key="due")
    schedule_on_expiry(site.record(6), 606, key="guarded", max_wait=700, unless_exists="user:1")
    return site


def trigger(site: Site, shard: Shard, name: str) -> str:
    return site.key(f"trigger:{shard.find(name)}")


def lying(site: Site, database: int) -> dict[str, Any]:
    """All that lies in Redis of a namespace; when a trigger key expires is told by the exported line."""
    with redis.Redis(
        port=site.server.port, db=database, decode_responses=True, encoding_errors="surrogateescape"
    ) as client:
        keys = taken(client, site.key(""))
    for entry in keys.values():
        if "expires_ms" in entry:
            entry["expires_ms"] = "some time"
    return {name: entry for name, entry in keys.items() if name not in ("namespace", "pacers", "used")}


def exported(site: Site, file: Path) -> list[Any]:
    output = expiry(site.app, "export", str(file)).stdout
    lines = [json.loads(line) for line in file.read_text("ascii").splitlines()]
    assert output == f"{len(lines) - 2} exported\n"
    return lines


def test_it_arrives_as_it_was(full: Site, elsewhere: Site, shard: Shard, tmp_path: Path) -> None:
    file, again = tmp_path / "timers.jsonl", tmp_path / "again.jsonl"
    header, *lines, end = exported(full, file)
    assert (header["app"], header["namespace"], header["celery_redis_expiry"]) == ("ledger", "ledger", 1)
    assert end == {"end": len(lines)}
    assert len(lines) == NUMBER + 11
    assert sum(header["counts"].values()) == len(lines)
    assert told(elsewhere.app, "import", str(file)) == [{"put": len(lines)}]
    _, *there, _ = exported(elsewhere, again)
    assert there == lines
    here = lying(full, 0)
    assert here["due"]["value"]
    assert lying(elsewhere, 2) == here
    # what is seen of it
    for name in ("t:1", "name with ü", "canvas", "parked", "unsure", "guarded"):
        before, after = (told(each.app, "show", name)[0] for each in (full, elsewhere))
        assert before | {"remaining": 0} == after | {"remaining": 0}
    assert get_timer("moved", app=elsewhere.app).remaining > 4900  # type: ignore[union-attr, operator]


def test_running_it_again_does_no_harm(
    full: Site, elsewhere: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "timers.jsonl"
    lines = len(exported(full, file)) - 2
    put, calls = Moving.put, 0

    def failing(self: Moving, *args: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        answer = put(self, *args, **how)
        if calls == 2:
            raise StoreUnavailable("gone, after it was stored")
        return answer

    monkeypatch.setattr(Moving, "put", failing)
    assert "gone, after" in expiry(elsewhere.app, "import", str(file), code=1).stderr
    monkeypatch.undo()
    assert told(elsewhere.app, "import", str(file)) == [{"here": 100, "put": lines - 100}]
    assert lying(elsewhere, 2) == lying(full, 0)
    assert expiry(elsewhere.app, "import", str(file)).stdout == f"{lines} here\n"


def test_what_waits_already(site: Site, elsewhere: Site, tmp_path: Path) -> None:
    file = tmp_path / "timers.jsonl"
    for each, seconds in ((site, 600), (elsewhere, 9000)):
        schedule_on_expiry(each.record(seconds), seconds, key="a", app=each.app)
        schedule_on_expiry(each.record(seconds).set(task_id="same"), seconds, app=each.app)
    schedule_on_expiry(site.record(1), 600, key="b", app=site.app)
    exported(site, file)
    assert told(elsewhere.app, "import", str(file)) == [{"kept": 2, "put": 1}]
    assert get_timer("a", app=elsewhere.app).remaining > 5000  # type: ignore[union-attr, operator]
    assert told(elsewhere.app, "import", "--if-exists", "replace", str(file)) == [{"replaced": 2, "here": 1}]
    for name in ("a", "same", "b"):
        assert get_timer(name, app=elsewhere.app).remaining < 700  # type: ignore[union-attr, operator]
    assert elsewhere.app.main
    assert store_of(elsewhere.app).counts()["waiting"] == 3


def test_one_has_its_name_and_another_its_task_id(site: Site, elsewhere: Site, tmp_path: Path) -> None:
    file = tmp_path / "timers.jsonl"
    schedule_on_expiry(site.record(1).set(task_id="same"), 600, key="a", app=site.app)
    exported(site, file)
    schedule_on_expiry(elsewhere.record(2).set(task_id="another"), 9000, key="a", app=elsewhere.app)
    schedule_on_expiry(elsewhere.record(3).set(task_id="same"), 9000, key="b", app=elsewhere.app)
    assert told(elsewhere.app, "import", "--if-exists", "replace", str(file)) == [{"replaced": 1}]
    [timer] = iter_timers(app=elsewhere.app)
    assert (timer.id, timer.name, timer.args) == ("same", "a", "(1,)")


def test_what_is_being_published_is_never_replaced(site: Site, elsewhere: Site, tmp_path: Path) -> None:
    file = tmp_path / "timers.jsonl"
    schedule_on_expiry(site.record(1), 600, key="a", app=site.app)
    exported(site, file)
    schedule_on_expiry(site.record(2), 0, key="a", app=elsewhere.app)
    [there] = store_of(elsewhere.app).shards
    while not there.claim([(str(there.find("a")), True)], token="t", lease=60):
        pass
    assert told(elsewhere.app, "import", "--if-exists", "replace", str(file)) == [{"kept": 1}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda line: line[: len(line) // 2], "Unterminated|Expecting|delimiter|control character"),
        (lambda line: "[]", "must have the fields"),
        (lambda line: "[" * 100_000, "nested too deeply"),
        (lambda line: line.replace('"home": "due"', '"home": "nowhere"'), "home must be one of"),
        (lambda line: line.replace('"score": ', '"score": -'), "score must be ms"),
        (lambda line: line.replace('"score": ', '"score": "" , "x": '), "must have the fields"),
        (lambda line: line.replace('"expiry": "', '"expiry": "x'), "expiry must be"),
        (lambda line: line.replace('"claim": "', '"claim": "mine:1:1'), "claim is damaged"),
        (lambda line: line.replace('"record": "1:', '"record": "9:'), "has format 9"),
        (lambda line: line.replace('"record": "1:', '"record": "x:'), "damaged"),
        (lambda line: line.replace('"id": "', '"id": "x'), "task id in its record"),
        (lambda line: line.replace('"member": "', '"member": "\\ud800'), "surrogates not allowed"),
    ],
)
def test_a_bad_line_is_named_and_passed_over(
    site: Site, elsewhere: Site, tmp_path: Path, change: Callable[[str], str], why: str
) -> None:
    for number in range(3):
        schedule_on_expiry(site.record(number), 600, key=f"t:{number}", app=site.app)
    exported(site, tmp_path / "timers.jsonl")
    header, first, second, third, end = (tmp_path / "timers.jsonl").read_text().splitlines()
    assert change(second) != second
    text = "\n".join((header, first, change(second), third, end))
    for words, counts in ((["--check"], {"good": 2, "bad": 1}), ([], {"put": 2, "bad": 1})):
        result = expiry(elsewhere.app, "import", "--json", *words, input=text, code=1)
        assert json.loads(result.stdout) == counts
        assert re.search(f"^line 3: .*({why})", result.stderr)
    assert store_of(elsewhere.app).counts()["waiting"] == 2


def test_a_file_that_was_cut_off_is_noticed(site: Site, elsewhere: Site, tmp_path: Path) -> None:
    for number in range(3):
        schedule_on_expiry(site.record(number), 600, key=f"t:{number}", app=site.app)
    exported(site, tmp_path / "timers.jsonl")
    lines = (tmp_path / "timers.jsonl").read_text().splitlines(keepends=True)
    told_ = expiry(elsewhere.app, "import", "--check", input="".join(lines[:3]), code=1).stderr
    assert "incomplete: it has 2 timers and dead letters, and no end" in told_
    assert store_of(elsewhere.app).counts()["waiting"] == 0
    assert (
        "says that it has 3"
        in expiry(elsewhere.app, "import", input="".join([*lines[:2], lines[-1]]), code=1).stderr
    )
    assert expiry(elsewhere.app, "import", input="".join(lines)).stdout == "2 put, 1 here\n"
    assert (
        "stands behind the end"
        in expiry(elsewhere.app, "import", input="".join([*lines, lines[1]]), code=1).stderr
    )


def test_no_half_file_is_left(full: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Moving, home: str, members: Any) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(Moving, "read", failing)
    file = tmp_path / "timers.jsonl"
    assert "gone" in expiry(full.app, "export", str(file), code=1).stderr
    assert list(tmp_path.iterdir()) == []
    assert "No such file" in expiry(full.app, "export", str(tmp_path / "no" / "folder"), code=1).stderr


def test_a_pipe_and_a_link_stay_what_they_are(site: Site, tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder" / "timers.jsonl"
    file.parent.mkdir()
    link.symlink_to(file)
    expiry(site.app, "export", str(link))
    assert link.is_symlink()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        expiry(site.app, "export", str(pipe))
        assert len(os.read(reader, 100_000).splitlines()) == len(file.read_text().splitlines()) == 2
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_what_is_no_file_of_ours(site: Site) -> None:
    for text, why in (
        ("", "no file of celery expiry export"),
        ("{}\n", "no file of celery expiry export"),
        ("[" * 100_000, "no file of celery expiry export"),
        ('{"celery_redis_expiry": Infinity, "format": 1}', "no file of celery expiry export"),
        ('{"celery_redis_expiry": 2, "format": 1}', "upgrade"),
        ('{"celery_redis_expiry": 1, "format": 2}', "upgrade"),
        ('{"celery_redis_expiry": 1, "format": 1, "app": "x", "counts": 1}\n{"end": 0}', "the app 'x'"),
        (
            '{"celery_redis_expiry": 1, "format": 1, "app": "other", "counts": {"a": "b"}}\n{"end": 0}',
            "the app 'other'",
        ),
    ):
        assert why in expiry(site.app, "import", input=text, code=1).stderr
    assert expiry(site.app, "import", "--adopt", input=text).stdout == "0 timers\n"
    expiry(site.app, "import", "nowhere.jsonl", code=2)
    site.redis.hset(site.key("namespace"), mapping={"format": 1, "app": "other", "broker": "x"})
    assert "belongs to the app 'other'" in expiry(site.app, "import", "--adopt", input=text, code=1).stderr


def test_while_workers_run(site: Site, elsewhere: Site, tmp_path: Path) -> None:
    schedule_on_expiry(site.record(1), 600, app=site.app)
    schedule_on_expiry(site.record(2), 0, key="claimed", app=site.app)
    for each in (site, elsewhere):
        store_of(each.app).shards[0].look("busy@host:token", limit=10, parked=0)
    result = expiry(site.app, "export", str(tmp_path / "timers.jsonl"))
    assert "expiry workers are running (busy@host)" in result.stderr
    told_ = expiry(elsewhere.app, "import", str(tmp_path / "timers.jsonl"), code=1).stderr
    assert "stop the expiry workers first (busy@host)" in told_
    assert expiry(elsewhere.app, "import", "--live", str(tmp_path / "timers.jsonl")).stdout == "2 put\n"
    # one that is due is seen by a worker that sleeps
    [shard] = store_of(site.app).shards
    while not shard.claim([(str(shard.find("claimed")), True)], token="t", lease=60):
        pass
    assert "1 timers are claimed" in expiry(site.app, "export", code=1).stderr


def test_what_a_dead_worker_had_claimed_is_exported(site: Site) -> None:
    schedule_on_expiry(site.record(2), 0, key="claimed", app=site.app)
    [shard] = store_of(site.app).shards
    while not shard.claim([(str(shard.find("claimed")), True)], token="t", lease=0):
        pass
    lines = expiry(site.app, "export").stdout.splitlines()
    assert json.loads(lines[1])["claim"].endswith(":?")


def test_a_sleeping_worker_is_woken(site: Site, elsewhere: Site) -> None:
    schedule_on_expiry(site.record(1), 5, app=site.app)
    text = expiry(site.app, "export").stdout
    [shard] = store_of(elsewhere.app).shards
    shard.look("busy@host:token", limit=10, parked=0)
    with site.server.client(2) as client, client.pubsub() as heard:
        heard.subscribe(shard.keys.wake)
        heard.get_message(timeout=5)
        expiry(elsewhere.app, "import", "--live", input=text)
        message = heard.get_message(timeout=5)
        assert message
        assert int(message["data"]) == json.loads(text.splitlines()[1])["score"]


@pytest.mark.timeout(120)
def test_from_one_server_to_a_cluster_and_back(
    full: Site, elsewhere: Site, make_site: Callable[..., Site], redis_cluster: RedisCluster, tmp_path: Path
) -> None:
    """Other shards, other servers: the same timers."""
    _, *lines, _ = exported(full, tmp_path / "timers.jsonl")
    cluster = make_site(expiry_redis_url=redis_cluster.url())
    assert told(cluster.app, "import", str(tmp_path / "timers.jsonl")) == [{"put": len(lines)}]
    assert len(store_of(cluster.app).shards) == 64
    _, *there, _ = exported(cluster, tmp_path / "cluster.jsonl")

    def ordered(lines: list[Any]) -> list[str]:
        return sorted(json.dumps(line, sort_keys=True) for line in lines)

    assert ordered(there) == ordered(lines)
    assert told(elsewhere.app, "import", str(tmp_path / "cluster.jsonl")) == [{"put": len(lines)}]
    assert lying(elsewhere, 2) == lying(full, 0)
