"""The way to Redis of an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from celery_redis_expiry.connections.async_clients import (
    ask_sentinels_anew,
    async_client,
    close,
    node_client,
)
from celery_redis_expiry.connections.location import Location
from celery_redis_expiry.store.link import AnyLink

#: How many connections there are at most: what a thousand tasks ask for at once must not take a thousand.
CONNECTIONS = 50


class AsyncLink(AnyLink):
    """One that is awaited: a client of redis.asyncio of the running event loop's own, which ends with it."""

    awaited = True

    def __init__(self, location: Location, **how: Any) -> None:
        super().__init__(location, **how)
        self._client: Any = None
        self._nodes: dict[str, Any] = {}
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._turn = asyncio.Lock()
        self._end: AsyncIterator[None] | None = None

    async def _connected(self) -> Any:
        if self._client is None:
            self._client = async_client(self.location, timeout=self._timeout, retries=self._retries)
            self._end = self._until_the_loop_ends()
            await anext(self._end)
        return self._client

    async def _until_the_loop_ends(self) -> AsyncIterator[None]:
        """Close everything then: `asyncio.run` and its like end what asynchronous generators there are."""
        try:
            yield
        finally:
            for each in (self._client, *self._nodes.values()):
                # one that can't say goodbye is gone as well
                with suppress(RedisError, OSError):
                    await close(each)

    async def _server(self, key: str) -> Any:
        """A client for the very server that has a key now."""
        client = await self._connected()
        if not self.location.cluster:
            return client
        await client.initialize()
        node = client.get_node_from_key(key)
        if node.name not in self._nodes:
            self._nodes[node.name] = node_client(
                self.location, node.host, node.port, timeout=self._timeout, retries=self._retries
            )
        return self._nodes[node.name]

    async def execute(self, *command: Any) -> Any:
        async with self._room:
            client = await self._connected()
            return await client.execute_command(*command)

    async def pipeline(
        self, commands: Sequence[Sequence[Any]], *, at: str | None = None, raise_on_error: bool = True
    ) -> list[Any]:
        async with self._room:
            pipe = (await self._connected() if at is None else await self._server(at)).pipeline(
                transaction=False
            )
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=raise_on_error))

    async def refresh(self) -> None:
        client = await self._connected()
        await client.nodes_manager.initialize()

    async def ask_sentinels(self) -> None:
        await ask_sentinels_anew(await self._connected())

    async def turn(self) -> None:
        # tasks that are ready together run in one go, before the loop looks at anything else
        async with self._turn:
            await asyncio.sleep(0)

    async def begin(self, steps: Coroutine[Any, Any, None]) -> Callable[[], None]:
        # the loop has others to serve meanwhile
        await steps
        return lambda: None

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aside(self, function: Callable[..., Any], *args: Any) -> None:
        await asyncio.to_thread(function, *args)
