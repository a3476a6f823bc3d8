"""Registering handlers of users' own keys: what is refused says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group

from celery_redis_expiry import InvalidHandler, on_key_expired
from celery_redis_expiry.watching import KeyEvent, handlers_of, signature_with
from celery_redis_expiry.worker.watching.watch import watches_of

EVENT: KeyEvent = {
    "key": "session:1",
    "pattern": "session:*",
    "channel": "__keyspace@0__:session:1",
    "event": "expired",
    "due": None,
    "missed": False,
    "certain": True,
    "value": None,
    "value_at": None,
}


ROOT = Path(__file__).parents[2]


def test_each_case_of_the_table_has_its_test() -> None:
    page = (ROOT / "docs" / "own-keys.md").read_text(encoding="utf-8")
    section = page.partition("## The cases\n")[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("| ") and not row.startswith("| ---")]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row) for row in rows]
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == [
        row for row in rows if row.endswith("| tested by |")
    ]
    tests = {test for row in named for test in row}
    for file, name in tests:
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
    cases = (ROOT / "tests" / "integration" / "test_own_keys.py").read_text(encoding="utf-8")
    gaps = set(re.findall(r"^def (test_gap_\w+)\(", cases, re.MULTILINE))
    assert gaps <= {name for _, name in tests}, "a case that the page does not tell of"


@pytest.fixture
def app() -> Celery:
    app = Celery("unit", broker="redis://localhost:1/0", set_as_current=False)

    @app.task(name="told", shared=False)
    def told(event: KeyEvent, more: str) -> None: ...

    return app


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "takes a pattern"),
        (("session:*", "x"), {}, "takes a pattern"),
        (("",), {}, "at least one character"),
        ((b"x" * 600,), {}, "600 characters"),
        (("{expiry.shop.0}:trigger:*",), {}, "celery-redis-expiry itself"),
        (("prefix{expiry.*",), {}, "celery-redis-expiry itself"),
        (("session:*",), {"on": "gone"}, "on must be"),
        (("session:*",), {"on": ()}, "on must be"),
        (("session:*",), {"with_value": 1}, "with_value must be"),
        (("session:*",), {"url": 6379}, "url must be"),
    ],
)
def test_refused(app: Celery, arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidHandler, match=message):
        on_key_expired(*arguments, app=app, **options)
    assert handlers_of(app) == []


def test_a_function_that_is_no_task_yet(app: Celery) -> None:
    with pytest.raises(InvalidHandler, match=r"above @app\.task"):

        @on_key_expired("session:*", app=app)
        def told(event: KeyEvent) -> None: ...


def test_chunks_take_no_event(app: Celery) -> None:
    with pytest.raises(InvalidHandler, match="chunks"):
        on_key_expired(app, "session:*", app.tasks["told"].chunks([(1, 2)], 1))


def test_both_forms(app: Celery) -> None:
    @on_key_expired("session:*", app=app)
    @on_key_expired("cart:*", on=("expired", "deleted"))
    @app.task(name="decorated", shared=False)
    def decorated(event: KeyEvent) -> str:
        return "ran"

    assert decorated(EVENT) == "ran", "the decorator leaves the task as it is"
    on_key_expired(app, b"session:*", app.tasks["told"].s("more"), with_value=True)
    cart, session, more = handlers_of(app)
    assert (cart.pattern, cart.on) == ("cart:*", {"expired", "deleted"})
    assert (session.signature.task, more.signature.args) == ("decorated", ("more",))
    # one pattern, in text or bytes, is watched once
    assert [watch.pattern for watch in watches_of(app)] == [b"cart:*", b"session:*"]


def test_where_the_keys_are_is_a_part_of_what_is_watched(app: Celery) -> None:
    for url in (None, "redis://localhost:1/1", "redis://localhost:1/0", "redis://localhost:2/0"):
        on_key_expired(app, "session:*", app.tasks["told"], url=url)
    here, there, elsewhere = watches_of(app)
    assert [len(watch.handlers) for watch in (here, there, elsewhere)] == [2, 1, 1]
    assert len({here.id, there.id, elsewhere.id}) == 3


def test_what_was_registered_is_used_again(app: Celery) -> None:
    task = app.tasks["told"]
    assert signature_with(task.s("more"), EVENT).args == (EVENT, "more")
    assert signature_with(task.si("more"), EVENT).args == ("more",)
    several = group([task.s("more"), task.s("more")], app=app)
    assert [member.args for member in signature_with(several, EVENT).tasks] == [(EVENT, "more")] * 2
    assert [member.args for member in several.tasks] == [("more",)] * 2


def test_a_module_that_is_loaded_again_registers_nothing_twice(app: Celery) -> None:
    told = app.tasks["told"]
    for _ in range(2):
        on_key_expired("session:*", app=app)(told)
        on_key_expired(app, "session:*", told.s("more"))
    on_key_expired(app, "session:*", told.s("another"))
    [watch] = watches_of(app)
    assert [handler.signature.args for handler in watch.handlers] == [(), ("more",), ("another",)]
