"""`celery expiry doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import json
from itertools import groupby
from textwrap import wrap
from typing import Any

import click

from celery_redis_expiry.cli.base import Command, json_option, option
from celery_redis_expiry.doctor import ROLES, Check, Report, examine
from celery_redis_expiry.timer import shown

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "cyan"}
WIDTH = 110
#: Under the findings, after mark and name.
INDENT = 24


@click.command(
    cls=Command,
    examples=("doctor", "doctor --strict --json", "doctor --role producer"),
    failed="a check failed; with --strict, also a warning, or what could not be looked at",
)
@json_option("one document")
@option("--strict", is_flag=True, help="Exit code 1 for warnings, and for what could not be looked at, too.")
@option(
    "-t",
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds to wait for an answer; a check that takes more than twice as long is given up.",
)
@option(
    "--late",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Seconds after which a due timer counts as overdue.",
)
@option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    default=("producer", "worker"),
    show_default=True,
    help="Whose rights the app's Redis user must have; may be repeated.",
)
@click.pass_context
def doctor(
    ctx: click.Context, as_json: bool, strict: bool, timeout: float, late: float, roles: tuple[str, ...]
) -> None:
    """Look at Redis, broker, workers and timers as this app does, with a remedy for what is wrong.

    Changes nothing.
    """
    report = examine(ctx.obj.app, timeout=timeout, late=late, roles=roles)
    good = report.ok(strict=strict)
    if as_json:
        ctx.obj.echo(json.dumps({"ok": good, "checks": [check.as_dict() for check in report.checks]}))
    else:
        for line in _lines(report, ctx.obj):
            ctx.obj.echo(line)
    ctx.exit(0 if good else 1)


def _lines(report: Report, out: Any) -> list[str]:
    lines = []
    several = len({check.server for check in report.checks if check.server}) > 1
    # one line for all that could not be looked at for the same reason
    for finding, group in groupby(report.checks, key=lambda check: check.finding):
        checks = list(group)
        mark = out.style(f"{finding.status:<7}", fg=COLOURS[finding.status], bold=finding.status == "fail")
        title = ", ".join(_title(check) for check in checks)
        server = f"{checks[0].server}: " if several and checks[0].server else ""
        if len(checks) > 1:
            text = f"{finding.text}: {title}"
            title = "several"
        else:
            text = finding.text
        first, *more = _wrapped(server + text)
        lines.append(f"{mark}  {title:<15}{first}")
        lines += [" " * INDENT + line for line in more]
        if finding.remedy:
            first, *more = _wrapped(f"-> {finding.remedy}")
            lines.append(" " * INDENT + first)
            lines += [" " * (INDENT + 3) + line for line in more]
    counts = ", ".join(f"{report.count(status)} {status}" for status in COLOURS if report.count(status))
    return [*lines, f"{len(report.checks)} checks: {counts}"]


def _title(check: Check) -> str:
    return check.name.replace("_", " ")


def _wrapped(text: str) -> list[str]:
    """Errors of servers may have lines of their own; an ACL rule stays in one piece."""
    return wrap(shown(" ".join(text.split())), WIDTH - INDENT, break_long_words=False, break_on_hyphens=False)
