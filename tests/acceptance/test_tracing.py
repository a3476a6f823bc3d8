"""Trace context, with OpenTelemetry's own instrumentation of Celery in every process that is traced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer, format_trace_id

from celery_redis_expiry import schedule_on_expiry
from tests.site import Site
from tests.waiting import eventually


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    """That of a process that schedules, instrumented for the time of a test."""
    provider = TracerProvider()
    CeleryInstrumentor().instrument(tracer_provider=provider)
    yield provider.get_tracer("test")
    CeleryInstrumentor().uninstrument()


def run_spans(folder: Path) -> list[dict[str, Any]]:
    lines = [line for file in folder.glob("spans-*.jsonl") for line in file.read_text().splitlines()]
    return [span for span in map(json.loads, lines) if span["name"].startswith("run/")]


def canvases(site: Site) -> list[tuple[Any, int]]:
    """Each with how many tasks it runs."""
    add, total = site.task("add"), site.task("total")
    return [
        (site.record("plain"), 1),
        (chain(add.s(1, 2), add.s(3)), 2),
        (group(add.s(1, 1), chain(add.s(2, 2), add.s(1))), 3),
        (chain(add.s(1, 1), chord([add.s(1), add.s(2)], total.s()), add.s(10)), 5),
    ]


@pytest.mark.parametrize("traced", [False, True], ids=["plain expiry worker", "traced expiry worker"])
def test_a_task_belongs_to_the_trace_of_its_schedule_time(
    idle_site: Site, tracer: Tracer, traced: bool
) -> None:
    site = idle_site
    tracing = ["-I", "tracing"]
    site.expiry("expiry", *(tracing if traced else []))
    site.ordinary("traced", *tracing)
    wanted: dict[str, int] = {}
    with site.current():
        for signature, count in canvases(site):
            with tracer.start_as_current_span("request") as span:
                wanted[format_trace_id(span.get_span_context().trace_id)] = count
                schedule_on_expiry(signature, seconds=0.2)

    def ran() -> dict[str, int]:
        traces = [span["context"]["trace_id"].removeprefix("0x") for span in run_spans(site.folder)]
        return {trace: traces.count(trace) for trace in traces}

    eventually(
        lambda: sum(ran().values()) >= sum(wanted.values()), timeout=30, what=lambda: f"{wanted}: {ran()}"
    )
    assert ran() == wanted


def test_a_worker_that_knows_no_traces_hands_the_headers_on(idle_site: Site, tracer: Tracer) -> None:
    """Every message of a canvas carries them, whoever publishes it, beside the task's own headers."""
    site = idle_site
    site.expiry()
    site.ordinary()
    add = site.task("add")
    with site.current(), tracer.start_as_current_span("request") as span:
        schedule_on_expiry(chain(add.s(1, 2).set(headers={"own": "header"}), add.s(3)), seconds=0.1)
    runs = site.drain(2)
    trace = format_trace_id(span.get_span_context().trace_id)
    assert all(trace in run["request"]["traceparent"] for run in runs)
    assert runs[0]["request"]["own"] == "header"


def test_without_a_trace_nothing_is_added(idle_site: Site) -> None:
    site = idle_site
    add = site.task("add")
    with site.current():
        schedule_on_expiry(chain(add.s(1, 2), add.s(3)), seconds=600)
    [record] = site.redis.hvals(site.key("timers"))
    assert "traceparent" not in record
    assert '"trace"' not in record
