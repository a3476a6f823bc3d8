"""`celery expiry watch`: one frame, frames below each other, JSON, and Redis away for a while."""

from __future__ import annotations

import builtins
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import Result

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.cli import watch
from celery_redis_expiry.cli.watching import MINUTES, Watcher
from celery_redis_expiry.store import snapshot, store_of
from tests.integration.commands import expiry, told
from tests.servers.cluster import RedisCluster
from tests.servers.processes import free_port
from tests.servers.proxy import Proxy
from tests.site import Site

pytestmark = pytest.mark.usefixtures("current")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """End the watch with a Ctrl-C while it sleeps after so many looks."""

    def after(number: int) -> None:
        left = number

        def sleep(seconds: float) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt

        monkeypatch.setattr(watch.time, "sleep", sleep)

    return after


def test_one_frame(site: Site) -> None:
    schedule_many_on_expiry((site.record(n), 90) for n in range(40))
    schedule_on_expiry(site.record("soon"), 30, key="soon")
    schedule_on_expiry(site.record("later"), 86_400)
    output = expiry(site.app, "watch", "--once").stdout
    assert "\x1b" not in output
    assert re.search(r"waiting 42 +due 0 +claimed 0 +parked 0 +dead letters 0", output)
    assert re.search(r"^remaining .*\n(\d\d)s +\S+ \S+ +soon +ledger\.\S+ +'soon'", output, re.M)
    assert "1 later" in output
    assert "no expiry worker is running" in output


def test_frames_below_each_other_where_there_is_no_terminal(site: Site, looks: Callable[[int], None]) -> None:
    looks(3)
    assert expiry(site.app, "watch", "--interval", "0.2").stdout.count("celery expiry watch") == 3


def test_json(site: Site, looks: Callable[[int], None]) -> None:
    schedule_on_expiry(site.record(1), 90, key="a")
    looks(2)
    first, second = told(site.app, "watch")
    assert first["at"] < second["at"]
    assert (first["waiting"], first["ahead"][:3], len(first["ahead"])) == (1, [0, 1, 0], MINUTES)
    assert first["next"][0]["name"] == "a"
    assert (first["error"], first["away"], first["rate"], first["lateness"]) == (None, None, None, {})


def test_redis_goes_away_and_comes_back(make_site: Callable[..., Site], proxy: Proxy) -> None:
    site = make_site(expiry_redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    schedule_on_expiry(site.record(1), 90, app=site.app)
    watcher = Watcher(site.app, 0)
    before = watcher.look()
    proxy.refuse()
    away = watcher.look()
    still = watcher.look()
    proxy.accept_again()
    back = watcher.look()
    assert (before.error, back.error) == (None, None)
    assert "can't be reached" in str(away.error)
    assert away.away == still.away == away.at
    assert still.counted == before.counted
    proxy.refuse()
    output = expiry(site.app, "watch", "--once", code=1).stdout
    assert "Redis can't be asked since" in output
    assert "waiting" not in output
    assert "no expiry worker" not in output, "nobody knows"


def test_the_rate_is_of_those_that_answered_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [shard] = store_of(site.app).shards
    for name in ("a", "b", "c"):
        shard.look(f"{name}@host:token", limit=1, parked=0)
    answers: Iterator[dict[str, Any]] = iter(
        (
            {"a@host": {"fired": 100}, "b@host": {"fired": 50}, "c@host": None},
            {"a@host": {"fired": 300, "lateness": {"p50": 0.001, "p99": None}}, "b@host": {"fired": 10}},
        )
    )
    monkeypatch.setattr("celery_redis_expiry.cli.watching.asked", lambda *_: (next(answers), None))
    watcher = Watcher(site.app, 1)
    assert watcher.look().rate is None
    time.sleep(0.01)
    view = watcher.look()
    assert view.rate
    assert 0 < view.rate <= 200 / 0.01
    assert view.lateness == {"p50": 0.001}


def test_the_broker_is_away(site: Site) -> None:
    """What Redis says is told all the same."""
    store_of(site.app).shards[0].look("a@host:token", limit=1, parked=0)
    site.app.conf.broker_url = f"redis://127.0.0.1:{free_port()}/0"
    site.app.conf.expiry_redis_url = site.server.url()
    screen = expiry(site.app, "watch", "--once").stdout
    assert "the workers can't be asked over the broker" in screen
    assert "not asked" in screen
    result = expiry(site.app, "stats")
    assert "the workers can't be asked over the broker" in result.stderr
    assert "waiting  0" in result.stdout
    assert "a@host: was not asked" in result.stdout


def test_the_broker_hangs(site: Site, proxy: Proxy) -> None:
    store_of(site.app).shards[0].look("a@host:token", limit=1, parked=0)
    site.app.conf.broker_url = f"redis://127.0.0.1:{proxy.port}/0"
    site.app.conf.expiry_redis_url = site.server.url()
    proxy.swallow()
    result = expiry(site.app, "stats", "--timeout", "0.2")
    assert "the workers can't be asked over the broker" in result.stderr
    assert "waiting  0" in result.stdout


def test_a_worker_of_an_odd_name(site: Site) -> None:
    """Whoever may write into Redis has the terminal of whoever looks do nothing."""
    store_of(site.app).shards[0].look("a\x1b]0;b@host:token", limit=1, parked=0)
    for words in (("stats", "--timeout", "0"), ("watch", "--once"), ("export",)):
        result = expiry(site.app, *words)
        assert "a\\x1b]0;b@host" in result.output
        assert "\x1b]" not in result.output
    header = expiry(site.app, "export").stdout
    assert "a\\x1b]0;b@host" in expiry(site.app, "import", input=header, code=1).stderr


def test_without_rich(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def without(name: str, *args: Any, **how: Any) -> Any:
        if name.split(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imports(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    result: Result = expiry(site.app, "watch", "--once", code=1)
    assert "pip install 'celery-redis-expiry[watch]'" in result.stderr
    assert json.loads(expiry(site.app, "watch", "--once", "--json").stdout)["waiting"] == 0


def test_what_a_look_costs_does_not_grow(site: Site) -> None:
    def cost() -> int:
        site.redis.config_resetstat()
        snapshot(store_of(site.app), minutes=MINUTES, first=3)
        stats: Any = site.redis.info("commandstats")
        return sum(
            each["calls"]
            for name, each in stats.items()
            if name not in ("cmdstat_info", "cmdstat_config|resetstat")
        )

    schedule_many_on_expiry((site.record(n), 90 + n) for n in range(10))
    cost()  # by which the template of these messages is read
    few = cost()
    schedule_many_on_expiry((site.record(n), 90 + n) for n in range(400))
    assert cost() == few


def test_all_shards_of_a_cluster(redis_cluster: RedisCluster, make_site: Callable[..., Site]) -> None:
    site = make_site(expiry_redis_url=redis_cluster.url())
    schedule_many_on_expiry(
        ({"signature": site.record(n), "seconds": 60 * (n % 3) + 30, "key": f"t{n}"} for n in range(60)),
        app=site.app,
    )
    seen = snapshot(store_of(site.app), minutes=5, first=30)
    assert (seen.waiting, seen.ahead) == (60, [20, 20, 20, 0, 0])
    dues = [timer.due for timer in seen.next]
    assert len(dues) == 30
    assert dues == sorted(due for due in dues if due)
