"""`celery expiry …` in this process: what an operator types, and what it prints."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from celery_redis_expiry.cli import expiry as group


def expiry(app: Celery, *words: str, code: int = 0, input: str | None = None, quiet: bool = False) -> Result:
    """Run a command to its end, and see that it ends with this exit code."""
    context = CLIContext(app=app, no_color=True, workdir=None, quiet=quiet)
    result = CliRunner().invoke(group, words, obj=context, input=input, prog_name="celery expiry")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


def told(app: Celery, *words: str, code: int = 0, input: str | None = None) -> list[Any]:
    """The lines of JSON that a command prints."""
    result = expiry(app, *words, "--json", code=code, input=input)
    return [json.loads(line) for line in result.stdout.splitlines()]
