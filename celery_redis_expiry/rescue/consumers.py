"""Who may hold messages of the broker: whoever consumes, as far as that can be told from outside."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from celery_redis_expiry.rescue.broker import Broker


def consumers(app: Any, broker: Broker, expiry_workers: Collection[str], timeout: float) -> list[str]:
    """The workers that answer, and the clients that have last waited for a message in the broker's database.

    A worker that is too busy to answer is found among the clients, and one that waits for no message, since
    it has all that it may hold, answers. Any program that waits with BRPOP counts.

    Arguments:
        expiry_workers: node names of those that consume nothing.
        timeout: seconds to wait for answers.

    Raises:
        StoreUnavailable: the broker may not be asked for its clients.
    """
    database = str(broker.location.database)
    with broker.link.translated():
        clients = broker.link.client.client_list()
    waiting = [
        f"a client at {client['addr']}"
        for client in clients
        if client.get("cmd") == "brpop" and client.get("db") == database
    ]
    # of its own: what waits for the answers would be taken for a consumer next time
    with app.connection_for_write() as connection:
        replies = app.control.inspect(timeout=timeout, connection=connection).ping() or {}
    return sorted(set(replies) - set(expiry_workers)) + waiting
