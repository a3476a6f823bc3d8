"""What an error says about a message: whether the connection is lost, or the message at fault."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from celery_redis_expiry.timer import Claimed, Stored
from celery_redis_expiry.worker.publishing.parcel import ODD_ATTEMPTS, Parcel, judge

ERRORS = [
    (KeyError("arguments"), "refused"),
    (ValueError("no"), "refused"),
    (TypeError("no"), "refused"),
    (ResponseError("OOM command not allowed when used memory > 'maxmemory'"), "full"),
    (ResponseError("WRONGTYPE"), "failed"),
    (RedisConnectionError("gone"), "lost"),
    (OperationalError("gone"), "lost"),
    (BrokenPipeError("gone"), "lost"),
]


@pytest.mark.parametrize(("error", "verdict"), ERRORS, ids=lambda value: repr(value)[:30])
def test_a_connection_is_lost_only_where_the_error_says_so(error: Exception, verdict: str) -> None:
    """kombu calls a KeyError on Redis a lost connection; one such message would have held all others up."""
    connection = Celery("x", broker="redis://localhost:1", set_as_current=False).connection_for_write()
    assert judge(error, connection)[0] == verdict


@pytest.mark.parametrize(
    ("attempts", "outcome"), [(0, "failed"), (ODD_ATTEMPTS - 2, "failed"), (ODD_ATTEMPTS - 1, "refused")]
)
def test_an_error_that_nobody_knows_is_no_reason_to_give_up_at_once(attempts: int, outcome: str) -> None:
    parcel = Parcel(Stored("x", {}), Claimed("g:x", "x", 0, attempts, b""))
    parcel.settle("odd", "why")
    assert (parcel.outcome, parcel.reason) == (outcome, "why")
