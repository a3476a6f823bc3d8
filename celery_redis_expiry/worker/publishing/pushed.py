"""What kombu would push for a message, found out by letting kombu push it to nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NotPlain(Exception):
    """kombu would do something else than push one value onto one list."""


class _Recorder:
    """In place of kombu's Redis client: knows nothing but LPUSH, which it keeps.

    So whatever else a transport does (a fanout, a time to live of the queue, bindings to be read) is seen.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.pushes: list[tuple[str, str]] = []

    def lpush(self, key: Any, *values: Any) -> int:
        self.pushes += [(f"{self._prefix}{key}", str(value)) for value in values]
        return 0

    def __getattr__(self, name: str) -> Any:
        raise NotPlain(name)


def pushed(producer: Any, body: Any, arguments: dict[str, Any]) -> tuple[str, str]:
    """The list and the value that kombu's Redis transport would push for a message.

    Arguments:
        producer: on a channel of that transport, which nobody else uses meanwhile.
        arguments: for `publish`; what they name is declared.

    Raises:
        NotPlain: it would do more, or something else.
    """
    channel = producer.channel
    recorder = _Recorder(channel.global_keyprefix)

    @contextmanager
    def instead(client: Any = None) -> Iterator[_Recorder]:
        yield recorder

    channel.conn_or_acquire = instead
    try:
        producer.publish(body, **arguments)
    finally:
        del channel.conn_or_acquire
    if len(recorder.pushes) != 1:
        raise NotPlain(f"{len(recorder.pushes)} pushes")
    return recorder.pushes[0]
