"""A connection on which several calls of scripts are on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import NoScriptError

from celery_redis_expiry.scripts import known_by, program

#: What a script is called with: keys and arguments.
Call = tuple[Sequence[Any], Sequence[Any]]


class Line:
    """Asked and answered in one thread: where others wait for answers, each that comes waits for its turn to
    run Python.

    Arguments:
        connection: redis-py's.
        again: makes a call of a script anew, where the server had forgotten it.
    """

    def __init__(self, connection: Any, again: Callable[[str, Call], Any]) -> None:
        self._connection = connection
        self._again = again
        self._waiting: deque[tuple[str, Call, Callable[[Any], Any]]] = deque()

    def ask(self, script: str, call: Call, read: Callable[[Any], Any]) -> None:
        """Send a call on its way.

        Arguments:
            read: makes of what the script returns what `answer` is to return.
        """
        keys, arguments = call
        self._connection.send_command("EVALSHA", known_by(program(script)), len(keys), *keys, *arguments)
        self._waiting.append((script, call, read))

    def asked(self, script: str = "") -> int:
        """How many calls of a script are on their way; without its name, of any."""
        return sum(1 for name, _, _ in self._waiting if not script or name == script)

    def answer(self) -> Any:
        """The answer to the oldest call on its way; waits for it."""
        script, call, read = self._waiting.popleft()
        try:
            answer = self._connection.read_response()
        except NoScriptError:
            answer = self._again(script, call)
        return read(answer)


@contextmanager
def line(client: Any, again: Callable[[str, Call], Any]) -> Iterator[Line]:
    """A line on a connection of its own.

    Arguments:
        client: of the server, with a pool of connections.
        again: see `Line`.

    Raises:
        redis.RedisError: what was on its way may have been done, or not.
    """
    with client.client() as single:
        found, answered = Line(single.connection, again), False
        try:
            yield found
            answered = not found.asked()
        finally:
            if not answered:
                # who gets this connection next would read what is not theirs
                single.connection.disconnect()
