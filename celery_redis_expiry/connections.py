"""Where the timers' Redis is, and a client: by our setting, else the broker, else the result backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from kombu.utils.url import maybe_sanitize_url
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.settings import Settings

SCHEMES = ("redis", "rediss", "unix", "socket", "redis+socket", "sentinel")

#: Seconds for one attempt. All attempts of one call must end well within `store.REMEMBER_MS`.
TIMEOUT = 5.0
RETRIES = 3

#: Options that mean the same to kombu's transport and to redis-py's client.
CLIENT_OPTIONS = (
    "username",
    "password",
    "credential_provider",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "client_name",
    "ssl_keyfile",
    "ssl_certfile",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")


@dataclass(frozen=True)
class Location:
    """A Redis server, or the primary that some sentinels know.

    Attributes:
        url: as configured, without its password, for logs.
        database: the number of its database.
        prefix: what stands before every key (`global_keyprefix`).
        sentinels: (host, port) of each; empty without Sentinel.
        options: for redis-py's client.
    """

    url: str
    database: int = 0
    prefix: str = ""
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    def client(self, *, retries: int = RETRIES) -> redis.Redis:
        """A client of its own connection pool. It does not connect before its first command.

        Arguments:
            retries: how often a command is repeated after a lost connection; 0 for the subscription,
                whose loss must not be hidden from us.
        """
        backoff = ExponentialBackoff(cap=1.0, base=0.05) if retries else NoBackoff()
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "socket_keepalive": True,
            "retry": Retry(backoff, retries),
            "retry_on_error": [RedisConnectionError, RedisTimeoutError] if retries else [],
            "protocol": 2,
            "db": self.database,
            **self.options,
        }
        if not self.sentinels:
            return redis.Redis(**options)
        sentinel_kwargs = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            **(self.sentinel_options.get("sentinel_kwargs") or {}),
        }
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            list(self.sentinels),
            min_other_sentinels=self.sentinel_options.get("min_other_sentinels", 0),
            sentinel_kwargs=sentinel_kwargs,
        )
        client: redis.Redis = sentinel.master_for(
            self.sentinel_options["master_name"], redis_class=redis.Redis, **options
        )
        return client


def locate(app: Any) -> Location:
    """Where the timers of a Celery app live.

    Raises:
        NotConfigured: neither our setting, nor the broker, nor the result backend is a Redis.
    """
    settings = Settings.of(app)
    conf = app.conf
    if settings.redis_url:
        return parse(settings.redis_url, settings.redis_options or {}, None, "expiry_redis_url")
    broker = conf.broker_write_url or conf.broker_url
    if isinstance(broker, list | tuple):
        # several broker URLs are Celery's failover list; only sentinels are several doors to the same Redis
        broker = ";".join(broker) if str(broker[0]).startswith("sentinel") else broker[0]
    if broker and _scheme(broker) in SCHEMES:
        return parse(broker, conf.broker_transport_options or {}, conf.broker_use_ssl, "broker_url")
    backend = conf.result_backend
    if isinstance(backend, str) and _scheme(backend) in SCHEMES:
        options = {"username": conf.redis_username, "password": conf.redis_password}
        options.update(conf.result_backend_transport_options or {})
        return parse(backend, options, conf.redis_backend_use_ssl, "result_backend")
    raise NotConfigured(
        f"where is Redis? Neither the broker nor the result backend of the app {app.main!r} is one: "
        'set expiry_redis_url = "redis://host:6379/0" in the Celery configuration '
        "(CELERY_EXPIRY_REDIS_URL in Django's settings). If this is not your app at all: give app=, or call "
        "app.set_default() where it is made, since Celery's current app is each thread's own"
    )


def parse(url: str, transport_options: dict[str, Any], ssl: Any, setting: str) -> Location:
    """A location from a URL as Celery takes it, with what its transport options and TLS settings add.

    Arguments:
        setting: the name of the setting that the URL came from, for errors.

    Raises:
        NotConfigured: for a URL that is no Redis URL, or a Sentinel one without `master_name`.
    """
    scheme = _scheme(url)
    if scheme not in SCHEMES:
        raise NotConfigured(f"{setting}: {scheme!r} is no scheme for Redis, use one of {', '.join(SCHEMES)}")
    first = urlsplit(url.split(";")[0])
    query = dict(parse_qsl(first.query))
    options: dict[str, Any] = {}
    sentinels: list[tuple[str, int]] = []
    try:
        if scheme in ("unix", "socket", "redis+socket"):
            options["unix_socket_path"] = unquote(first.path)
            database = int(query.get("virtual_host") or query.get("db") or 0)
        else:
            if scheme == "sentinel":
                hosts = [
                    urlsplit(part if "://" in part else f"sentinel://{part}")
                    for part in url.split(";")
                    if part
                ]
                sentinels = [(part.hostname or "localhost", part.port or 26379) for part in hosts]
            else:
                options.update(host=first.hostname or "localhost", port=first.port or 6379)
            paths = (
                [urlsplit(part).path.strip("/") for part in url.split(";")]
                if sentinels
                else [first.path.strip("/")]
            )
            database = int(next((path for path in paths if path), query.get("db") or 0))
    except ValueError as exc:
        raise NotConfigured(f"{setting}: {_shown(url)} can't be read: {exc}") from exc

    if first.username:
        options["username"] = unquote(first.username)
    if first.password:
        options["password"] = unquote(first.password)
    given = {**query, **transport_options}
    options.update(
        {name: given[name] for name in CLIENT_OPTIONS if given.get(name) is not None and name not in options}
    )
    for name in ("socket_timeout", "socket_connect_timeout"):
        if name in options:
            # repeated calls must end within the time for which their answer is remembered
            options[name] = min(float(options[name]), 2 * TIMEOUT)
    if scheme == "rediss" or ssl:
        options["ssl"] = True
        options.update(ssl if isinstance(ssl, dict) else {})
    if isinstance(options.get("ssl_cert_reqs"), str):
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].removeprefix("CERT_").lower()
    if sentinels and not given.get("master_name"):
        raise NotConfigured(
            f"{setting} is a Sentinel URL: set master_name in its transport options "
            "(expiry_redis_options for expiry_redis_url)"
        )
    return Location(
        url=_shown(url),
        database=database,
        prefix=given.get("global_keyprefix") or "",
        sentinels=tuple(sentinels),
        sentinel_options={name: given[name] for name in SENTINEL_OPTIONS if name in given},
        options=options,
    )


def _shown(url: str) -> str:
    """The URL without its passwords. One whose port is no number can't be taken apart, and is not shown."""
    try:
        return ";".join(maybe_sanitize_url(part) for part in url.split(";"))
    except ValueError:
        return f"{_scheme(url)}://…"


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()
