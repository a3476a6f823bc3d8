"""The example project, as one who refers friends sees it, and as its operator does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.redis import RedisServer
from tests.servers.shop import Shop
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CONTRAST = Path(__file__).with_name("contrast.js").read_text()
DAY = 86_400
#: By path, colours, and width.
PICTURES = {
    ("/", "light", 1280): "example.png",
    ("/", "dark", 1280): "example-dark.png",
    ("/", "light", 360): "example-phone.png",
    ("/ops", "light", 1280): "example-ops.png",
}
#: A picture in the docs must not be heavier; bytes.
HEAVY = 200_000


@pytest.fixture(scope="module")
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis(appendonly="yes")


@pytest.fixture(scope="module")
def open_shop(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(
        server, tmp_path_factory.mktemp("shop"), OPS_OPEN="1", REFERRAL_DELAY=str(DAY), CART_SECONDS="2"
    )
    try:
        yield shop.start()
    finally:
        shop.close()


@pytest.fixture
def shop(open_shop: Shop, show_log: Callable[..., None]) -> Shop:
    """The shop as the last test left it."""
    show_log(open_shop.log)
    return open_shop


def friend(page: Page, phone: str) -> Locator:
    return page.locator("[data-list=friends] > li", has_text=phone)


def seconds(timer: Locator) -> int:
    """What a countdown shows."""
    shown = re.fullmatch(r"(\d+) s", timer.inner_text())
    assert shown, timer.inner_text()
    return int(shown[1])


def see(locator: Locator, words: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(locator).to_contain_text(words, timeout=15_000)


def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {selector}")


def refer(page: Page, phone: str, delay: str) -> None:
    """By keyboard: into each field, then Enter."""
    for selector, text in (("#referrer", "Ann"), ("#phone", phone), ("#delay", delay)):
        tab_to(page, selector)
        page.keyboard.press("Control+A")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    see(page.locator("#told"), phone)


def test_two_friends_by_keyboard(shop: Shop, page: Page) -> None:
    page.goto(shop.url)
    page.evaluate("window.loaded = 'once'")
    refer(page, "555-0101", "6")
    # ready for the next friend
    assert page.evaluate("document.activeElement.id") == "phone"
    page.keyboard.press("Shift+Tab")
    refer(page, "555-0102", "6")

    ring = friend(page, "555-0102").locator(".dial")
    before = seconds(ring), float(ring.evaluate("ring => ring.style.getPropertyValue('--left')"))
    tab_to(page, f"#{friend(page, '555-0101').get_attribute('id')} [data-act=sign-up]")
    page.keyboard.press("Enter")
    see(friend(page, "555-0101"), "Signed up")
    # what had the focus is gone, and the focus stays in the row
    assert "555-0101" in page.evaluate("document.activeElement.closest('li')?.innerText ?? ''")
    eventually(lambda: seconds(ring) < before[0], what="the countdown runs")
    assert float(ring.evaluate("ring => ring.style.getPropertyValue('--left')")) < before[1]

    texts = page.locator("[data-list=texts]")
    see(texts, "555-0102")
    see(friend(page, "555-0102"), "Got the text")
    # who signed up would have been due before
    assert "555-0101" not in texts.inner_text()
    assert (len(shop.texts("555-0101")), len(shop.texts("555-0102"))) == (0, 1)
    assert texts.get_attribute("aria-live") == "polite"
    assert page.evaluate("window.loaded") == "once"


def test_a_timer_is_moved_and_cancelled(shop: Shop, page: Page) -> None:
    number = shop.refer("555-0111", delay=29)
    page.goto(shop.url)
    row = friend(page, "555-0111")
    eventually(lambda: seconds(row.locator(".dial")) < 30, what="the countdown runs")
    page.focus(f"#friend-{number} [data-act=later]")
    page.keyboard.press("Space")
    see(page.locator("#told"), "30 seconds more")
    eventually(lambda: 30 < seconds(row.locator(".dial")) < 60, what="the countdown of the new time")
    # whoever wants more time presses it again
    assert page.evaluate("document.activeElement.dataset.act") == "later"
    row.get_by_role("button", name="Cancel the reminder for 555-0111").click()
    see(row, "Cancelled")
    assert shop.look(number)["timer_due"] is None


def test_a_cart_that_is_left(shop: Shop, page: Page) -> None:
    """A key of the shop: each thing put in extends it, and its expiry runs a task, with what was in it."""
    page.goto(f"{shop.url}/carts")
    for good in ("tea", "tea", "honey"):
        page.get_by_role("button", name=f"Put in {good}").click()
    see(page.locator(".told"), re.compile("1 × honey, 2 × tea; .* s left"))

    def left() -> bool:
        page.reload()
        return page.locator("main li").count() > 0

    eventually(left, every=0.3, what="the cart among those that were left")
    assert page.locator("main li").count() == 1
    see(page.locator("main li"), re.compile("cart:.*(1 × honey, 2 × tea|2 × tea, 1 × honey)"))
    see(page.locator(".told"), "It is empty.")


def test_without_javascript(shop: Shop, new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(shop.url)
    see(page.locator("noscript p"), "load the page again")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_label("Friend’s phone").fill("555-0121")
    page.get_by_label("Delay, seconds").fill("600")
    page.get_by_role("button", name="Refer", exact=True).click()
    row = friend(page, "555-0121")
    due = row.locator("time").get_attribute("datetime")
    row.get_by_role("button", name="+30 s").click()
    assert row.locator("time").get_attribute("datetime") > due
    row.get_by_role("button", name="Cancel").click()
    see(row, "Cancelled")
    row.get_by_role("button", name="Sign up").click()
    see(row, "Signed up")
    page.get_by_label("Your name").fill(" ")
    page.get_by_label("Friend’s phone").fill("555-0122")
    page.get_by_role("button", name="Refer", exact=True).click()
    see(page.locator("#referrer-error"), "required")
    assert page.get_by_label("Friend’s phone").input_value() == "555-0122"


def test_the_operators_see_what_waits_and_how_late_it_was(
    shop: Shop, page: Page, server: RedisServer
) -> None:
    shop.refer("555-0131", delay=0)
    number = shop.refer("555-0132", delay=40)
    shop.damage(shop.refer("555-0133", delay=2))
    page.goto(f"{shop.url}/ops")
    first = page.locator("dl div", has_text="Next timer")
    see(first, f"referral:{number}")
    before = seconds(first.locator("time"))
    eventually(lambda: seconds(first.locator("time")) < before, what="the countdown runs")
    see(page.locator("#next tbody tr").first, "referrals.tasks.check_signup")
    see(page.locator("#next tbody tr").first, f"({number},)")
    # appear as they come, without a reload
    see(page.locator("dl div", has_text="Lateness"), " ms, worst ")
    see(page.locator("dl div", has_text="Dead letters"), "1")
    see(page.locator("#dead"), "format 9")
    see(page.locator("#workers tbody"), "expiry@shop")


def play(shop: Shop) -> None:
    """Some friends with every fate there is, referred half a minute ago, and some more timers that fired."""
    dead = shop.dead_letters()
    shop.damage(shop.refer("555-0151", 3, "Emil"))
    shop.refer("555-0152", DAY, "Dora")
    shop.refer("555-0153", 0, "Ann")
    shop.refer("555-0154", 0, "Ben")
    shop.sign_up(shop.refer("555-0155", DAY, "Ann"))
    shop.refer("555-0156", 90, "Ben")
    shop.refer("555-0157", 25, "Chloe")
    shop.manage("shell", "-c", BEFORE)
    eventually(lambda: shop.texts("555-0153") and shop.texts("555-0154"), what="the texts")
    eventually(lambda: shop.dead_letters() > dead, what="the dead letter, the last of all that is due")


def test_for_everybody(shop: Shop, new_page: Callable[..., Page], pictures: Path) -> None:
    """Light and dark, small and wide: it can be read, nothing is beyond the edge, everything has its name."""
    play(shop)
    page = new_page(reduced_motion="reduce")
    for path, words in (("/", "Got the text"), ("/ops", re.compile(r"Dead letters\s*[1-9]"))):
        page.goto(shop.url + path)
        see(page.locator("main"), words)
        eventually(lambda: " s" in page.locator("time").first.inner_text(), what="the countdown runs")
        assert page.locator("h1").count() == 1
        assert page.evaluate(HEADINGS) == []
        assert page.evaluate(NAMELESS) == []
        for scheme, width in itertools.product(("light", "dark"), (360, 1280)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 940})
            beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert beyond <= 0, f"{path}, {scheme}, {width} px wide"
            assert page.evaluate(CONTRAST) == [], f"{path}, {scheme}"
            if name := PICTURES.get((path, scheme, width)):
                page.screenshot(path=pictures / name, full_page=path == "/ops")
                assert (pictures / name).stat().st_size < HEAVY


def test_redis_and_the_gateway_go_away_and_come_back(shop: Shop, page: Page, server: RedisServer) -> None:
    failed: list[Any] = []
    page.on("response", lambda response: failed.append(response.url) if response.status == 500 else None)
    shop.refer("555-0141", delay=DAY)
    page.goto(shop.url)
    notices = page.locator("[data-list=notices]")
    server.stop()
    shop.processes["gateway"].kill()
    see(notices, "Redis does not answer")
    see(notices, "gateway does not answer")
    see(friend(page, "555-0141"), "Not known")
    page.keyboard.press("Tab")
    refer(page, "555-0142", "600")
    see(page.locator("#told.problem"), "is saved, but has no timer")
    friend(page, "555-0141").get_by_role("button", name="Sign up").click()
    see(friend(page, "555-0141"), "Signed up")
    operators = page.context.new_page()
    operators.goto(f"{shop.url}/ops")
    see(operators.locator("main"), "Redis does not answer")

    server.start()
    shop.start_gateway()
    see(friend(page, "555-0142"), "No timer")
    shop.manage("rearm_referrals")
    see(friend(page, "555-0142"), "A text at")
    see(operators.locator("dl"), "referral:")
    assert notices.inner_text().strip() == ""
    assert not failed


#: Friends were referred earlier than they were, and others, who are gone meanwhile, before them.
BEFORE = """
from datetime import timedelta
from celery_redis_expiry import schedule_many_on_expiry
from django.db.models import F
from referrals.models import Referral
from referrals.tasks import check_signup
schedule_many_on_expiry((check_signup.s(0), 0.5 + number / 100) for number in range(150))
Referral.objects.update(created_at=F("created_at") - timedelta(seconds=30))
"""

#: Headings that skip a level.
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3")]
  .filter((one, place, all) => one.tagName[1] - (all[place - 1]?.tagName[1] ?? 0) > 1)
  .map((one) => one.outerHTML)"""

#: What can be used and has no name, or shares it with something else, or is hard to hit (WCAG 2.5.8).
NAMELESS = """() => {
  const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), [role=region]")];
  const names = all.map((one) => one.labels?.[0]?.textContent ?? one.ariaLabel ?? one.textContent.trim());
  const wrong = all.filter((one, place) => !names[place] || names.indexOf(names[place]) !== place);
  const small = all.filter((one) => !one.matches(".skip") && one.getBoundingClientRect().height < 24);
  return [...wrong, ...small].map((one) => one.outerHTML);
}"""
