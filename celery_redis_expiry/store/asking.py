"""Asking for keys of the user's own, wherever they lie, where a script can't."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import (
    AskError,
    ConnectionError,
    MovedError,
    RedisClusterException,
    RedisError,
    TimeoutError,
)


def ask(client: Any, keys: Iterable[str], *, cluster: bool) -> tuple[dict[str, bool], dict[str, str]]:
    """Which of these keys exist; and why it is not known of the others. One round trip to each server.

    Arguments:
        client: of the store.
        cluster: whether it is one of a Cluster: then a node that is away says nothing of the others' keys.
    """
    exists: dict[str, bool] = {}
    problems: dict[str, str] = {}
    elsewhere = False
    homes: dict[Any, list[str]] = {}
    for key in keys:
        try:
            homes.setdefault(_server(client, key) if cluster else client, []).append(key)
        except RedisClusterException as exc:
            problems[key] = str(exc)
    for server, asked in homes.items():
        for key, answer in zip(asked, _answers(server, asked), strict=True):
            if isinstance(answer, Exception):
                moves = isinstance(answer, AskError)
                problems[key] = f"its slot moves to another node ({answer})" if moves else str(answer)
                elsewhere = elsewhere or isinstance(answer, MovedError | ConnectionError | TimeoutError)
            else:
                exists[key] = bool(answer)
    if cluster and elsewhere:
        # for the next time: another node has these keys, or will have them
        client.nodes_manager.initialize()
    return exists, problems


def _server(client: Any, key: str) -> Any:
    return client.get_redis_connection(client.get_node_from_key(key))


def _answers(server: Any, keys: Sequence[str]) -> Sequence[Any]:
    """For each key whether it exists, or the error that came instead."""
    pipe = server.pipeline(transaction=False)
    for key in keys:
        pipe.exists(key)
    try:
        return list(pipe.execute(raise_on_error=False))
    except RedisError as exc:
        return [exc] * len(keys)
