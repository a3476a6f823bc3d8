"""The broker, as the expiry worker connects to it."""

from __future__ import annotations

from typing import Any

import kombu
from kombu import Producer

from celery_redis_expiry.doctor.patient import Patient
from celery_redis_expiry.doctor.report import Finding, fail, ok, told, warn


def broker(patient: Patient) -> Finding:
    connection: Any = None
    try:
        connection = patient.app.connection_for_write(connect_timeout=patient.timeout)
        connection.ensure_connection(
            max_retries=max(1, len(connection.alt)),
            interval_start=0,
            interval_step=0,
            timeout=patient.timeout,
        )
        url, driver = connection.as_uri(), connection.transport.driver_type
    except Exception as exc:
        return fail(
            f"can't be reached: {told(exc)}",
            "start it, or mend broker_url. What is due stays in Redis until the broker takes it",
        )
    finally:
        if connection is not None:
            connection.release()
    patient.broker_answers = True
    return ok(f"{url} answers", url=url, driver=driver)


def publishing(patient: Patient) -> Finding:
    connection = patient.app.connection_for_write()
    driver = connection.transport.driver_type
    if driver == "redis":
        if (connection.transport_options or {}).get("retry_on_timeout"):
            return warn(
                "retry_on_timeout makes kombu publish one by one: slower, not less safe",
                "take retry_on_timeout out of broker_transport_options",
                driver=driver,
            )
        if not hasattr(Producer, "batch"):
            return ok(f"kombu {kombu.__version__} publishes one by one; 5.7 pipelines", driver=driver)
        return ok("messages are pipelined", driver=driver)
    if driver == "amqp":
        return ok("messages are pipelined and confirmed", driver=driver)
    return ok(f"{driver}: messages are published one by one", driver=driver)
