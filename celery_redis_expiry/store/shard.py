"""One shard, with all that users, workers and operators do to it, over a link that blocks."""

from __future__ import annotations

from collections.abc import Sequence

from celery_redis_expiry.blocking import run
from celery_redis_expiry.store.beat import BeatTimers
from celery_redis_expiry.store.claiming import Claiming
from celery_redis_expiry.store.dead_letters import DeadLetters
from celery_redis_expiry.store.firing import Firing
from celery_redis_expiry.store.key_timers import KeyTimers
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.listing import Listing
from celery_redis_expiry.store.moving import Moving
from celery_redis_expiry.store.namespace import Namespace
from celery_redis_expiry.store.overview import Overview
from celery_redis_expiry.store.pruning import Pruning
from celery_redis_expiry.store.recurring import RecurringTimers
from celery_redis_expiry.store.users import Users
from celery_redis_expiry.store.watched import Watched
from celery_redis_expiry.store.workers import Workers
from celery_redis_expiry.timer import Timer


class Shard(
    Namespace,
    Claiming,
    Firing,
    RecurringTimers,
    BeatTimers,
    Workers,
    DeadLetters,
    Overview,
    Listing,
    Moving,
    Watched,
    KeyTimers,
    Pruning,
):
    """The timers of one shard.

    Arguments:
        link: of users.
        users: what users' calls do to it.
    """

    def __init__(self, link: Link, users: Users) -> None:
        super().__init__(link, users.keys, users.owner, users.shards)
        self._users = users
        self.templates = users.templates

    def find(self, target: str, *, by_name: bool = True) -> str | None:
        """See `Users.find`."""
        return run(self._users.find(target, by_name=by_name))

    def inspect(self, found: str) -> Timer | None:
        """See `Users.inspect`."""
        return run(self._users.inspect(found))

    def cancel(self, members: Sequence[str], token: str) -> list[tuple[str, str]]:
        """See `Users.cancel`."""
        return run(self._users.cancel(members, token))
