"""The proxy itself: tests of lost replies are worth as much as its faults are real."""

from __future__ import annotations

import time

import pytest
import redis

from tests.servers.proxy import Proxy
from tests.servers.redis import NO_RETRY, RedisServer
from tests.waiting import eventually


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


def client_of(proxy: Proxy, timeout: float = 5) -> redis.Redis:
    return redis.Redis(port=proxy.port, decode_responses=True, retry=NO_RETRY, socket_timeout=timeout)


@pytest.mark.parametrize("direction", ["delay", "delay_there", "delay_back"])
def test_it_delays(redis_server: RedisServer, proxy: Proxy, direction: str) -> None:
    with client_of(proxy) as client, redis_server.client() as observer:
        client.ping()
        setattr(proxy, direction, 0.5)
        began = time.monotonic()
        pipeline = client.pipeline(transaction=False)
        pipeline.set("slow", "1").execute()
        assert time.monotonic() - began >= 0.5
        assert observer.get("slow") == "1"
        proxy.clear()
        assert (proxy.delay, proxy.delay_there, proxy.delay_back) == (0, 0, 0)


@pytest.mark.parametrize("new", [True, False])
def test_it_half_opens(redis_server: RedisServer, proxy: Proxy, new: bool) -> None:
    with client_of(proxy, 0.5) as client, client_of(proxy, 0.5) as other, redis_server.client() as observer:
        assert client.ping()
        proxy.swallow(new=new)
        with pytest.raises(redis.TimeoutError):
            client.set("swallowed", "1")
        assert observer.get("swallowed") is None
        if new:
            with pytest.raises(redis.TimeoutError):
                other.ping()
        else:
            assert other.ping()
        proxy.accept_again()
        assert client.ping()
        assert observer.get("swallowed") is None


def test_it_cuts_what_was_silent(redis_server: RedisServer, proxy: Proxy) -> None:
    with client_of(proxy) as client:
        subscription = client.pubsub()
        subscription.subscribe("any")
        eventually(lambda: subscription.get_message(timeout=1), what="subscribed")
        proxy.swallow()
        proxy.accept_again()
        with pytest.raises(redis.ConnectionError):
            subscription.get_message(timeout=5)


def test_it_loses_answers_of_any_protocol(redis_server: RedisServer) -> None:
    proxy = Proxy(("127.0.0.1", redis_server.port), redis=False)
    try:
        with client_of(proxy) as client:
            client.ping()
            proxy.lose_answers(1)
            with pytest.raises(redis.ConnectionError):
                client.set("lost", "1")
            assert client.get("lost") == "1"
    finally:
        proxy.close()


@pytest.mark.parametrize("parses", [True, False])
def test_it_can_be_tapped(redis_server: RedisServer, parses: bool) -> None:
    heard = bytearray()
    proxy = Proxy(
        ("127.0.0.1", redis_server.port), redis=parses, tap=lambda connection, data: heard.extend(data)
    )
    try:
        with client_of(proxy) as client:
            client.set("name", "value")
        assert heard.endswith(b"SET\r\n$4\r\nname\r\n$5\r\nvalue\r\n")
    finally:
        proxy.close()
