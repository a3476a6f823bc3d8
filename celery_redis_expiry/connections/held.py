"""Connections that stay taken from one script to the next.

What redis-py does about a connection for each command (taking it out of the pool, looking whether something
lies there to be read, giving it back) takes longer than to send a timer and to read the answer. A connection
whose last command was sent whole and answered whole has nothing left to be read, so it is used again as it
is; any other is closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from copy import copy
from types import FunctionType
from typing import Any

import redis
import redis.client
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from celery_redis_expiry.blocking import sent
from celery_redis_expiry.connections.location import Location

#: Seconds after which a lost answer is not asked for again: Redis remembers it for `store.REMEMBER_MS`, and
#: each of redis-py's attempts takes its time.
PATIENCE = 15.0
#: redis-py's own, unless somebody had put his in its place before.
_EXECUTE = redis.Redis.execute_command
_IS_OWN = type(_EXECUTE) is FunctionType and _EXECUTE.__globals__ is vars(redis.client)
try:
    from redis.observability.providers import get_observability_instance
except ImportError:  # an older one measures nothing
    _observability: Any = None
else:
    _observability = get_observability_instance


def is_heard() -> bool:
    """Whether somebody listens to the commands of redis-py, or measures them: he shall hear of each."""
    if not _IS_OWN or redis.Redis.execute_command is not _EXECUTE:
        return True
    return _observability is not None and _observability().is_enabled()


def can_hold(location: Location) -> bool:
    """Whether such connections can be had: to one server, and nothing happens to them between commands."""
    # an older release repeats a command as often as its client was told, and a pool wants to know the command
    recent = int(redis.__version__.partition(".")[0]) >= 6
    return recent and not (
        location.cluster or location.sentinels or location.options.get("credential_provider")
    )


class Held:
    """Runs scripts over them.

    Arguments:
        client: of redis-py, for one server; its pool is where they come from.
        retries: how often a command is repeated after a lost connection.
    """

    def __init__(self, client: Any, retries: int) -> None:
        self._client = client
        self._retries = retries
        self._idle: list[Any] = []
        self._pid = os.getpid()

    async def execute(self, *command: Any) -> Any:
        """What Redis answers to a command that may be repeated: as often as redis-py does it."""
        if is_heard():
            self.give_back()
            return self._client.execute_command(*command)
        connection = self._taken()
        try:
            answer = await self._answer(connection, command)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # there may be something of it on the way
            connection.disconnect()
            self._client.connection_pool.release(connection)
            raise
        self._idle.append(connection)
        return answer

    async def _answer(self, connection: Any, command: Sequence[Any]) -> Any:
        began = time.monotonic()
        try:
            connection.send_command(*command)
            await sent()
            return connection.read_response()
        except (ConnectionError, TimeoutError):
            retries = self._retries - 1
            if retries < 0 or time.monotonic() - began > PATIENCE:
                raise
            connection.disconnect()

        def failed(error: Exception) -> None:
            connection.disconnect()
            # an attempt to connect alone may take long, and the answer is remembered for a minute
            if time.monotonic() - began > PATIENCE:
                raise error

        retry = copy(connection.retry)
        retry.update_retries(retries)
        return retry.call_with_retry(
            lambda: (connection.send_command(*command), connection.read_response())[1], failed
        )

    def give_back(self) -> None:
        """Leave to the pool those that nobody uses now."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return  # another thread was quicker
            self._client.connection_pool.release(connection)

    def _taken(self) -> Any:
        if self._pid != os.getpid():
            # those of the process that this one was forked from are its own
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._client.connection_pool.get_connection()
