"""What Redis refused, read from its words, whatever the user is called."""

from __future__ import annotations

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from celery_redis_expiry.store.rights import refused_rule


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        # Redis 6.2 and 7.0
        ("this user has no permissions to run the 'zadd' command or its subcommand", "+zadd"),
        ("this user has no permissions to access one of the keys used as arguments", "~shop:*"),
        ("this user has no permissions to access one of the channels used as arguments", "&shop:wake"),
        # and later
        ("User shop has no permissions to run the 'zadd' command", "+zadd"),
        ("User keychain has no permissions to run the 'zadd' command", "+zadd"),
        ("User channels has no permissions to run the 'zadd' command", "+zadd"),
        ("No permissions to access a key", "~shop:*"),
        ("No permissions to access a channel", "&shop:wake"),
    ],
)
def test_what_was_refused(error: str, rule: str) -> None:
    assert refused_rule("zadd", NoPermissionError(error), "shop:*", "shop:wake") == rule


def test_any_other_answer_is_no_refusal() -> None:
    assert refused_rule("zadd", ResponseError("value is not a valid float"), "", "") is None
    assert refused_rule("zcard", 0, "", "") is None
