"""The admin's page of timers, by Django's own client on a real Redis."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client

from celery_redis_expiry import get_timer, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.contrib.django import listing
from tests.servers.processes import free_port
from tests.site import Site

URL = "/admin/celery_redis_expiry/timer/"


@pytest.fixture
def login() -> Iterator[Callable[..., Client]]:
    """A client who is staff, with these permissions; all where none is named."""

    def make(*permissions: str, staff: bool = True) -> Client:
        user = User.objects.create(
            username=f"user{User.objects.count()}", is_staff=staff, is_superuser=not permissions and staff
        )
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        assert user.user_permissions.count() == len(permissions)
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    yield make
    LogEntry.objects.all().delete()
    User.objects.all().delete()


def shown(client: Client, query: str = "", status: int = 200) -> str:
    answer = client.get(URL + query)
    assert answer.status_code == status
    return html.unescape(answer.content.decode())


def rows(page: str) -> list[str]:
    """The names on it."""
    return re.findall(r'<th scope="row">([^<]*)</th>', page)


def press(client: Client, act: str, ids: list[str], query: str = "", **more: str) -> Any:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown(client, query))
    assert token
    return client.post(
        URL + query, {"csrfmiddlewaretoken": token[1], "act": act, "id": ids, **more}, follow=True
    )


def test_it_lists_what_waits_soonest_first(site: Site, login: Callable[..., Client]) -> None:
    schedule_on_expiry(site.record("later", note="<b>"), seconds=2000, key="later")
    sooner = schedule_on_expiry(site.record("sooner").set(queue="other"), seconds=1000, key="sooner")
    parked = schedule_on_expiry(site.record(1), seconds=100, key="parked")
    site.redis.persist(parked.timer.trigger_key)
    schedule_on_expiry(site.record(2), watch="a:key", key="watching")
    client = login()
    page = shown(client)
    assert rows(page) == ["parked", "sooner", "later", "watching"]
    for words in (sooner.id, "ledger.record", "('sooner',)", "other", "when a:key expires", "4 waiting"):
        assert words in page
    assert "<b>" not in client.get(URL).content.decode()
    assert "Timers" in client.get("/admin/").content.decode()


def test_filters(site: Site, login: Callable[..., Client]) -> None:
    first = schedule_on_expiry(site.record(1), seconds=100, key="cart:1")
    schedule_on_expiry(site.task("fail").s(2), seconds=200, key="cart:2")
    schedule_on_expiry(site.task("fail").s(3), seconds=300, key="user:3")
    client = login("view_timer")
    assert rows(shown(client, "?name=cart:*")) == ["cart:1", "cart:2"]
    assert rows(shown(client, "?task=*.fail")) == ["cart:2", "user:3"]
    assert rows(shown(client, "?name=cart:*&task=*.fail")) == ["cart:2"]
    assert rows(shown(client, "?name=user:3")) == ["user:3"]
    assert rows(shown(client, f"?name={first.id}")) == ["cart:1"]
    assert rows(shown(client, "?name=nobody")) == []
    assert rows(shown(client, "?state=parked")) == []
    assert rows(shown(client, "?state=nonsense&after=nonsense")) == ["cart:1", "cart:2", "user:3"]


def test_page_by_page(site: Site, login: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where many are due in the same ms, and where few of those that are looked at fit."""
    monkeypatch.setattr(listing, "SHOWN", 4)
    monkeypatch.setattr(listing, "LOOKED_AT", 10)
    at = site.app.now().replace(year=2090)
    names = [f"t{number:02}" for number in range(11)]
    schedule_many_on_expiry({"signature": site.record(name), "at": at, "key": name} for name in names)
    schedule_on_expiry(site.record("last"), seconds=86400 * 365 * 100, key="last")
    client, seen = login("view_timer"), []
    query = "?task=ledger.*"
    for _ in range(3):
        page = shown(client, query)
        assert len(rows(page)) == 4
        seen += rows(page)
        following = re.search(r'<a href="(\?[^"]*)">Next page', page)
        query = following[1] if following else ""
    assert (sorted(seen), query) == (sorted([*names, "last"]), "")
    page = shown(client, "?name=las*")
    assert rows(page) == []
    further = re.search(r'<a href="(\?[^"]*)">Look further', page)
    assert further
    assert rows(shown(client, further[1])) == ["last"]


def test_what_others_wrote_into_redis(site: Site, login: Callable[..., Client], monkeypatch: Any) -> None:
    """Names that are no text hold neither the page up nor the way to the next."""
    monkeypatch.setattr(listing, "SHOWN", 1)
    for generation in (b"\xff", b"\xfe"):
        old = schedule_on_expiry(site.record(1), seconds=600, key="name")
        with site.server.raw_client() as client:
            [member] = client.hvals(site.key("names"))
            record = client.hget(site.key("timers"), member)
            client.hset(site.key("timers"), generation + b":na\xffme", record)
            client.zadd(site.key("due"), {generation + b":na\xffme": 4e12})
        assert old.cancel()
    client = login("view_timer")
    page = shown(client)
    assert len(rows(page)) == 1
    following = re.search(r'<a href="(\?[^"]*)">Next page', page)
    assert following
    assert len(rows(shown(client, following[1]))) == 1


@pytest.mark.parametrize("act", ["cancel", "fire"])
def test_an_act_is_confirmed_first(site: Site, login: Callable[..., Client], act: str) -> None:
    results = [schedule_on_expiry(site.record(n), seconds=1000, key=f"t{n}") for n in range(3)]
    client = login("view_timer", f"{act}_timer")
    ids = [results[0].id, results[1].id]
    asked = press(client, act, ids, "?name=t*").content.decode()
    assert "2 timers?" in asked
    assert all(result.remaining > 900 for result in results)
    done = press(client, act, ids, "?name=t*", confirmed="yes")
    assert done.redirect_chain == [(URL + "?name=t*", 302)]
    left = [result.remaining for result in results]
    assert left[2] > 900
    assert left[:2] == ([None, None] if act == "cancel" else [0.0, 0.0])
    assert sorted(LogEntry.objects.values_list("object_id", flat=True)) == sorted(ids)


def test_what_has_gone_meanwhile(site: Site, login: Callable[..., Client]) -> None:
    """Replaced by another of its name: that one is left alone."""
    old = schedule_on_expiry(site.record("old"), seconds=1000, key="name")
    gone = schedule_on_expiry(site.record("gone"), seconds=1000)
    gone.cancel()
    new = schedule_on_expiry(site.record("new"), seconds=1000, key="name")
    client = login()
    answer = press(client, "cancel", [old.id, gone.id], confirmed="yes").content.decode()
    assert "None of them waits any more" in answer
    answer = press(client, "cancel", [old.id, new.id], confirmed="yes").content.decode()
    assert "1 timer cancelled." in answer
    assert "1 did not wait any more" in answer
    assert get_timer("name") is None
    assert "No timer was selected" in press(client, "cancel", []).content.decode()


def test_who_may_what(site: Site, login: Callable[..., Client]) -> None:
    result = schedule_on_expiry(site.record(1), seconds=1000, key="name")
    assert Client().get(URL).status_code == 302
    assert login("view_timer", staff=False).get(URL).status_code == 302
    assert login("cancel_timer").get(URL).status_code == 403
    reader = login("view_timer")
    assert 'name="act"' not in shown(reader)
    canceller = login("view_timer", "cancel_timer")
    assert "Fire now" not in shown(canceller)
    for client, act in ((reader, "cancel"), (canceller, "fire"), (canceller, "nonsense")):
        assert press(client, act, [result.id], confirmed="yes").status_code == 403
    # without its token
    assert canceller.post(URL, {"act": "cancel", "id": result.id, "confirmed": "yes"}).status_code == 403
    assert result.remaining is not None
    assert login().get(f"{URL}add/").status_code == 404


def test_redis_is_away(make_site: Callable[..., Site], site: Site, login: Callable[..., Client]) -> None:
    port = free_port()
    client = login()
    with make_site(expiry_redis_url=f"redis://127.0.0.1:{port}/0").current():
        page = shown(client, status=503)
        assert f"redis://127.0.0.1:{port}/0 can't be reached" in page
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        form = {"csrfmiddlewaretoken": token[1], "act": "cancel", "id": "x", "confirmed": "yes"}
        assert client.post(URL, form).status_code == 302


def test_no_migration_is_wanted() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
