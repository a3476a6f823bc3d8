"""The users of docs/settings.md, "Users of an ACL": read from the tables, made on a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.servers.redis import REPOSITORY, RedisServer

PASSWORD = "secret"
NAMESPACE = "ledger"


@dataclass(frozen=True)
class Role:
    """What one row of the table grants: commands as `+zadd`, channels as `&…` with `<…>` to be filled in."""

    commands: tuple[str, ...]
    channels: tuple[str, ...]


def _roles() -> dict[str, Role]:
    text = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    section = text.partition("## Users of an ACL")[2].partition("\n## ")[0]
    rows = {}
    for row in re.findall(r"^\| (?!who |---)(.*) \|$", section, re.MULTILINE):
        who, channels, commands = (cell.replace(r"\|", "|") for cell in re.split(r" *(?<!\\)\| *", row))
        granted = [word for code in re.findall(r"`([^`]*)`", commands) for word in code.split()]
        rows[re.split(r"[:(]", who)[0].strip()] = Role(
            tuple(granted), tuple(re.findall("`(&[^`]*)`", channels))
        )
    return rows


ROLES = _roles()
PRODUCER = ROLES["producer"]
WORKER = ROLES["expiry worker"]
WATCHER = ROLES["expiry worker with handlers of [users' own keys]"]
CONFIGURES = ROLES["expiry worker that may configure notifications"]
IN_PLACE = ROLES["expiry worker that [fires in place]"]
OPERATOR = ROLES["operator"]
RESCUER = ROLES["rescuer"]
TASKS = ROLES["worker that runs tasks of [recurring timers]"]
BEAT = ROLES["sync-beat"]


def make_user(
    server: RedisServer,
    name: str,
    *roles: Role,
    without: Iterable[str] = (),
    database: int = 0,
    prefix: str = "",
) -> str:
    """Make a user with what these roles are granted, less `without`. Returns the URL to come in by."""
    granted = [rule for role in roles for rule in (*role.channels, *role.commands) if rule not in without]
    rules = [
        f">{PASSWORD}",
        *(filled(rule, database, prefix) for rule in ("~{expiry.<namespace>.0}:*", *granted)),
    ]
    if database:
        rules.append("+select")
    with server.client() as client:
        client.execute_command("ACL SETUSER", name, "reset", "resetchannels", "on", *rules)
    return server.url(database, user=name, password=PASSWORD)


def filled(rule: str, database: int = 0, prefix: str = "") -> str:
    """A rule of the documentation with the names of the tests in it."""
    rule = rule.replace("<namespace>", NAMESPACE).replace("<db>", str(database))
    rule = rule.replace("<pattern>", "session:*").replace("<queue>", "celery")
    return rule.replace("{", prefix + "{")


def denied(server: RedisServer, user: str) -> set[str]:
    """What this user was refused since `forget_denied`: commands, keys, channels.

    What redis-py says of itself when it connects (CLIENT SETINFO) may be refused: it asks for no more.
    """
    with server.client() as client:
        log: Any = client.execute_command("ACL LOG", 128)
    entries = [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in log]
    objects = {str(one["object"]).lower() for one in entries if one["username"] == user}
    return objects - {"client", "client|setinfo"}


def forget_denied(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL LOG RESET")
