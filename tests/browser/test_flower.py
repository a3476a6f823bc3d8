"""Flower, unmodified, in a browser: what it shows of timers, and that its button calls one off for good."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from celery_redis_expiry import cancel, iter_timers, reschedule, schedule_on_expiry
from tests.conftest import missing
from tests.servers.flower import Flower
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker, environment
from tests.site import Site
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

HOUR = 3600


@dataclass
class Stage:
    """A site with both kinds of workers, and Flower beside them."""

    site: Site
    flower: Flower
    workers: list[Worker] = field(default_factory=list)
    start_up: float = 0.0

    def start_workers(self) -> None:
        began = time.monotonic()
        self.workers = [self.site.expiry(ready=False), self.site.ordinary(ready=False)]
        for worker in self.workers:
            worker.wait_ready()
        self.start_up = time.monotonic() - began

    def listed(self) -> set[str]:
        """The workers that Flower lists."""
        told = json.loads(self.flower.request("GET", "/workers?json=1")[1])
        return {worker["hostname"] for worker in told["data"]}

    def wait_told(self, id: str, **told: Any) -> dict[str, Any]:
        """Until Flower tells this of a task: the name of a field and its value, or True for any value."""

        def look() -> dict[str, Any] | None:
            task = self.flower.task(id)
            fits = all(
                task.get(name) is not None if value is True else task.get(name) == value
                for name, value in told.items()
            )
            return task if task and fits else None

        return eventually(look, every=0.05, what=lambda: f"{told} of {self.flower.task(id)}")


@pytest.fixture(scope="module")
def stage(
    shared_redis: Callable[..., RedisServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    try:
        import flower  # noqa: F401
    except ImportError:
        missing("Flower is not installed: pip install -e '.[flower]'")
    site = Site(
        shared_redis(use="flower"),
        tmp_path_factory.mktemp("flower"),
        task_send_sent_event=True,
        worker_send_task_events=True,
    )
    site.reset()
    flower_process = Flower("ledger_app:app", site.folder, env=environment(site.config))
    stage = Stage(site, flower_process)
    try:
        stage.start_workers()
        flower_process.wait_ready()
        yield stage
    finally:
        flower_process.stop()
        site.close()


@pytest.fixture(autouse=True)
def fresh(stage: Stage, show_log: Callable[..., None]) -> None:
    """No timer waits from the test before; where this one fails, the logs are shown."""
    for timer in iter_timers(app=stage.site.app):
        cancel(timer.id, app=stage.site.app)
    for name, process in [("Flower", stage.flower.process), *((w.name, w.process) for w in stage.workers)]:
        show_log(lambda name=name, process=process: (f"log of {name}", process.tail()))


def detail(page: Page, name: str) -> Locator:
    """What a task's page says under a heading."""
    return (
        page.locator(".detail-row")
        .filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
        .locator("dd")
    )


def test_the_expiry_worker_stands_among_the_workers(stage: Stage, page: Page) -> None:
    from playwright.sync_api import expect

    def listed() -> bool:
        page.goto(f"{stage.flower.url}/workers")
        return page.get_by_role("link", name="expiry@test").is_visible()

    eventually(listed, every=0.3, what="the expiry worker on the page of workers")
    row = page.get_by_role("row").filter(has_text="expiry@test")
    expect(row).to_contain_text("Online")
    page.get_by_role("link", name="expiry@test").click()
    pool = page.locator("#tab-pool")
    expect(pool.get_by_role("row").filter(has_text="Implementation")).to_contain_text("Expiry")
    page.get_by_role("tab", name="Queues").click()
    expect(page.locator("#tab-queues")).to_be_visible()
    expect(page.locator("#worker-queues tr")).to_have_count(0)
    page.get_by_role("tab", name="Other").click()
    figures = page.locator("#tab-other").get_by_role("row").filter(has_text="expiry")
    expect(figures).to_contain_text(re.compile(r"'waiting': \d+,.*'fired_by_event': \d+,"))


def test_a_timer_is_found_while_it_waits_and_followed_to_its_end(stage: Stage, page: Page) -> None:
    from playwright.sync_api import expect

    schedule_on_expiry(stage.site.record("somebody else"), HOUR)
    result = schedule_on_expiry(stage.site.record("a friend", friend="Grace Hopper"), HOUR)
    stage.wait_told(result.id, name="ledger.record", state="RECEIVED", worker="expiry@test")

    page.goto(f"{stage.flower.url}/tasks")
    expect(page.locator("#tasks-table tbody tr")).to_have_count(2)
    page.get_by_role("searchbox").fill("hopper")
    expect(page.locator("#tasks-table tbody tr")).to_have_count(1)
    page.get_by_role("link", name=result.id).click()
    expect(detail(page, "Name")).to_have_text("ledger.record")
    expect(detail(page, "UUID")).to_contain_text(result.id)
    expect(detail(page, "Arguments")).to_have_text("('a friend',)")
    expect(detail(page, "Keyword arguments")).to_have_text("{'friend': 'Grace Hopper'}")
    expect(detail(page, "ETA")).to_have_text(result.due.isoformat())

    assert reschedule(result, 2 * HOUR)
    page.reload()
    stage.wait_told(result.id, eta=result.due.isoformat())

    assert reschedule(result, 0)
    task = stage.wait_told(result.id, state="SUCCESS")
    assert task["received"] < task["started"] < task["succeeded"]
    assert (task["worker"], task["result"]) == ("ordinary@test", "'a friend'")


def test_a_retry_is_seen_under_the_same_uuid(stage: Stage) -> None:
    result = schedule_on_expiry(stage.site.task("try_twice").s("again"), HOUR)
    stage.wait_told(result.id, state="RECEIVED")
    # Flower is told of it when it is stored: one due at once may have run by then
    assert reschedule(result, 1)
    task = stage.wait_told(result.id, state="SUCCESS")
    assert task["sent"] < task["retried"] < task["succeeded"]
    assert task["retries"] == 1


def test_cancelled_and_replaced_timers_are_shown_as_revoked(stage: Stage) -> None:
    replaced = schedule_on_expiry(stage.site.record("replaced"), HOUR, key="cart:7")
    cancelled = schedule_on_expiry(stage.site.record("cancelled"), HOUR, key="cart:7")
    stage.wait_told(replaced.id, state="REVOKED", revoked=True)
    assert cancelled.cancel()
    stage.wait_told(cancelled.id, state="REVOKED", revoked=True)
    # a name that Flower does not know would stand there as a worker for ever
    assert stage.listed() <= {"expiry@test", "ordinary@test"}


def test_the_expiry_worker_lists_the_next_timers(stage: Stage, page: Page) -> None:
    from playwright.sync_api import expect

    later = schedule_on_expiry(stage.site.record("later", user=8), 2 * HOUR)
    sooner = schedule_on_expiry(stage.site.record("sooner", user=7), HOUR / 2)
    page.goto(f"{stage.flower.url}/worker/expiry@test")
    page.get_by_role("tab", name="Tasks").click()
    rows = page.get_by_role("table", name="Scheduled tasks").locator("tbody tr")

    def first() -> bool:
        # what the page shows at once is from its last look at the worker
        page.reload()
        return rows.count() > 0 and sooner.id in rows.first.inner_text()

    eventually(first, every=0.3, what=lambda: f"{sooner.id} in front: {rows.all_inner_texts()}")
    expect(rows.first).to_contain_text("ledger.record")
    expect(rows.first).to_contain_text("('sooner',)")
    expect(rows.first).to_contain_text("{'user': 7}")
    expect(rows.last).to_contain_text(later.id)
    page.get_by_role("tab", name="Tasks").click()
    rows.first.get_by_role("link").click()
    expect(detail(page, "Arguments")).to_have_text("('sooner',)")


def test_what_flower_revokes_never_runs_though_all_workers_restart(stage: Stage, page: Page) -> None:
    from playwright.sync_api import expect

    site, patience = stage.site, 5 + 3 * stage.start_up
    by_button = schedule_on_expiry(site.record("by the button"), patience)
    by_api = schedule_on_expiry(site.record("over HTTP"), patience)
    schedule_on_expiry(site.record("due last"), patience + 0.5)
    stage.wait_told(by_button.id, state="RECEIVED")

    page.goto(f"{stage.flower.url}/task/{by_button.id}")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text(f"Revoked '{by_button.id}'")).to_be_visible()
    stage.wait_told(by_button.id, state="REVOKED")

    # the workers remember in vain what was revoked, and one call comes while there is none
    for worker in stage.workers:
        worker.kill()
    assert stage.flower.request("POST", f"/api/task/revoke/{by_api.id}")[0] == 200
    stage.start_workers()

    site.wait_run("due last", timeout=30 + patience)
    runs = [run["label"] for run in site.drain(1)]
    assert not {"by the button", "over HTTP"} & set(runs), runs
