"""What arrives on a subscribed connection, read in large pieces.

redis-py takes some twenty microseconds for a message of a subscription, more than all else that is done with
an expired event. A burst of timers makes as many events, so a worker would be busy with its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

#: How much is read at once.
PIECE = 1 << 18


class Wire:
    """Reads the replies of one connection of redis-py from its socket, in RESP2.

    Arguments:
        connection: with nothing of it read ahead: redis-py must have handed out all that it has read.
    """

    def __init__(self, connection: Any) -> None:
        self._socket = connection._sock
        self._rest = b""

    def read(self, timeout: float) -> Iterator[list[bytes]]:
        """The messages that arrive within `timeout` seconds: none, or those of one piece.

        Raises:
            redis.exceptions.ResponseError: the server refuses something; its NoPermissionError: by its ACL.
            OSError: the connection is lost.
            ValueError: this is no RESP2.
        """
        before = self._socket.gettimeout()
        self._socket.settimeout(max(timeout, 0.000001))
        try:
            piece = self._socket.recv(PIECE)
        except TimeoutError:
            return
        finally:
            self._socket.settimeout(before)  # what redis-py sends has its own
        if not piece:
            raise ConnectionError("the server closed the connection")
        data, at = self._rest + piece, 0
        while True:
            found = _message(data, at)
            if found is None:
                break
            message, at = found
            yield message
        self._rest = data[at:]


_FOUR = re.compile(
    rb"\*4\r\n\$8\r\npmessage\r\n\$\d+\r\n([^\r\n]*)\r\n\$(\d+)\r\n([^\r\n]*)\r\n\$(\d+)\r\n([^\r\n]*)\r\n"
)
_HEAD = re.compile(rb"([*$:+-])([^\r\n]*)\r\n")


def _message(data: bytes, at: int) -> tuple[list[bytes], int] | None:
    """A message and where the next begins; None where it is not all there."""
    quick = _FOUR.match(data, at)
    if quick is not None:
        pattern, length, channel, size, text = quick.groups()
        # what is called like the end of a line, and more, is not taken for it
        if int(length) == len(channel) and int(size) == len(text):
            return [b"pmessage", pattern, channel, text], quick.end()
    head = _HEAD.match(data, at)
    if head is None:
        if len(data) - at > 32:
            raise ValueError(f"no message of RESP2: {data[at : at + 20]!r}")
        return None
    if head[1] == b"-":
        raise _refusal(head[2].decode(errors="replace"))
    if head[1] != b"*":
        raise ValueError(f"no message of a subscription: {head[0]!r}")
    message, at = [], head.end()
    for _ in range(int(head[2])):
        head = _HEAD.match(data, at)
        if head is None:
            return None
        at = head.end()
        if head[1] == b"$" and int(head[2]) >= 0:
            end = at + int(head[2])
            if len(data) < end + 2:
                return None
            message.append(data[at:end])
            at = end + 2
        else:
            message.append(head[2])
    return message, at


def _refusal(told: str) -> ResponseError:
    """As redis-py has it: a ping may be refused long after the subscription was granted."""
    return NoPermissionError(told) if told.startswith("NOPERM") else ResponseError(told)
