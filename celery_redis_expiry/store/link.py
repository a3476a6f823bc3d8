"""The way to Redis that all shards of a store share: a client, the scripts, our words for what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import RETRIES, TIMEOUT, Location, client
from celery_redis_expiry.errors import InvalidTimer, StoreFull, StoreUnavailable, StoreUnreachable
from celery_redis_expiry.scripts import Scripts, has_no_replicas, is_migrating, refused_command


def said(exc: Exception) -> str:
    """What Redis says, without the command of a pipeline, arguments and all, that redis-py quotes."""
    return str(exc).rpartition(" of pipeline caused error: ")[2].rstrip(".")


class Link:
    """A client of its own connection pool. It does not connect before it is used.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a call is repeated after a lost connection.
        patience: seconds for which a call waits for a Cluster slot in migration, or for replicas.
    """

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
        self._made: tuple[Any, Scripts] | None = None
        self._making = threading.Lock()

    @property
    def client(self) -> Any:
        return self._connected()[0]

    @property
    def scripts(self) -> Scripts:
        return self._connected()[1]

    def _connected(self) -> tuple[Any, Scripts]:
        if self._made is None:
            with self._making:
                if self._made is None:
                    made = client(self.location, timeout=self._timeout, retries=self._retries)
                    self._made = made, Scripts(made, self._patience)
        return self._made

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
