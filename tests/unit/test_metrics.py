"""What is served to Prometheus, and where it can't be."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.worker.reporting.figures import BOUNDS, Figures
from celery_redis_expiry.worker.reporting.glance import Seen
from celery_redis_expiry.worker.reporting.metrics import LIMITS, METRICS, ExpiryCollector
from celery_redis_expiry.worker.reporting.metrics_server import MetricsServer

SEEN = Seen(waiting=7, parked=2, claimed=1, dead=4, due=3, oldest=12.5)


class FakeGlance:
    def __init__(self, seen: Seen | None = SEEN) -> None:
        self.seen = seen

    def look(self, patience: float) -> Seen:
        if self.seen is None:
            raise StoreUnavailable("away")
        return self.seen


def collected(glance: Any, figures: Figures) -> str:
    registry = CollectorRegistry()
    registry.register(ExpiryCollector(figures, glance, lambda: True))
    return generate_latest(registry).decode()


def samples(text: str) -> dict[str, float]:
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_value() -> None:
    figures = Figures()
    figures.fired([(True, 0.002), (True, 0.003), (False, 100.0), (False, 1e5)])
    figures.fired([(False, 0.001)], in_place=True)
    figures.recovered(5)
    figures.buried()
    figures.called_off(6)
    figures.skipped()
    figures.missed(9)
    told = samples(collected(FakeGlance(), figures))
    expected = {
        "waiting_timers": 7,
        "parked_timers": 2,
        "claimed_timers": 1,
        "overdue_timers": 3,
        "oldest_overdue_seconds": 12.5,
        "dead_letters": 4,
        "fired_total event": 2,
        "fired_total sweep": 3,
        "fired_in_place_total": 1,
        "lateness_seconds_bucket event 0.001": 0,
        "lateness_seconds_bucket event 0.0025": 1,
        "lateness_seconds_bucket event 0.005": 2,
        "lateness_seconds_bucket event +Inf": 2,
        "lateness_seconds_bucket sweep 300.0": 2,
        "lateness_seconds_bucket sweep 3600.0": 2,
        "lateness_seconds_bucket sweep +Inf": 3,
        "lateness_seconds_sum sweep": 100100.001,
        "recovered_total": 5,
        "dead_lettered_total": 1,
        "called_off_total": 6,
        "skipped_total": 1,
        "missed_total": 9,
        "notifications_on": 1,
        "redis_up": 1,
    }
    assert {name: told[f"celery_expiry_{name}"] for name in expected} == expected
    assert sum("build_info" in name for name in told) == 1


def test_all_that_is_declared_is_served_as_it_is_declared() -> None:
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(collected(FakeGlance(), Figures()))
    }
    assert set(families) == {metric.name for metric in METRICS}
    for metric in METRICS:
        family = families[metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(metric.labels)


def test_what_is_shared_is_absent_while_redis_is_away() -> None:
    told = samples(collected(FakeGlance(None), Figures()))
    assert told["celery_expiry_redis_up"] == 0
    assert told["celery_expiry_fired_total event"] == 0
    for metric in METRICS:
        assert (metric.name in told) <= (not metric.shared)


def test_the_limits_are_exact() -> None:
    assert set(LIMITS) <= set(BOUNDS)
    assert list(LIMITS) == sorted(LIMITS)


def test_promtool_finds_no_fault_in_it(promtool: str) -> None:
    figures = Figures()
    figures.fired([(True, 0.002), (False, 0.1)])
    text = collected(FakeGlance(), figures)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "celery_redis_expiry"):
        yield caplog


def server(port: int | None = 0, host: str = "127.0.0.1") -> MetricsServer:
    glance: Any = FakeGlance()
    settings = Settings(metrics_port=port, metrics_host=host)
    return MetricsServer(settings, Figures(), glance, lambda: True)


def test_it_serves_until_it_is_stopped(log: pytest.LogCaptureFixture) -> None:
    serving = server()
    serving.start()
    url = re.findall(r"http://\S+", log.text)[0]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b"celery_expiry_waiting_timers 7.0" in answer.read()
    serving.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_a_forked_process_does_not_keep_the_port() -> None:
    """A pool's child may outlive its worker, whose successor wants the port."""
    serving = server()
    serving.start()
    child = os.fork()
    if child == 0:
        os._exit(int(serving._server.socket.fileno() != -1))
    _, status = os.waitpid(child, 0)
    serving.stop()
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_a_port_nothing_is_served_nor_said(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    serving = server(None)
    serving.start()
    serving.stop()
    assert log.records == []


def test_a_port_that_is_taken(log: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        serving = server(port)
        serving.start()
        serving.stop()
    [record] = [record for record in log.records if record.levelname == "ERROR"]
    assert f"127.0.0.1:{port}" in record.getMessage()
    assert "expiry_metrics_port" in record.getMessage()


def test_an_address_of_another_machine(log: pytest.LogCaptureFixture) -> None:
    server(host="192.0.2.1").start()
    assert "expiry_metrics_host" in log.text


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    server().start()
    assert "pip install 'celery-redis-expiry[prometheus]'" in log.text
