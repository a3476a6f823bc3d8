"""The way to Redis that all shards of a store share: a client, the scripts, our words for what goes wrong."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import exceptions as redis_errors
from redis.sentinel import SentinelConnectionPool

from celery_redis_expiry.blocking import Begun
from celery_redis_expiry.connections import RETRIES, TIMEOUT, Held, Location, can_hold, client
from celery_redis_expiry.errors import InvalidTimer, StoreFull, StoreUnavailable, StoreUnreachable
from celery_redis_expiry.scripts import (
    Scripts,
    has_no_replicas,
    is_migrating,
    known_by,
    program,
    refused_command,
)

#: The commands that run scripts.
SCRIPTS = ("EVALSHA", "EVAL")
#: Seconds between two attempts at what is refused for a moment only.
PAUSE = 0.05


def said(exc: Exception) -> str:
    """What Redis says, without the command of a pipeline, arguments and all, that redis-py quotes."""
    return str(exc).rpartition(" of pipeline caused error: ")[2].rstrip(".")


class AnyLink(ABC):
    """What users' calls need of a way to Redis; whether it blocks or is awaited is for its kind to say.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a call is repeated after a lost connection.
        patience: seconds for which a call waits for a Cluster slot in migration, or for replicas.

    Attributes:
        awaited: whether an event loop runs other things meanwhile, which must not be held up.
    """

    awaited: bool

    def __init__(
        self,
        location: Location,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        patience: float = 0.0,
    ) -> None:
        self.location = location
        self._timeout = timeout
        self._retries = retries
        self._patience = patience

    @abstractmethod
    async def execute(self, *command: Any) -> Any:
        """What Redis answers to a command; in a Cluster the server that has its key."""

    @abstractmethod
    async def pipeline(
        self, commands: Sequence[Sequence[Any]], *, at: str | None = None, raise_on_error: bool = True
    ) -> list[Any]:
        """What it answers to several.

        Arguments:
            at: a key, for the server that has it to be asked all of them, over one connection.
            raise_on_error: else errors stand among the answers.
        """

    @abstractmethod
    async def refresh(self) -> None:
        """Ask a Cluster who owns what now."""

    @abstractmethod
    async def ask_sentinels(self) -> None:
        """Let new connections ask the sentinels, if there are any, who is the primary now."""

    @abstractmethod
    async def turn(self) -> None:
        """Wait for the turn to compute: of many calls that begin together one, then whatever else waits."""

    @abstractmethod
    async def begin(self, steps: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Take steps as far as they go without waiting; what is returned takes them to their end."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def aside(self, function: Callable[..., Any], *args: Any) -> None:
        """Call what can only block, where it holds up nobody but the caller."""

    def program(self, script: str) -> str:
        """What the server is sent for a script."""
        return program(script)

    async def call(self, script: str, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """What a script answers.

        EVALSHA, and EVAL where the server does not know the script (yet, or any more): it then knows it.
        redis-py's `register_script` loads scripts on every primary of a Cluster, though one of them may be
        down. Half of the keys of a slot in migration are elsewhere; the Cluster answers TRYAGAIN then, before
        anything is done, and this waits for it as long as the link has patience, and for replicas.
        """
        text = self.program(script)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                try:
                    return await self.execute("EVALSHA", known_by(text), len(keys), *keys, *args)
                except redis_errors.NoScriptError:
                    return await self.execute("EVAL", text, len(keys), *keys, *args)
            except Exception as exc:
                if has_no_replicas(exc):
                    # this may be the old primary of a failover
                    await self.ask_sentinels()
                elif not is_migrating(exc):
                    raise
                if time.monotonic() > deadline:
                    raise
            await self.pause(PAUSE)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Say in our words, with the remedy, what redis-py raises."""
        where = self.location.url
        try:
            yield
        except redis_errors.AuthenticationError as exc:
            raise StoreUnavailable(f"{where} refused the user or password: {said(exc)}") from exc
        except (redis_errors.ConnectionError, redis_errors.TimeoutError) as exc:
            remedy = "is it running, and the URL right?"
            if self.location.options.get("ssl"):
                remedy += " Do ssl_ca_certs and, if it asks for a certificate, ssl_certfile fit?"
            raise StoreUnreachable(f"{where} can't be reached: {said(exc)}; {remedy}") from exc
        except UnicodeEncodeError as exc:
            raise InvalidTimer(f"a name or id is no valid text: {exc}") from exc
        except redis_errors.ResponseError as exc:
            if "maxmemory" in str(exc):
                raise StoreFull(
                    f"{where} is at its maxmemory, nothing was stored: more memory, or fewer timers"
                ) from exc
            if has_no_replicas(exc):
                raise StoreUnavailable(
                    f"{where} refuses to write while it has too few replicas (min-replicas-to-write): {exc}"
                ) from exc
            if isinstance(exc, redis_errors.ReadOnlyError) or "READONLY" in str(exc):
                raise StoreUnavailable(
                    f"{where} is a read-only replica: point the setting at its primary"
                ) from exc
            command = refused_command(str(exc))
            if command or isinstance(exc, redis_errors.NoPermissionError):
                what = f"run {command}" if command else "touch the keys"
                raise StoreUnavailable(
                    f"{where}: the Redis user {self.location.user!r} may not {what} ({said(exc)}): see "
                    'docs/settings.md, "Users of an ACL"'
                ) from exc
            raise StoreUnavailable(f"{where} refused a command: {said(exc)}") from exc
        except (redis_errors.RedisError, redis_errors.RedisClusterException) as exc:
            if is_migrating(exc):
                raise StoreUnavailable(f"{where} is migrating the slot, nothing was done: try again") from exc
            raise StoreUnavailable(f"{where}: {exc}") from exc


class Link(AnyLink):
    """One that blocks: a client of its own connection pool. It does not connect before it is used.

    Arguments:
        hold: whether scripts, which all can be repeated, run over connections that stay taken between them.
    """

    awaited = False

    def __init__(self, location: Location, *, hold: bool = False, **how: Any) -> None:
        super().__init__(location, **how)
        self.scripts = Scripts(self.call)
        self._hold = hold and can_hold(location)
        self._made: tuple[Any, Held | None] | None = None
        self._making = threading.Lock()

    @property
    def client(self) -> Any:
        made, held = self._made or self._connect()
        if held is not None:
            # a process that has one connection shall not need two
            held.give_back()
        return made

    def _connect(self) -> tuple[Any, Held | None]:
        with self._making:
            if self._made is None:
                made = client(self.location, timeout=self._timeout, retries=self._retries)
                self._made = made, Held(made, self._retries) if self._hold else None
        return self._made

    def server(self, key: str) -> Any:
        """A client for the very server that has a key now."""
        client = self.client
        if self.location.cluster:
            client = client.get_redis_connection(client.get_node_from_key(key))
        return client

    async def execute(self, *command: Any) -> Any:
        _, held = self._made or self._connect()
        if held is not None and command[0] in SCRIPTS:
            return await held.execute(*command)
        return self.client.execute_command(*command)

    async def pipeline(
        self, commands: Sequence[Sequence[Any]], *, at: str | None = None, raise_on_error: bool = True
    ) -> list[Any]:
        pipe = (self.client if at is None else self.server(at)).pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(pipe.execute(raise_on_error=raise_on_error))

    async def refresh(self) -> None:
        self.client.nodes_manager.initialize()

    async def ask_sentinels(self) -> None:
        pool = getattr(self.client, "connection_pool", None)
        if isinstance(pool, SentinelConnectionPool):
            # those in use are other threads' and must not be closed under them
            pool.disconnect(inuse_connections=False)

    async def turn(self) -> None: ...

    async def begin(self, steps: Coroutine[Any, Any, None]) -> Callable[[], None]:
        return Begun(steps).end

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    async def aside(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)
