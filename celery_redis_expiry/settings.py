"""Every setting of the package: name, type, default and meaning, in one place.

They live in the Celery configuration (`app.conf.expiry_namespace = "shop"`), and so in Django's
settings as `CELERY_EXPIRY_NAMESPACE` where the app reads them with `namespace="CELERY"`.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from celery_redis_expiry.errors import NotConfigured

#: What a namespace may consist of: nothing that a key pattern or a Cluster hash tag would read as syntax.
NAMESPACE = re.compile(r"[A-Za-z0-9_.@/-]{1,100}")


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """The settings of one app, checked. Each is `expiry_` plus the field's name."""

    redis_url: str | None = _setting(
        None,
        "Where the timers live: a `redis`, `rediss`, `unix`, `sentinel`, `redis+cluster` or `rediss+cluster` "
        "URL; several sentinels or Cluster nodes are separated by `;`; `memory` for tests only. "
        "Without it: the broker if that is Redis, else the result backend if that is.",
    )
    redis_options: dict[str, Any] | None = _setting(
        None,
        "Further options for the connection to `expiry_redis_url`, by the names that "
        "`broker_transport_options` uses (`master_name`, `sentinel_kwargs`, `username`, `global_keyprefix`, "
        "`ssl_ca_certs`, `socket_timeout` and the like).",
    )
    namespace: str | None = _setting(
        None,
        "Keeps the timers of one app from another's in the same Redis. Default: the app's main name. "
        "Letters, digits and `_ . @ / -`.",
    )
    in_worker: bool = _setting(
        False,
        "Whether ordinary workers fire timers too, as if each were started with `--expiry`: for development "
        "and small sites. `--no-expiry` exempts one.",
    )
    configure_notifications: bool = _setting(
        True,
        "Whether the expiry worker may add the flags it needs to `notify-keyspace-events` "
        "(it never removes any).",
    )
    follow_foreign_ttl: bool = _setting(
        False,
        "Whether a trigger key that some other client gave an earlier expiry fires on time: the worker "
        "then listens to every change of its trigger keys. Later ones are always followed.",
    )
    lease: float = _setting(
        60.0,
        "Seconds for which a claim holds. A worker whose broker takes its time prolongs it; the timers that "
        "a dead worker had claimed fire after it. 5 to 86400.",
    )
    batch_size: int = _setting(
        500,
        "How many timers are taken up together, 2 to 1000. One script claims 200 of them at most.",
    )
    fire_in_place: bool = _setting(
        True,
        "Whether the expiry worker fires by one script that claims the timer and puts its message into the "
        "broker's queue, where that lies in the same Redis database. `celery inspect stats` says whether it "
        "does, and why not.",
    )
    overlap_timeout: float = _setting(
        3600.0,
        "Seconds after which a recurring timer fires again although the task of its last occurrence was not "
        "seen to end: its worker was killed, or does not have this package. 1 to 31622400.",
    )
    shards: int | None = _setting(
        None,
        "Into how many shards the timers are cut, 1 to 1024. It is recorded in Redis at first use, and "
        "another number is refused until `celery expiry reshard`. Default: what is recorded, else 64 on a "
        "Cluster and 1 elsewhere.",
    )
    wait_replicas: int = _setting(
        0,
        "How many replicas must have a timer before the call that schedules or reschedules it returns. Where "
        "they don't, it raises `NotReplicated`: the timer is stored, on the primary alone.",
    )
    wait_replicas_timeout: float = _setting(
        1.0,
        "Seconds for which they are waited for, up to 4.",
    )
    dead_letter_limit: int = _setting(
        10_000,
        "How many dead letters are kept, an equal part of them in each shard; beyond it the oldest are "
        "dropped, and logged.",
    )
    dead_letter_age: float = _setting(
        90 * 86400.0,
        "Seconds for which a dead letter is kept; older ones are dropped, and logged.",
    )
    watch_url: str | None = _setting(
        None,
        "Where the users' own keys are that handlers (`on_key_expired`) watch: a URL as for "
        "`expiry_redis_url`, options in its query. Without it: with the timers. A handler may have its own.",
    )
    watch_limit: int = _setting(
        1_000_000,
        "How many keys the ledger of one watched pattern holds. Those beyond it are told of while a worker "
        "listens, but late, and not at all if they expire while none does; the worker warns.",
    )
    mark_revoked: bool = _setting(
        False,
        "Whether the result of a cancelled timer becomes `REVOKED` in the result backend, so that a `get()` "
        "that waits for it raises `TaskRevokedError`. Otherwise nothing is written there.",
    )
    scheduled_state: bool = _setting(
        True,
        "Whether `AsyncResult(id).state` of a waiting timer is `SCHEDULED`: what the result backend doesn't "
        "know is then looked up among the timers.",
    )
    countdown_threshold: float | None = _setting(
        None,
        "Seconds: a `countdown` or `eta` further away than this becomes a timer, be it of `apply_async`, "
        "`send_task`, `retry` or a step of a canvas; 0 for all, None for none. Of one task: all with "
        "`@app.task(expiry=True)`, none with `expiry=False`.",
    )
    metrics_port: int | None = _setting(
        None,
        "Where an expiry worker serves metrics for Prometheus (the extra `prometheus`): a port, 0 for any "
        "free one, which it logs; None for no metrics. Each worker of a machine needs its own.",
    )
    metrics_host: str = _setting(
        "127.0.0.1",
        "The address that it listens on; `0.0.0.0` for all of the machine's.",
    )

    def __post_init__(self) -> None:
        _check("redis_url", self.redis_url is None or isinstance(self.redis_url, str), "a URL or None")
        _check(
            "redis_options",
            self.redis_options is None or isinstance(self.redis_options, dict),
            "a dict or None",
        )
        _check(
            "namespace",
            self.namespace is None
            or (isinstance(self.namespace, str) and bool(NAMESPACE.fullmatch(self.namespace))),
            "1 to 100 letters, digits or _ . @ / -",
        )
        _check("watch_url", self.watch_url is None or isinstance(self.watch_url, str), "a URL or None")
        _check("watch_limit", _is_whole(self.watch_limit, 1, 10**9), "a whole number, at least 1")
        for name in (
            *("in_worker", "configure_notifications", "follow_foreign_ttl"),
            *("mark_revoked", "scheduled_state", "fire_in_place"),
        ):
            _check(name, isinstance(getattr(self, name), bool), "True or False")
        _check("lease", _is_number(self.lease) and 5 <= self.lease <= 86400, "seconds from 5 to 86400")
        _check("batch_size", _is_whole(self.batch_size, 2, 1000), "a whole number from 2 to 1000")
        _check(
            "overlap_timeout",
            _is_number(self.overlap_timeout) and 1 <= self.overlap_timeout <= 366 * 86400,
            "seconds from 1 to 31622400",
        )
        _check(
            "shards",
            self.shards is None or _is_whole(self.shards, 1, 1024),
            "a whole number from 1 to 1024, or None",
        )
        _check("wait_replicas", _is_whole(self.wait_replicas, 0, 100), "a whole number from 0 to 100")
        _check(
            "wait_replicas_timeout",
            _is_number(self.wait_replicas_timeout) and 0 < self.wait_replicas_timeout <= 4,
            "seconds, more than 0 and at most 4",
        )
        _check("dead_letter_limit", _is_whole(self.dead_letter_limit, 1, 10**9), "a whole number, at least 1")
        _check(
            "dead_letter_age",
            _is_number(self.dead_letter_age) and 60 <= self.dead_letter_age < 10**10,
            "seconds, at least 60",
        )
        _check_threshold(self.countdown_threshold)
        _check(
            "metrics_port",
            self.metrics_port is None or _is_whole(self.metrics_port, 0, 65535),
            "a port from 0 to 65535, or None",
        )
        _check(
            "metrics_host",
            isinstance(self.metrics_host, str) and bool(self.metrics_host),
            "an address or host name",
        )

    @classmethod
    def of(cls, app: Any) -> Settings:
        """Read the settings of a Celery app.

        Raises:
            NotConfigured: when a value can't be used; the message names the setting.
        """
        values = {}
        for spec in fields(cls):
            value = app.conf.get(f"expiry_{spec.name}")
            if value is not None:
                values[spec.name] = value
        return cls(**values)

    @staticmethod
    def threshold_of(app: Any) -> float | None:
        """`expiry_countdown_threshold` of an app, checked; alone, since every call with a countdown asks.

        Raises:
            NotConfigured: its value can't be used.
        """
        value: float | None = app.conf.get("expiry_countdown_threshold")
        _check_threshold(value)
        return value


def documented() -> list[tuple[str, str, Any, str]]:
    """Every setting as (name, type, default, meaning): what docs/settings.md is checked against."""
    return [
        (
            f"expiry_{spec.name}",
            str(spec.type),
            None if spec.default is MISSING else spec.default,
            spec.metadata["meaning"],
        )
        for spec in fields(Settings)
    ]


def _check_threshold(value: Any) -> None:
    good = value is None or (_is_number(value) and value >= 0)
    _check("countdown_threshold", good, "seconds, at least 0, or None")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return _is_number(value) and value == value // 1 and least <= value <= most


def _check(name: str, good: bool, wanted: str) -> None:
    if not good:
        raise NotConfigured(f"the setting expiry_{name} must be {wanted}")
