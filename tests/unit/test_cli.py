"""The commands' helps, and the words in which they tell durations and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from celery_redis_expiry.cli import expiry
from celery_redis_expiry.cli.base import Command
from celery_redis_expiry.cli.screen import BLOCKS, histogram
from celery_redis_expiry.cli.selecting import MOMENT
from celery_redis_expiry.cli.texts import call, figure, lasting, lateness, table
from celery_redis_expiry.timer import Timer

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
#: The table of the commands.
DOCUMENTED = PAGE.partition("| command | what it does |")[2].partition("\n\n")[0]


def commands(group: Any = expiry, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_teaches(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    assert command.help
    assert all(example.split()[: len(name.split())] == name.split() for example in command.examples)
    with click.Context(command, info_name=name) as ctx:
        text = command.get_help(ctx)
        for example in command.examples:
            assert f"  celery -A proj expiry {example}\n" in text
        assert re.search(r"^Exit codes:\n  0  done\n  1  \w.*", text, re.M)
        for param in command.get_params(ctx):
            if isinstance(param, click.Option):
                assert param.help, param.opts
            else:
                assert param.make_metavar(ctx).strip("[].") in command.help, (
                    "what the argument is, is not told"
                )
    assert name in ("export", "watch") or "--json" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"^\| `{name}[ `]", DOCUMENTED, re.M)


def test_nothing_else_is_documented() -> None:
    for name in re.findall(r"^\| `([a-z-]+(?: [a-z]+)?)", DOCUMENTED, re.M):
        assert name in COMMANDS


@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90), ("10m", 600), ("1d12h", 129_600), ("1.5h", 5400), ("2w", 1_209_600)]
)
def test_durations_are_read(value: str, seconds: float) -> None:
    assert MOMENT.convert(value, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "10", "m", "10 m", "tomorrow", "1h-", "9" * 30 + "w", "2030-13-01"])
def test_what_is_no_moment(value: str) -> None:
    with pytest.raises(click.BadParameter):
        MOMENT.convert(value, None, None)


def test_durations_are_told() -> None:
    each = {0.25: "0.2s", 42.9: "42s", 310: "5m 10s", 10_860: "3h 01m", 1_051_200: "12d 4h"}
    assert {seconds: lasting(seconds) for seconds in each} == each
    assert [lateness(None), lateness(0.0034), lateness(75)] == ["-", "3.4ms", "1m 15s"]
    assert [figure(value) for value in (True, False, None, 1234, "\x1b[2J")] == [
        "on",
        "off",
        "-",
        "1,234",
        "\\x1b[2J",
    ]


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ("(1,)", "{}", "1"),
        ("(1, 'a')", "{'b': 2}", "1, 'a', 'b': 2"),
        ("()", "{}", ""),
        ("shop.add(1) | shop.add(2)", "", "shop.add(1) | shop.add(2)"),
        ("('\x1b[2J',)", "", "'\\x1b[2J'"),
    ],
)
def test_calls_are_told(args: str, kwargs: str, told: str) -> None:
    assert call(Timer("id", None, "task", None, None, "key", "parked", args, kwargs)) == told


def test_columns() -> None:
    rows = [("due", "a"), ("parked", "bb")] * 60 + [
        (
            "claimed",
            "c" * 9,
        )
    ]
    lines = list(table(("X", "NAME"), rows, lambda text, **how: f"<{text}>" if how.get("fg") else text))
    assert lines[:3] == ["X       NAME", "<due>     a", "<parked>  bb"]
    assert lines[-1] == f"<claimed>  {'c' * 9}"


def test_bars() -> None:
    assert histogram([0, 1, 4, 8], 2, BLOCKS) == ["       8    █", "          ▂██", " minutes 0"]
    assert histogram([0, 0], 1, BLOCKS)[0].split() == ["0"]
    assert histogram([1, 1000], 1, BLOCKS)[0].endswith("▁█")
