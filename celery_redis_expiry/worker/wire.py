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


class Many:
    """Messages that differ in nothing but the end of their channel.

    Arguments:
        pattern: that was subscribed to.
        channel: what stands before the end.
        end: what the end looks like, an expression without groups.
        length: how many bytes the end has.
        text: of the message.
    """

    def __init__(self, pattern: str, channel: str, end: bytes, length: int, text: str) -> None:
        before, after = pattern.encode(), text.encode()
        size = len(channel.encode()) + length
        head = b"*4\r\n$8\r\npmessage\r\n$%d\r\n%b\r\n$%d\r\n" % (len(before), before, size)
        tail = b"\r\n$%d\r\n%b\r\n" % (len(after), after)
        each = re.escape(head + channel.encode()) + b"(%b)" % end + re.escape(tail)
        self._run = re.compile(b"(?:%b)+" % each.replace(b"(%b)" % end, end))
        self._each = re.compile(each)

    def read(self, data: bytes, at: int) -> tuple[list[bytes], int]:
        """The ends of the channels of those that come next, and where what follows them begins."""
        run = self._run.match(data, at)
        if run is None:
            return [], at
        return self._each.findall(data, at, run.end()), run.end()


class Wire:
    """Reads the replies of one connection of redis-py from its socket, in RESP2.

    Arguments:
        connection: with nothing of it read ahead: redis-py must have handed out all that it has read.
        many: messages that a burst makes; a run of them is handed out as one, `[b"many", ...]`.
    """

    def __init__(self, connection: Any, many: Many | None = None) -> None:
        self._socket = connection._sock
        self._many = many
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
            if self._many is not None:
                told, at = self._many.read(data, at)
                if told:
                    yield [b"many", *told]
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
