"""One shard, with all that users, workers and operators do to it."""

from celery_redis_expiry.store.claiming import Claiming
from celery_redis_expiry.store.dead_letters import DeadLetters
from celery_redis_expiry.store.firing import Firing
from celery_redis_expiry.store.key_timers import KeyTimers
from celery_redis_expiry.store.listing import Listing
from celery_redis_expiry.store.moving import Moving
from celery_redis_expiry.store.namespace import Namespace
from celery_redis_expiry.store.overview import Overview
from celery_redis_expiry.store.pruning import Pruning
from celery_redis_expiry.store.users import Users
from celery_redis_expiry.store.watched import Watched
from celery_redis_expiry.store.workers import Workers


class Shard(
    Namespace,
    Users,
    Claiming,
    Firing,
    Workers,
    DeadLetters,
    Overview,
    Listing,
    Moving,
    Watched,
    KeyTimers,
    Pruning,
):
    """The timers of one shard."""
