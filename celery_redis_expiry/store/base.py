"""What the parts of the store share: a client, the keys, the scripts, and our words for redis-py's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Location
from celery_redis_expiry.errors import InvalidTimer, StoreFull, StoreUnavailable
from celery_redis_expiry.keys import Keys
from celery_redis_expiry.scripts import Scripts

#: How long the answer of a changing call is remembered, ms, for its repetition after a lost reply.
REMEMBER_MS = 60_000


class StoreBase:
    """One namespace in one Redis.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        location: where it is.
        namespace: see `expiry_namespace`.
        owner: the app's main name, recorded in the namespace.
    """

    def __init__(self, location: Location, namespace: str, owner: str) -> None:
        self.location = location
        self.owner = owner
        self.keys = Keys(namespace, location.prefix)
        self._client: Any = location.client()
        self._scripts = Scripts(self._client)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in our words, with the remedy, what redis-py raises."""
        where = self.location.url
        try:
            yield
        except redis_errors.ReadOnlyError as exc:
            raise StoreUnavailable(
                f"{where} is a read-only replica: point the setting at its primary"
            ) from exc
        except redis_errors.AuthenticationError as exc:
            raise StoreUnavailable(f"{where} refused the user or password: {exc}") from exc
        except (redis_errors.ConnectionError, redis_errors.TimeoutError) as exc:
            raise StoreUnavailable(
                f"{where} can't be reached: {exc}; is it running, and the URL right?"
            ) from exc
        except UnicodeEncodeError as exc:
            raise InvalidTimer(f"a name or id is no valid text: {exc}") from exc
        except redis_errors.ResponseError as exc:
            if "maxmemory" in str(exc):
                raise StoreFull(f"{where} is at its maxmemory, nothing was stored: {exc}") from exc
            if "READONLY" in str(exc):
                raise StoreUnavailable(
                    f"{where} is a read-only replica: point the setting at its primary"
                ) from exc
            raise StoreUnavailable(f"{where} refused a command: {exc}") from exc
        except redis_errors.RedisError as exc:
            raise StoreUnavailable(f"{where}: {exc}") from exc
