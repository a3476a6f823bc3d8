"""Python blocks: executed statement by statement, and held to what their comments say."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

import celery_redis_expiry
from celery_redis_expiry.connections.location import locate
from celery_redis_expiry.settings import Settings, documented
from tests.docs.blocks import Block

ERRORS = {
    name: value
    for name, value in vars(celery_redis_expiry).items()
    if isinstance(value, type) and issubclass(value, Exception)
}
RAISES = re.compile(rf"# ({'|'.join(ERRORS)})\b")
STATE = re.compile(r"# ([A-Z]{3,})\b")
#: Methods that are called for what they do.
ANSWER_NOTHING = ("revoke",)


def run(block: Block, names: dict[str, Any]) -> None:
    """Execute the block in the names of its page.

    A statement whose comment is one of our errors (`# TimerExists`) must raise it. An expression that stands
    alone is shown for its value: neither None nor False is worth showing, and a text is the word in capitals
    that its comment says (`# SCHEDULED`).
    """
    lines = block.code.splitlines()
    for statement in ast.parse(block.code).body:
        end = lines[(statement.end_lineno or 1) - 1]
        error = RAISES.search(end)
        if error:
            with pytest.raises(ERRORS[error[1]]):
                _execute(statement, block, names)
            continue
        value = _execute(statement, block, names)
        place = f"{block.page}:{statement.lineno}"
        assert value not in (None, False), f"{place} is {value!r}"
        state = STATE.search(end)
        assert not state or not isinstance(value, str) or value == state[1], f"{place} is {value!r}"


def check_settings(page: str, app: Any) -> None:
    """What the page has set in its app are settings of ours with values that we take."""
    names = {name for name, *_ in documented()}
    strange = {name for name in app.conf.changes if name.startswith("expiry_")} - names
    assert not strange, f"{page}: there is no {strange}"
    Settings.of(app)
    if app.conf.get("expiry_redis_url"):
        locate(app)


def _execute(statement: ast.stmt, block: Block, names: dict[str, Any]) -> Any:
    """Its value if it is an expression, else True; a traceback shows the page's own lines."""
    ast.increment_lineno(statement, block.line - 1)
    if isinstance(statement, ast.Expr):
        value = eval(compile(ast.Expression(statement.value), block.page, "eval"), names)
        call = statement.value.func if isinstance(statement.value, ast.Call) else None
        return value if getattr(call, "attr", "") not in ANSWER_NOTHING else True
    exec(compile(ast.Module([statement], []), block.page, "exec"), names)
    return True
