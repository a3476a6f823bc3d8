"""Where the timers' Redis is: by our setting, else the broker, else the result backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kombu.utils.url import maybe_sanitize_url

from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.settings import Settings

SCHEMES = ("redis", "rediss", "unix", "socket", "redis+socket", "sentinel", "redis+cluster", "rediss+cluster")
SOCKETS = ("unix", "socket", "redis+socket")
CLUSTERS = ("redis+cluster", "rediss+cluster")
#: In the process itself, for tests: see `memory`. No Redis, so neither a broker nor a result backend says so.
MEMORY = "memory"

#: Seconds for which one attempt of a call may wait at most: all of them must end well within the time for
#: which the answer is remembered.
LONGEST_TIMEOUT = 10.0

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
    """A Redis server, the primary that some sentinels know, or a Cluster.

    Attributes:
        url: as configured, without its password, for logs.
        database: the number of its database.
        prefix: what stands before every key (`global_keyprefix`).
        sentinels: (host, port) of each; empty without Sentinel.
        cluster: (host, port) of the nodes to begin with; empty without Cluster.
        options: for redis-py's client.
        memory: the name of a store in this process's memory, where there is no Redis.
    """

    url: str
    database: int = 0
    prefix: str = ""
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    cluster: tuple[tuple[str, int], ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    memory: str | None = None

    @property
    def user(self) -> str:
        """Whom Redis takes us for, as far as it is configured."""
        unknown = "<credential_provider>" if "credential_provider" in self.options else "default"
        return str(self.options.get("username") or unknown)

    @property
    def limited(self) -> bool:
        """Whether Redis may refuse us a command: the user is not `default`, who may do everything."""
        return self.user != "default"

    def door(self) -> object:
        """What leads to the server: two locations with the same door are on the same one."""
        if self.sentinels:
            return self.sentinel_options["master_name"]
        host = self.options.get("host")
        host = "localhost" if host in ("127.0.0.1", "::1") else host
        return self.options.get("unix_socket_path") or (host, self.options.get("port"))


def locate(app: Any) -> Location:
    """Where the timers of a Celery app live.

    Raises:
        NotConfigured: neither our setting, nor the broker, nor the result backend is a Redis.
    """
    settings = Settings.of(app)
    conf = app.conf
    if settings.redis_url:
        return parse(settings.redis_url, settings.redis_options or {}, None, "expiry_redis_url")
    broker = broker_location(app)
    if broker is not None:
        return broker
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


def locate_watched(app: Any, url: str | None = None) -> Location:
    """Where the users' own keys are that an app watches.

    Arguments:
        url: of one handler's own.

    Raises:
        NotConfigured: a URL is unusable, or nothing says where the timers are.
    """
    url, setting = (url, "url") if url else (Settings.of(app).watch_url, "expiry_watch_url")
    return parse(url, {}, None, setting) if url else locate(app)


def broker_location(app: Any) -> Location | None:
    """Where the broker of a Celery app is, if it is a Redis."""
    conf = app.conf
    broker = conf.broker_write_url or conf.broker_url
    if isinstance(broker, list | tuple):
        # several broker URLs are Celery's failover list; only sentinels are several doors to the same Redis
        broker = ";".join(broker) if str(broker[0]).startswith("sentinel") else broker[0]
    if not broker or _scheme(broker) not in SCHEMES:
        return None
    return parse(broker, conf.broker_transport_options or {}, conf.broker_use_ssl, "broker_url")


def parse(url: str, transport_options: dict[str, Any], ssl: Any, setting: str) -> Location:
    """A location from a URL as Celery takes it, with what its transport options and TLS settings add.

    Arguments:
        setting: the name of the setting that the URL came from, for errors.

    Raises:
        NotConfigured: for a URL that is no Redis URL, or a Sentinel one without `master_name`.
    """
    scheme = _scheme(url)
    if scheme == MEMORY:
        return Location(url=url, memory=url.partition("://")[2])
    if scheme not in SCHEMES:
        raise NotConfigured(f"{setting}: {scheme!r} is no scheme for Redis, use one of {', '.join(SCHEMES)}")
    parts = [urlsplit(part if "://" in part else f"{scheme}://{part}") for part in url.split(";") if part]
    first = parts[0]
    # of several hosts the query follows the last
    query = dict(parse_qsl("&".join(part.query for part in parts)))
    options: dict[str, Any] = {}
    try:
        if scheme in SOCKETS:
            options["unix_socket_path"] = unquote(first.path)
            database = int(query.get("virtual_host") or query.get("db") or 0)
        else:
            paths = [path for path in (part.path.strip("/") for part in parts) if path]
            database = int(paths[0] if paths else query.get("db") or 0)
        default_port = 26379 if scheme == "sentinel" else 6379
        hosts = tuple((part.hostname or "localhost", part.port or default_port) for part in parts)
    except ValueError:
        # the error quotes what stands where the port should be, which may be a part of the password
        raise NotConfigured(
            f"{setting}: {_shown(url)} can't be read: are port and database numbers, and special characters "
            "in the password escaped (%2F for /)?"
        ) from None
    several = scheme == "sentinel" or scheme in CLUSTERS
    if not several and scheme not in SOCKETS:
        options["host"], options["port"] = hosts[0]
    if scheme in CLUSTERS and database:
        raise NotConfigured(f"{setting}: a Redis Cluster has no database {database}, leave it out")

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
            options[name] = min(float(options[name]), LONGEST_TIMEOUT)
    if scheme.startswith("rediss") or ssl:
        options["ssl"] = True
        options.update(ssl if isinstance(ssl, dict) else {})
    if isinstance(options.get("ssl_cert_reqs"), str):
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].removeprefix("CERT_").lower()
    if scheme == "sentinel" and not given.get("master_name"):
        raise NotConfigured(
            f"{setting} is a Sentinel URL: set master_name in its transport options "
            "(expiry_redis_options for expiry_redis_url), or in its query (?master_name=…)"
        )
    return Location(
        url=_shown(url),
        database=database,
        prefix=given.get("global_keyprefix") or "",
        sentinels=hosts if scheme == "sentinel" else (),
        sentinel_options={name: given[name] for name in SENTINEL_OPTIONS if name in given},
        cluster=hosts if scheme in CLUSTERS else (),
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
