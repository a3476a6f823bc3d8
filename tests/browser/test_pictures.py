"""The pictures of Flower and of `celery expiry watch` in the docs: `make screenshots` keeps them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.flower import Flower
from tests.servers.redis import RedisServer
from tests.servers.shop import EXAMPLE, Shop
from tests.terminal import Terminal
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: Who referred whom, and in how many seconds the shop looks again.
REFERRALS = (
    ("Alan Turing", "+44 161 555 0102", 0),
    ("Ada Lovelace", "+44 20 7946 0108", 22 * MINUTE),
    ("Grace Hopper", "+1 202 555 0143", 51 * MINUTE),
    ("Barbara Liskov", "+1 617 555 0199", 9 * HOUR),
    ("Katherine Johnson", "+1 757 555 0126", 20 * HOUR),
)
#: What else waits in a shop: the task, what it is given, the timer's name, seconds.
OTHERS: tuple[tuple[str, tuple[Any, ...], str, float], ...] = (
    ("carts.remind", (4711, "mail"), "cart:4711", 8 * MINUTE),
    ("carts.remind", (4718, "push"), "cart:4718", 34 * MINUTE),
    ("orders.ask_for_review", (90210,), "review:90210", 6 * DAY),
    ("trials.warn_of_end", ("acme", 3), "trial:acme", 11 * DAY),
)
#: How many timers a busy hour has, and how many of them are due within the first minute.
MANY, SOON = 2000, 60
#: Wide enough for an ETA in one line.
WIDTH = 1560
WATCH = (sys.executable, "-m", "celery", "-A", "shop", "expiry", "watch")
#: A picture in the docs must not be heavier; bytes.
HEAVY = 200_000


class Scene:
    """The example shop at work, with Flower, and an app by which more of its timers are made."""

    def __init__(self, shop: Shop, server: RedisServer) -> None:
        self.shop = shop
        self.flower = Flower(
            "shop", shop.folder, "--tasks_columns=name,uuid,args,state,eta,worker", env=shop.env
        )
        self.app = Celery("shop", broker=server.url(), set_as_current=False)
        self.app.conf.task_send_sent_event = True

    def start(self) -> Scene:
        self.shop.start()
        self.flower.wait_ready()
        eventually(lambda: "expiry@shop" in self.flower.request("GET", "/workers")[1], what="it is online")
        numbers = [self.shop.refer(phone, delay, referrer) for referrer, phone, delay in REFERRALS]
        for task, arguments, name, seconds in OTHERS:
            schedule_on_expiry(self.app.signature(task, arguments), seconds, key=name, app=self.app)
        self.shop.sign_up(numbers[-1])
        return self

    def close(self) -> None:
        self.flower.stop()
        self.app.close()
        self.shop.close()


@pytest.fixture(scope="module")
def scene(
    start_redis: Callable[..., RedisServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    server = start_redis()
    folder = tmp_path_factory.mktemp("scene")
    scene = Scene(Shop(server, folder, PYTHONPATH=str(EXAMPLE)), server)
    try:
        yield scene.start()
    finally:
        scene.close()


@pytest.fixture(autouse=True)
def logs(scene: Scene, show_log: Callable[..., None]) -> None:
    show_log(scene.shop.log)
    show_log(lambda: ("Flower", scene.flower.process.tail()))


def test_flower(scene: Scene, new_page: Callable[..., Page], pictures: Path) -> None:
    page, url = new_page(reduced_motion="reduce"), scene.flower.url

    def picture(name: str, height: int) -> None:
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.evaluate("scrollTo(0, 0)")
        path = pictures / f"flower-{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < HEAVY

    page.goto(f"{url}/workers")
    page.get_by_text("Updated").wait_for()
    picture("workers", 600)

    page.goto(f"{url}/tasks")
    page.get_by_role("columnheader", name="ETA").first.click()
    waiting = page.get_by_role("row").filter(has_text="check_signup").filter(has_text="RECEIVED")
    waiting.first.wait_for()
    picture("tasks", 840)

    waiting.first.get_by_role("link").nth(1).click()
    page.get_by_role("button", name="Revoke").wait_for()
    picture("task", 900)

    page.goto(f"{url}/worker/expiry@shop")
    page.get_by_role("tab", name="Tasks").click()
    page.get_by_role("table", name="Scheduled tasks").wait_for()
    picture("scheduled", 840)

    page.get_by_role("tab", name="Other").click()
    page.get_by_role("table", name="Other statistics").wait_for()
    picture("figures", 640)


def test_watch(scene: Scene, new_page: Callable[..., Page], pictures: Path) -> None:
    chance = random.Random(7)

    def busy() -> Iterator[dict[str, Any]]:
        for number in range(MANY):
            # some are due while one looks; the peak comes in half an hour
            soon, later = chance.uniform(0, MINUTE), chance.gauss(30 * MINUTE, 15 * MINUTE) % HOUR
            yield {
                "signature": scene.app.signature("referrals.tasks.check_signup", (1000 + number,)),
                "seconds": soon if number < SOON else later,
                "key": f"referral:{1000 + number}",
            }

    scene.app.conf.task_send_sent_event = False
    schedule_many_on_expiry(busy(), app=scene.app)
    terminal = Terminal(WATCH, env=scene.shop.env, cwd=EXAMPLE, columns=100, rows=32)
    try:
        # once a worker has fired some between two looks
        terminal.wait_for(r"fired [1-9].*lateness p99 \d(.|\n)*due per minute(.|\n)*expiry@shop")
        html = terminal.as_html()
    finally:
        terminal.close()
    page = new_page()
    page.set_content(html)
    path = pictures / "watch.png"
    page.locator("pre").screenshot(path=path)
    assert path.stat().st_size < HEAVY
