"""The timers: whose they are, who fires them, and what should have fired by now."""

from __future__ import annotations

from typing import Any

from celery_redis_expiry.doctor.patient import Patient
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn
from celery_redis_expiry.timer import FORMAT
from celery_redis_expiry.worker.service import broker_identity

#: Seconds by which a pacer may wake later than it announced.
GRACE = 5.0
START = "start one, better two: celery -A proj worker -P expiry -n expiry@%h"


def namespace(patient: Patient) -> Finding:
    store = patient.store
    name, broker = store.namespace, broker_identity(patient.app)
    recorded = store.ownership()
    if recorded is None:
        return ok(
            f"{name}: nobody's yet, no expiry worker was ever here; if one was, look at expiry_namespace and "
            "expiry_redis_url",
            namespace=name,
        )
    version, app, their_broker = recorded
    data = {"namespace": name, "format": version, "app": app, "broker": their_broker}
    if (app, their_broker) != (store.owner, broker):
        return fail(
            f"{name} belongs to the app {app!r} with the broker {their_broker}; "
            f"this is {store.owner!r} with {broker}",
            "give this app an expiry_namespace of its own; or, if it or its broker was moved or renamed on "
            "purpose: celery -A proj expiry adopt",
            **data,
        )
    if version != str(FORMAT):
        return fail(f"{name} has format {version}, this release reads {FORMAT}", "upgrade this one", **data)
    return ok(f"{name}: of this app and its broker {broker}, format {version}", **data)


def workers(patient: Patient) -> Finding:
    announced = patient.store.announced()
    awake = sorted(name for name, wakes in announced.items() if wakes >= -GRACE)
    overslept = sorted(set(announced) - set(awake))
    told = ", ".join(f"{name} wakes in {max(0, announced[name]):.0f} s" for name in awake)
    gone = ", ".join(f"{name} should have woken {-announced[name]:.0f} s ago" for name in overslept)
    data: dict[str, Any] = {"wakes_in": {name: round(wakes, 1) for name, wakes in announced.items()}}
    if not awake:
        return fail(f"no expiry worker: nobody fires timers{gone and f' ({gone})'}", START, **data)
    if not patient.broker_answers:
        how = "; the broker is away, so they were not asked"
    else:
        data["answering"] = _ping(patient, awake)
        how = "; all answer" if len(awake) > 1 else "; it answers"
    silent = [name for name in awake if name not in data.get("answering", awake)]
    if silent:
        return warn(
            f"{', '.join(silent)}: announced, but no answer to a ping within {patient.timeout:g} s "
            f"(of: {told})",
            "killed within the last minute, stalled, or worker_enable_remote_control is off: see its log",
            **data,
        )
    if overslept:
        return warn(
            f"{told}{how}. But {gone}",
            "killed, or stalled: start it again; five minutes after its last sign a worker is forgotten",
            **data,
        )
    return ok(f"{told}{how}", **data)


def _ping(patient: Patient, names: list[str]) -> list[str]:
    """Which of them answer by the broker."""
    with patient.app.connection_for_write(connect_timeout=patient.timeout) as connection:
        asked = patient.app.control.inspect(
            destination=names, timeout=patient.timeout, limit=len(names), connection=connection
        )
        return sorted(asked.ping() or {})


def overdue(patient: Patient) -> Finding:
    count, oldest = patient.store.overdue(patient.late)
    data = {"overdue": count, "oldest_seconds": round(oldest, 1)}
    if not count:
        return ok(f"no timer is due for more than {patient.late:g} s", **data)
    return fail(
        f"{_timers(count)} overdue, the oldest for {oldest:.0f} s",
        "an expiry worker must run and reach the broker: see workers and broker here, and its log. After an "
        "outage their number shrinks by itself",
        **data,
    )


def claimed(patient: Patient) -> Finding:
    count, oldest = patient.store.abandoned(patient.late)
    total = patient.store.counts()["claimed"]
    data = {"claimed": total, "abandoned": count, "oldest_seconds": round(oldest, 1)}
    if not count:
        return ok(f"{_timers(total)}, none beyond its lease", **data)
    return fail(
        f"{_timers(count)} claimed beyond the lease, the oldest by {oldest:.0f} s: who had claimed it is "
        "dead, and nobody recovers it",
        START,
        **data,
    )


def parked(patient: Patient) -> Finding:
    count = patient.store.counts()["parked"]
    return ok(_timers(count), parked=count)


def dead_letters(patient: Patient) -> Finding:
    count = patient.store.counts()["dead"]
    newest = patient.store.dead_letters(1)
    if not newest:
        return ok(_timers(count), dead=count)
    [letter] = newest
    return warn(
        f"{count}; the newest is {letter.label}, since {letter.buried:%Y-%m-%d %H:%M:%S} UTC: "
        f"{letter.reason}",
        "celery -A proj expiry dead list, mend the cause, then dead retry or dead discard",
        dead=count,
        newest={"timer": letter.label, "buried": letter.buried.isoformat(), "reason": letter.reason},
    )


def _timers(count: int) -> str:
    return "1 timer" if count == 1 else f"{count} timers"
