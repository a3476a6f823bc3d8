"""The proxy itself: tests of lost replies are worth as much as its faults are real."""

from __future__ import annotations

import pytest
import redis

from tests.servers.proxy import Proxy
from tests.servers.redis import NO_RETRY, RedisServer


def test_its_faults(redis_server: RedisServer, proxy: Proxy) -> None:
    client = redis.Redis(port=proxy.port, decode_responses=True, retry=NO_RETRY, socket_timeout=5)
    assert client.incr("count") == 1
    proxy.drop_reply(lambda command: command[0] == "INCRBY", nth=2)
    assert client.incr("count") == 2
    with pytest.raises(redis.ConnectionError):
        client.incr("count")
    assert redis_server.client().get("count") == "3"  # executed all the same
    assert len(proxy.dropped) == 1
    assert proxy.counts()["INCRBY"] == 3

    big = "x" * 300_000  # more than one segment
    client.set("big", big)
    assert client.get("big") == big

    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.accept_again()
    assert client.ping()
    client.close()
