"""Trace context of OpenTelemetry: a canvas belongs to the trace in which its timer was scheduled.

A recorded message has its headers by `before_task_publish`, as any message has. A canvas is published by the
expiry worker and by those who run its tasks, days later; so what the message would have had is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def current() -> dict[str, str]:
    """The headers that carry the trace context of this moment; none where OpenTelemetry is not in use."""
    headers: dict[str, str] = {}
    propagate = sys.modules.get("opentelemetry.propagate")
    if propagate is not None:
        propagate.inject(headers)
    return headers


@contextmanager
def resumed(headers: Mapping[str, str]) -> Iterator[None]:
    """Publish in the trace of these headers: where this process is instrumented, it would start another."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    if propagate is None or not headers:
        yield
        return
    context = sys.modules["opentelemetry.context"]
    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)
