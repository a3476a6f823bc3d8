"""A TCP proxy that fails as networks do: a lost reply, a cut, a refusal, slowness, a peer that is silent."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from tests.servers.resp import Command, CommandReader

Predicate = Callable[[Command], bool]
Upstream = tuple[str, int]
Pair = tuple[socket.socket, socket.socket]


class Proxy:
    """In front of `upstream`, on a free port. With `redis=True` it can fail chosen commands.

    Arguments:
        tap: called with the connection and the bytes that were passed on to `upstream`.

    Attributes:
        delay: seconds that every piece of data takes longer, in both directions.
        delay_there, delay_back: the same to `upstream` alone, and back from it.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        redis: bool = True,
        tap: Callable[[object, bytes], None] = lambda connection, data: None,
    ) -> None:
        self.upstream = upstream
        self.redis = redis
        self.tap = tap
        self.seen: deque[Command] = deque(maxlen=20_000)
        self.dropped: list[Command] = []
        self.delay = self.delay_there = self.delay_back = 0.0
        self._refusing = False
        self._swallowing = False
        self._silent: set[Pair] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._hold_at: Predicate | None = None
        self._drops: list[tuple[Predicate, int]] = []
        self._answers_to_lose = 0
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def drop_reply(self, predicate: Predicate, *, nth: int = 1) -> None:
        """Let the `nth` command from now that `predicate` picks be executed, but its reply be lost."""
        with self._lock:
            self._drops.append((predicate, nth))

    def lose_answers(self, count: int) -> None:
        """In any protocol: the next `count` answers of upstream are lost, each with its connection."""
        self._answers_to_lose = count

    def clear(self) -> None:
        """No more faults, and nothing seen."""
        with self._lock:
            self._drops.clear()
            self.dropped.clear()
            self.seen.clear()
            self.delay = self.delay_there = self.delay_back = 0.0
            self._answers_to_lose = 0
        self.release()
        self.accept_again()

    def hold_at(self, predicate: Predicate) -> None:
        """From the first command that `predicate` picks let nothing through, until `release`."""
        self._hold_at = predicate

    @property
    def holding(self) -> bool:
        return not self._flowing.is_set()

    def release(self) -> None:
        self._hold_at = None
        self._flowing.set()

    def refuse(self) -> None:
        """As a server that is down: what is connected is cut, what connects is closed at once."""
        self._refusing = True
        self.cut()

    def accept_again(self) -> None:
        """End `refuse` and `swallow`; connections that fell silent are cut, since bytes of them are gone."""
        self._refusing = self._swallowing = False
        with self._lock:
            silent = list(self._silent)
        self._shut(silent)

    def swallow(self, *, new: bool = True) -> None:
        """As a half-open connection: what is sent is taken and goes nowhere, and nothing ever comes back.

        Arguments:
            new: whether the connections made from now on fare the same, until `accept_again`.
        """
        self._swallowing = new
        with self._lock:
            self._silent |= self._pairs

    def cut(self) -> None:
        """Close every connection of this moment."""
        with self._lock:
            pairs = list(self._pairs)
        self._shut(pairs)

    def _shut(self, pairs: list[Pair]) -> None:
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):  # its thread sees the end, and closes it
                end.shutdown(socket.SHUT_RDWR)

    def counts(self) -> Counter[str]:
        """How often each command came, by its name."""
        return Counter(command[0].upper() for command in list(self.seen) if command)

    def close(self) -> None:
        self._refusing = True
        self.release()
        # A blocked accept() survives the close of its socket; shutdown wakes it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(self.upstream, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
            if self._swallowing:
                self._silent.add(pair)
        reader = CommandReader()
        try:
            if self._refusing:  # refuse() came between the accept and the registration
                return
            # not select(): it fails in a process that has a thousand other files open
            ready = select.poll()
            ends = {end.fileno(): end for end in pair}
            for number in ends:
                ready.register(number, select.POLLIN)
            while True:
                for number, _ in ready.poll():
                    end = ends[number]
                    data = end.recv(65536)
                    if not data:
                        return
                    delay = self.delay + (self.delay_back if end is server else self.delay_there)
                    if delay:
                        time.sleep(delay)
                    self._flowing.wait()
                    if pair in self._silent:
                        continue
                    if end is server and self._loses_answer():
                        return
                    if end is server:
                        client.sendall(data)
                    elif not self.redis:
                        server.sendall(data)
                        self.tap(client, data)
                    elif not self._forward(reader, data, server):
                        return
        except (OSError, ValueError):  # the other end went, or cut() closed both
            return
        finally:
            _close(*pair)
            with self._lock:
                self._pairs.discard(pair)
                self._silent.discard(pair)

    def _forward(self, reader: CommandReader, data: bytes, server: socket.socket) -> bool:
        """Pass the commands on; False once one was executed whose reply is not to be told."""
        for command, raw in reader.feed(data):
            self.seen.append(command)
            if self._hold_at is not None and self._hold_at(command):
                self._flowing.clear()
            self._flowing.wait()
            server.sendall(raw)
            self.tap(reader, raw)
            if self._is_to_drop(command):
                # Redis works through what it has before it sees our end: its EOF proves the execution.
                server.shutdown(socket.SHUT_WR)
                server.settimeout(10)
                while server.recv(65536):
                    pass
                return False
        return True

    def _loses_answer(self) -> bool:
        with self._lock:
            lost = self._answers_to_lose > 0
            self._answers_to_lose -= lost
        return lost

    def _is_to_drop(self, command: Command) -> bool:
        with self._lock:
            for index, (predicate, nth) in enumerate(self._drops):
                if predicate(command):
                    if nth > 1:
                        self._drops[index] = (predicate, nth - 1)
                        return False
                    del self._drops[index]
                    self.dropped.append(command)
                    return True
        return False


def _close(*sockets: socket.socket) -> None:
    for end in sockets:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
