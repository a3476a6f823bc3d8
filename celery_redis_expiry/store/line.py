"""A connection on which several calls of scripts are on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from celery_redis_expiry.scripts import known_by, program

T = TypeVar("T")
#: What a script is called with: keys and arguments.
Call = tuple[Sequence[Any], Sequence[Any]]
#: How many calls are on their way at once: while Redis answers one, the next is there already.
AHEAD = 2


def answers(
    client: Any, script: str, calls: Iterable[tuple[T, Call]], again: Callable[[Call], Any]
) -> Iterator[tuple[T, Any]]:
    """What a script answers to each call, in their order.

    In one thread: where others wait for answers, each that comes waits for its turn to run Python.

    Arguments:
        client: of the server, with a pool of connections.
        calls: each with what comes back beside its answer; the next is made while the last is on its way.
        again: makes a call anew where the server had forgotten the script.

    Raises:
        redis.RedisError: what was on its way may have been done, or not.
    """
    waiting: deque[tuple[T, Call]] = deque()
    sha = known_by(program(script))
    with client.client() as single:
        connection = single.connection

        def receive() -> tuple[T, Any]:
            told, call = waiting.popleft()
            try:
                return told, connection.read_response()
            except NoScriptError:
                return told, again(call)

        try:
            for told, (keys, arguments) in calls:
                connection.send_command("EVALSHA", sha, len(keys), *keys, *arguments)
                waiting.append((told, (keys, arguments)))
                if len(waiting) >= AHEAD:
                    yield receive()
            while waiting:
                yield receive()
        finally:
            if waiting:
                # answers that nobody will read
                connection.disconnect()
