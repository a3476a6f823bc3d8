"""Redis behind TLS with a private authority: every way to name it, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from celery_redis_expiry import StoreUnavailable, cancel, schedule_on_expiry
from tests.conftest import missing
from tests.servers.tls import Authority, TLSRedis, binary_with_tls, find_openssl
from tests.site import Site
from tests.waiting import eventually


@pytest.fixture(scope="module")
def openssl() -> str:
    found = find_openssl()
    if found is None:
        missing("no openssl to make certificates with")
        raise AssertionError("unreachable")
    return found


@pytest.fixture(scope="module")
def authority(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(openssl, tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def start_tls(openssl: str, authority: Authority) -> Iterator[Callable[..., TLSRedis]]:
    started: list[TLSRedis] = []

    def start(clients: str = "no") -> TLSRedis:
        found = binary_with_tls(openssl)
        if found is None:
            missing("no redis-server here was built with TLS")
            raise AssertionError("unreachable")
        started.append(TLSRedis(*found, authority, clients=clients))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.remove()


@pytest.fixture(scope="module")
def common_server(start_tls: Callable[..., TLSRedis]) -> TLSRedis:
    return start_tls()


@pytest.fixture
def server(common_server: TLSRedis) -> TLSRedis:
    common_server.reset()
    return common_server


def by_setting(server: TLSRedis, tls: dict[str, str]) -> dict[str, Any]:
    return {"expiry_redis_url": server.tls_url(), "expiry_redis_options": tls}


def by_broker(server: TLSRedis, tls: dict[str, str]) -> dict[str, Any]:
    return {"broker": server.tls_url(), "broker_use_ssl": tls, "expiry_redis_url": None}


def by_query(server: TLSRedis, tls: dict[str, str]) -> dict[str, Any]:
    return {"expiry_redis_url": server.tls_url(query="?" + urlencode(tls))}


def subscribed_by(server: TLSRedis) -> set[int]:
    """By which ports the expiry workers listen: with pattern and channel on one connection."""
    with server.client() as client:
        clients: list[dict[str, str]] = client.client_list(_type="pubsub")
    return {int(one["laddr"].rpartition(":")[2]) for one in clients if one["psub"] != "0"}


@pytest.mark.parametrize("told", [by_setting, by_broker, by_query])
def test_a_worker_fires_over_tls(server: TLSRedis, authority: Authority, make_site: Any, told: Any) -> None:
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": authority.certificate}
    site: Site = make_site(server, **told(server, tls))
    site.expiry().wait_for(r"expiry: watching rediss://.*notifications on")
    assert server.tls_port in subscribed_by(server)
    schedule_on_expiry(site.record("encrypted"), seconds=0.3)
    eventually(lambda: site.redis.llen("celery") == 1, what="fired")


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize("told", [by_setting, by_query])
def test_users_calls(server: TLSRedis, authority: Authority, make_site: Any, told: Any) -> None:
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": authority.certificate}
    site: Site = make_site(server, **told(server, tls))
    schedule_on_expiry(site.record("encrypted"), 600, key="name")
    assert cancel("name", app=site.app)


def test_client_certificates(
    start_tls: Callable[..., TLSRedis], authority: Authority, make_site: Any, shared_redis: Any
) -> None:
    server = start_tls(clients="yes")
    own = authority.sign("client")
    known = {"ssl_cert_reqs": "required", "ssl_ca_certs": authority.certificate}
    queue = shared_redis(use="idle")
    nobody: Site = make_site(server, beside=queue, **by_setting(server, known))
    with pytest.raises(StoreUnavailable, match="ssl_certfile"):
        schedule_on_expiry(nobody.record("without one"), seconds=0)
    assert site_is_empty(nobody)
    tls = known | {"ssl_certfile": own.file, "ssl_keyfile": own.key}
    site: Site = make_site(server, beside=queue, **by_setting(server, tls))
    site.expiry()
    schedule_on_expiry(site.record("with one"), seconds=0.3)
    eventually(lambda: site.queues.llen("celery") == 1, what="fired")


def site_is_empty(site: Site) -> bool:
    return not list(site.redis.scan_iter("*expiry*"))


@pytest.mark.parametrize("told", [by_setting, by_query])
def test_a_wrong_authority(server: TLSRedis, openssl: str, make_site: Any, tmp_path: Path, told: Any) -> None:
    """Refused before anything is stored, with a word on certificates; a worker says so and waits."""
    other = Authority(openssl, tmp_path, "other")
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": other.certificate}
    site: Site = make_site(server, **told(server, tls))
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate verify failed"):
        schedule_on_expiry(site.record("to a stranger"), seconds=0)
    assert site_is_empty(site)
    worker = site.expiry(ready=False)
    worker.wait_for(r"(?i)expiry: .*certificate verify failed.*trying again")
    assert "expiry: watching" not in worker.log


@pytest.mark.usefixtures("face")
def test_a_ca_file_that_is_not_there(server: TLSRedis, make_site: Any, tmp_path: Path) -> None:
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(tmp_path / "nowhere.pem")}
    site: Site = make_site(server, **by_setting(server, tls))
    with pytest.raises(StoreUnavailable, match=r"nowhere\.pem|ssl_ca_certs|No such file"):
        schedule_on_expiry(site.record("to nobody"), seconds=0)


@pytest.mark.usefixtures("face")
def test_plain_words_to_a_tls_port(server: TLSRedis, make_site: Any) -> None:
    site: Site = make_site(server, expiry_redis_url=server.tls_url().replace("rediss", "redis"))
    with pytest.raises(StoreUnavailable, match="is it running, and the URL right"):
        schedule_on_expiry(site.record("in the clear"), seconds=0)
