"""Where Redis is: our setting, the broker, the result backend, with TLS and transport options."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import NotConfigured
from celery_redis_expiry.connections import locate, locate_watched
from celery_redis_expiry.connections.async_clients import async_client


def app_with(**conf: Any) -> Celery:
    app = Celery("unit", set_as_current=False)
    app.conf.update(conf)
    return app


def test_the_setting_comes_first_then_the_broker_then_the_backend() -> None:
    everything = {
        "expiry_redis_url": "redis://timers:7000/3",
        "broker_url": "redis://broker/1",
        "result_backend": "redis://backend/2",
    }
    assert locate(app_with(**everything)).options["host"] == "timers"
    del everything["expiry_redis_url"]
    assert locate(app_with(**everything)).options["host"] == "broker"
    everything["broker_url"] = "amqp://"
    location = locate(app_with(**everything))
    assert (location.options["host"], location.database) == ("backend", 2)


def test_credentials_are_decoded_and_not_shown() -> None:
    location = locate(app_with(broker_url="redis://us%40er:p%2Fw@host:6380/4"))
    assert location.options["username"] == "us@er"
    assert location.options["password"] == "p/w"
    assert location.database == 4
    assert "p%2Fw" not in repr(location)
    assert "p/w" not in repr(location)


@pytest.mark.parametrize("url", ["unix:///run/r.sock?db=2", "redis+socket:///run/r.sock?virtual_host=2"])
def test_unix_sockets(url: str) -> None:
    location = locate(app_with(expiry_redis_url=url))
    assert location.options["unix_socket_path"] == "/run/r.sock"
    assert location.database == 2


def test_tls_of_the_broker_carries_over() -> None:
    location = locate(
        app_with(
            broker_url="rediss://host/0",
            broker_use_ssl={"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "CERT_REQUIRED"},
        )
    )
    assert location.options["ssl"] is True
    assert location.options["ssl_ca_certs"] == "/ca.pem"
    assert location.options["ssl_cert_reqs"] == "required"
    by_query = locate(app_with(broker_url="rediss://host/0?ssl_cert_reqs=CERT_NONE"))
    assert by_query.options["ssl_cert_reqs"] == "none"


def test_transport_options_carry_over_with_the_url_only() -> None:
    options = {"global_keyprefix": "shop:", "username": "bob", "socket_timeout": 3}
    location = locate(app_with(broker_url="redis://host/0", broker_transport_options=options))
    assert location.prefix == "shop:"
    assert location.options["username"] == "bob"
    assert location.options["socket_timeout"] == 3.0
    elsewhere = locate(
        app_with(
            broker_url="redis://host/0",
            broker_transport_options=options,
            expiry_redis_url="redis://other/0",
        )
    )
    assert elsewhere.prefix == ""
    assert "username" not in elsewhere.options


def test_sentinels() -> None:
    url = "sentinel://:pw@one:26379/1;sentinel://two:26380;sentinel://three"
    location = locate(app_with(broker_url=url, broker_transport_options={"master_name": "primary"}))
    assert location.sentinels == (("one", 26379), ("two", 26380), ("three", 26379))
    assert location.database == 1
    assert location.options["password"] == "pw"
    as_list = locate(
        app_with(
            broker_url=["sentinel://one:1", "sentinel://two:2"],
            broker_transport_options={"master_name": "p"},
        )
    )
    assert as_list.sentinels == (("one", 1), ("two", 2))
    watched = locate_watched(app_with(expiry_watch_url="sentinel://one;two:2/3?master_name=other"))
    assert watched.sentinels == (("one", 26379), ("two", 2))
    assert (watched.database, watched.door()) == (3, "other")
    with pytest.raises(NotConfigured, match="master_name"):
        locate(app_with(broker_url=url))


@pytest.mark.parametrize("url", ["http://x", "redis://host:port/0", "redis://host/zero"])
def test_urls_that_cannot_be_read(url: str) -> None:
    with pytest.raises(NotConfigured, match="expiry_redis_url"):
        locate(app_with(expiry_redis_url=url))


def test_no_part_of_a_password_is_quoted() -> None:
    with pytest.raises(NotConfigured) as caught:
        locate(app_with(broker_url="redis://:se/cret@host:6379/0"))
    assert "escaped" in str(caught.value)
    assert "'se'" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_cluster() -> None:
    location = locate(
        app_with(expiry_redis_url="rediss+cluster://u:p@one:7000;two:7001;rediss+cluster://three")
    )
    assert location.cluster == (("one", 7000), ("two", 7001), ("three", 6379))
    assert location.options == {"username": "u", "password": "p", "ssl": True}
    with pytest.raises(NotConfigured, match="no database 3"):
        locate(app_with(expiry_redis_url="redis+cluster://one/3"))


def test_django_style_settings() -> None:
    class Settings:
        CELERY_BROKER_URL = "amqp://"
        CELERY_EXPIRY_REDIS_URL = "redis://django/5"

    app = Celery("unit", set_as_current=False)
    app.config_from_object(Settings, namespace="CELERY")
    assert locate(app).options["host"] == "django"


def test_an_option_that_redis_asyncio_does_not_take() -> None:
    cluster = locate(
        app_with(expiry_redis_url="rediss+cluster://a:1", expiry_redis_options={"ssl_ca_path": "x"})
    )
    with pytest.raises(NotConfigured, match="does not take ssl_ca_path for a Cluster"):
        async_client(cluster, timeout=1, retries=1)
