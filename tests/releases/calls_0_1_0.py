"""How release 0.1.0 called its scripts: frozen, for the tests of a rolling upgrade."""

from __future__ import annotations

from typing import Any

import redis

from tests.releases import dump

NAMES = (
    "ack",
    "bury",
    "cancel",
    "claim",
    "discard",
    "enter",
    "inspect",
    "look",
    "prolong",
    "recover",
    "release",
    "retry",
    "schedule",
    "touch",
)
REMEMBER_MS = 60_000
RECHECK_MS = 50_000
CAP_MS = 60_000
STALE_MS = 300_000
LATEST = 253402300799999


class Scripts:
    """Its scripts with KEYS and ARGV as its `Store` gave them; answers as Redis gives them, as text.

    Arguments:
        client: one that decodes.
    """

    def __init__(self, client: redis.Redis, namespace: str, app: str) -> None:
        self.client = client
        self.base = f"{{expiry.{namespace}.0}}:"
        self.app = app
        self._scripts = {name: client.register_script(dump.program("0.1.0", name)) for name in NAMES}

    def keys(self, *names: str) -> list[str]:
        return [self.base + name for name in names]

    def trigger(self, member: str) -> str:
        return f"{self.base}trigger:{member}"

    def _call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        return self._scripts[name](keys=keys, args=args)

    def enter(self, broker: str) -> list[str]:
        answer: list[str] = self._call("enter", self.keys("namespace"), [1, self.app, broker, 0])
        return answer

    def schedule(
        self, mode: str, when: str, member: str, name: str, id: str, expected: str, record: str, token: str
    ) -> list[str]:
        keys = self.keys(
            "due",
            "timers",
            "names",
            "ids",
            "parked",
            "claimed",
            "claims",
            "pacers",
            "namespace",
            f"answer:{token}",
        )
        keys += [self.trigger(member), self.trigger(expected or member)]
        args = [self.app, REMEMBER_MS, self.base + "wake", LATEST]
        [outcome] = self._call("schedule", keys, [*args, mode, when, member, name, id, expected, record])
        return [str(value) for value in outcome]

    def find(self, target: str) -> str | None:
        found: str | None = self.client.hget(self.base + "names", target)
        return found or self.client.hget(self.base + "ids", target)

    def inspect(self, member: str) -> list[str]:
        keys = [*self.keys("due", "timers", "parked", "claimed", "claims"), self.trigger(member)]
        answer: list[str] = self._call("inspect", keys, [member])
        return answer

    def cancel(self, member: str, label: str, token: str) -> str:
        keys = self.keys("due", "timers", "names", "ids", "parked", "claimed", "claims", f"answer:{token}")
        return str(self._call("cancel", [*keys, self.trigger(member)], [REMEMBER_MS, member, label]))

    def look(self, worker: str, limit: int = 100) -> list[str]:
        """The members that are due."""
        args = [worker, limit, max(1, limit // 4), limit, CAP_MS, STALE_MS]
        answer = self._call("look", self.keys("due", "parked", "claimed", "pacers"), args)
        return [str(member) for member in answer[3][::2]]

    def touch(self, members: list[str]) -> None:
        keys = [*self.keys("due", "parked", "pacers"), *map(self.trigger, members)]
        self._call("touch", keys, [RECHECK_MS, self.base + "wake", *members])

    def claim(self, token: str, members: list[tuple[str, bool]], lease_ms: int) -> list[list[str]]:
        """(member, due, attempts, record) of each."""
        keys = self.keys("due", "timers", "parked", "claimed", "claims", "pacers")
        keys += [self.trigger(member) for member, _ in members]
        args: list[Any] = [token, lease_ms, RECHECK_MS, self.base + "wake"]
        for member, expired in members:
            args += [member, int(expired)]
        flat = self._call("claim", keys, args)[1]
        return [list(map(str, flat[i : i + 4])) for i in range(0, len(flat), 4)]

    def prolong(self, token: str, members: list[str], lease_ms: int) -> list[str]:
        lost: list[str] = self._call("prolong", self.keys("claimed", "claims"), [token, lease_ms, *members])
        return lost

    def ack(self, token: str, member: str, label: str, id: str) -> int:
        keys = self.keys("timers", "names", "ids", "claimed", "claims")
        return int(self._call("ack", keys, [token, member, label, id]))

    def release(self, token: str, members: list[str], delay_ms: int, tried: bool) -> int:
        args = [token, delay_ms, int(tried), self.base + "wake", *members]
        return int(self._call("release", self.keys("due", "claimed", "claims", "pacers"), args))

    def recover(self, limit: int = 100) -> list[str]:
        keys = self.keys("due", "claimed", "claims", "pacers")
        recovered: list[str] = self._call("recover", keys, [limit, self.base + "wake"])
        return recovered

    def bury(self, token: str, member: str, label: str, id: str, reason: str) -> int:
        keys = self.keys("names", "ids", "claimed", "claims", "dead", "reasons")
        return int(self._call("bury", keys, [token, member, label, id, reason]))

    def retry(self, member: str, name: str, id: str, token: str) -> int:
        keys = self.keys("due", "names", "ids", "dead", "reasons", f"answer:{token}")
        return int(self._call("retry", keys, [self.base + "wake", REMEMBER_MS, member, name, id]))

    def discard(self, member: str, token: str) -> int:
        keys = self.keys("timers", "dead", "reasons", f"answer:{token}")
        return int(self._call("discard", keys, [REMEMBER_MS, member]))
