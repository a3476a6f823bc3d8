"""Reading commands out of the bytes a Redis client sends: as much of the protocol as the proxy needs."""

from __future__ import annotations

from collections.abc import Iterator

Command = tuple[str, ...]


class CommandReader:
    """Feed it a client's bytes; it answers each complete command with the bytes that carried it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Command, bytes]]:
        self._buffer += data
        while (parsed := self._parse()) is not None:
            command, size = parsed
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield command, raw

    def _parse(self) -> tuple[Command, int] | None:
        line, position = self._line(0)
        if line is None:
            return None
        if not line.startswith(b"*"):  # an inline command
            return tuple(word.decode(errors="replace") for word in line.split()), position
        words = []
        for _ in range(int(line[1:])):
            header, start = self._line(position)
            if header is None:
                return None
            position = start + int(header[1:]) + 2
            if position > len(self._buffer):
                return None
            words.append(bytes(self._buffer[start : position - 2]).decode(errors="replace"))
        return tuple(words), position

    def _line(self, start: int) -> tuple[bytes | None, int]:
        end = self._buffer.find(b"\r\n", start)
        return (None, start) if end < 0 else (bytes(self._buffer[start:end]), end + 2)
