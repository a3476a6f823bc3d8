"""What `manage.py check` says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery, _state
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from celery_redis_expiry.contrib.django.checks import TAG
from tests.servers.processes import free_port
from tests.site import Site

REDIS = "redis://localhost/0"


@contextmanager
def project(main: str | None = "shop", *, default: bool = True, **settings: Any) -> Iterator[Celery]:
    """An app as Celery's guide for Django has it, with these settings of Django's."""
    before = _state.default_app, _state._tls.current_app
    with override_settings(**{"CELERY_BROKER_URL": REDIS, **settings}):
        app = Celery(main)
        app.config_from_object("django.conf:settings", namespace="CELERY")
        if default:
            app.set_default()
        try:
            yield app
        finally:
            _state.default_app, _state._tls.current_app = before
            app.close()


def found(deploy: bool = False) -> dict[str, checks.CheckMessage]:
    """By the ends of their ids."""
    told = checks.run_checks(tags=[TAG], include_deployment_checks=deploy)
    return {message.id.rpartition(".")[2]: message for message in told}


def test_nothing_to_say() -> None:
    with project():
        assert found() == {}
    with project(CELERY_EXPIRY_NAMESPACE="shop-2", CELERY_EXPIRY_LEASE=30.0):
        assert found() == {}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CELERY_EXPIRY_NAMSPACE", "Did you mean CELERY_EXPIRY_NAMESPACE?"),
        ("CELERY_EXPIRY_REDIS_URI", "Did you mean CELERY_EXPIRY_REDIS_URL?"),
        ("CELERY_EXPIRY_QQQQ", "All of them are in docs/settings.md."),
    ],
)
def test_a_misspelt_setting(name: str, hint: str) -> None:
    with project(**{name: "x"}):
        assert list(found()) == ["E001"]
        assert name in found()["E001"].msg
        assert found()["E001"].hint == hint


def test_a_misspelt_setting_in_the_app() -> None:
    with project() as app:
        app.conf.expiry_leese = 30.0
        assert found()["E001"].hint == "Did you mean expiry_lease?"


def test_a_setting_without_its_prefix() -> None:
    with project(EXPIRY_NAMESPACE="x"):
        assert found()["W003"].hint == "Did you mean CELERY_EXPIRY_NAMESPACE?"


def test_an_unusable_value_and_no_redis() -> None:
    with project(CELERY_EXPIRY_LEASE=1.0):
        assert "expiry_lease" in found()["E002"].msg
        assert found()["E002"].hint == "In Django's settings: CELERY_EXPIRY_LEASE."
    with project(CELERY_BROKER_URL="amqp://localhost"):
        assert "CELERY_EXPIRY_REDIS_URL" in found()["E002"].msg


def test_an_app_without_a_name() -> None:
    with project(main=None):
        assert list(found()) == ["W002"]
    with project(main=None, CELERY_EXPIRY_NAMESPACE="shop"):
        assert found() == {}


def test_an_app_that_threads_do_not_know() -> None:
    with project(default=False):
        assert list(found()) == ["W004"]


def test_no_app_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state._tls, "current_app", None, raising=False)
    assert list(found()) == ["W001"]
    assert list(found(deploy=True)) == ["W001"]


def test_metrics_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with project(CELERY_EXPIRY_METRICS_PORT=9000):
        assert found() == {}
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        assert list(found()) == ["W005"]


def test_redis_is_asked_with_deploy_alone(make_site: Callable[..., Site], site: Site) -> None:
    told = found(deploy=True)
    assert "W102" in told or "E102" in told  # at least: no expiry worker is up
    assert all(message.hint for message in told.values())
    with make_site(expiry_redis_url=f"redis://127.0.0.1:{free_port()}/0").current():
        assert found() == {}
        assert "can't be reached" in str(checks.run_checks(tags=[TAG], include_deployment_checks=True))
    with make_site(task_always_eager=True).current():
        assert list(found(deploy=True)) == ["W101"]


def test_the_command() -> None:
    with project(CELERY_EXPIRY_NAMSPACE="x"), pytest.raises(SystemCheckError, match="E001"):
        call_command("check")
