"""A cart is a hash in Redis with a TTL, which each change extends. Nothing in here is about timers."""

import secrets

import redis
from django.conf import settings

#: What the shop sells.
GOODS = ("tea", "bread", "honey")


def client() -> redis.Redis:
    return redis.Redis.from_url(settings.CELERY_EXPIRY_REDIS_URL, decode_responses=True)


def new_name() -> str:
    return f"cart:{secrets.token_urlsafe(6)}"


def put(name: str, good: str) -> None:
    """One more of a good, and the cart lives for another settings.CART_SECONDS."""
    with client() as connection, connection.pipeline() as pipe:
        pipe.hincrby(name, good, 1)
        pipe.expire(name, settings.CART_SECONDS)
        pipe.execute()


def look(name: str) -> tuple[dict[str, str], float]:
    """What is in a cart, and for how many seconds it lives; an empty one if it is gone."""
    with client() as connection, connection.pipeline() as pipe:
        pipe.hgetall(name)
        pipe.pttl(name)
        goods, ttl = pipe.execute()
    return goods, max(0, ttl) / 1000
