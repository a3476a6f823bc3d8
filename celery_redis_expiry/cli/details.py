"""All that is known of one timer, or dead letter."""

from __future__ import annotations

import re
from typing import Any

import click

from celery_redis_expiry.cli.base import say_json
from celery_redis_expiry.cli.texts import letter_told, timer_told
from celery_redis_expiry.keys import label_of
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import DeadLetter, Timer, Undecodable, as_datetime, as_ms, shown


def known(timers: Store, found: Timer | DeadLetter) -> dict[str, Any]:
    """All that is known of a timer or dead letter."""
    if isinstance(found, Timer):
        shard = timers.home(found.name or found.id)
        member = found.trigger_key.removeprefix(shard.keys.trigger(""))
        told = timer_told(found) | (_occurrences(found) if found.every else {})
    else:
        shard, member, told = timers.shards[found.shard], found.member, letter_told(found)
    stored, size, claim, lease_end = shard.kept(member)
    attempts = re.fullmatch(r"[^:]*:(\d+):(\d+)(:\?)?", claim)
    told |= {
        "trigger_key": shard.keys.trigger(member),
        "generation": member.removesuffix(label_of(member)).removesuffix(":"),
        "shard": shard.number,
        "attempts": int(attempts[2]) if attempts else 0,
        "unsure": bool(attempts and attempts[3]),
        "lease_end": as_datetime(as_ms(lease_end)).isoformat() if lease_end is not None else None,
        "size": size,
    }
    if isinstance(stored, Undecodable):
        return told | {"kind": "damaged", "error": str(stored)}
    content = stored.content
    message = content.get("arguments")
    message = dict(message) if isinstance(message, dict) else {}
    headers = message.pop("headers", None)
    return told | {
        "kind": content.get("kind"),
        "expires": content.get("expires"),
        "guard": stored.guard.encode() if stored.guard else {},
        "since": as_datetime(stored.since).isoformat() if stored.since is not None else None,
        "message": message,
        "headers": headers if isinstance(headers, dict) else {},
    }


def _occurrences(timer: Timer) -> dict[str, Any]:
    """What a recurring timer did so far."""
    return {
        "last": timer.last.isoformat() if timer.last else None,
        "last_id": timer.last_id or None,
        "fired": timer.fired,
        "skipped": timer.skipped,
        "missed": timer.missed,
    }


def say(ctx: click.Context, told: dict[str, Any], as_json: bool) -> None:
    """Print it: as one document, or a line for each thing."""
    if as_json:
        say_json(ctx, told)
        return
    width = max(map(len, told))
    for name, value in told.items():
        if value in (None, "", {}):
            continue
        if not isinstance(value, dict):
            ctx.obj.echo(f"{ctx.obj.style(f'{name:<{width}}', bold=True)}  {shown(str(value))}")
            continue
        ctx.obj.echo(ctx.obj.style(name, bold=True))
        for each, text in value.items():
            if text is not None:
                ctx.obj.echo(f"    {shown(str(each))}: {shown(str(text))}")
