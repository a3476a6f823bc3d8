"""`celery expiry doctor`: what stands between a timer and its task, each with its remedy.

It looks, and changes nothing but its own probe key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.doctor import (
    checks_access,
    checks_broker,
    checks_keeping,
    checks_server,
    checks_timers,
)
from celery_redis_expiry.doctor.checks_notifications import notifications
from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import OK, Check, Finding, Report, fail, told, unknown
from celery_redis_expiry.errors import ExpiryError, StoreUnavailable
from celery_redis_expiry.store.link import said
from celery_redis_expiry.store.rights import ROLES as RIGHTS

__all__ = ["ROLES", "Check", "Finding", "Report", "examine"]

ROLES = tuple(RIGHTS)

#: Looked at on each primary that holds timers.
SERVER_CHECKS: tuple[Callable[[Server, Patient], Finding], ...] = (
    checks_server.version,
    checks_server.role,
    notifications,
    checks_keeping.eviction,
    checks_keeping.memory,
    checks_keeping.persistence,
    checks_server.replicas,
    checks_server.clock,
    checks_server.expiring_keys,
    checks_access.rights,
)
BROKER_CHECKS: tuple[Callable[[Patient], Finding], ...] = (checks_broker.broker, checks_broker.publishing)
TIMER_CHECKS: tuple[Callable[[Patient], Finding], ...] = (
    checks_timers.namespace,
    checks_timers.workers,
    checks_timers.overdue,
    checks_timers.claimed,
    checks_timers.parked,
    checks_timers.dead_letters,
)

UNSEEN = unknown("not looked at, since Redis does not answer", "mend that first")


def examine(
    app: Any, *, timeout: float = 5.0, late: float = 5.0, roles: tuple[str, ...] = ("producer", "worker")
) -> Report:
    """Look at everything, one check after the other; one that breaks or hangs stops no other.

    Arguments:
        app: the Celery app.
        timeout: seconds to wait for an answer; a check that takes more than twice as long is given up.
        late: seconds after which a due timer counts as overdue.
        roles: whose rights in Redis the app's user must have: `producer`, `worker`, `operator`.
    """
    patient = Patient(app, timeout, late, roles)
    checks: list[Check] = []

    def look(check: Callable[..., Finding], *arguments: Any, server: str = "") -> Finding:
        finding = _bounded(
            lambda: check(*arguments), 2 * timeout + 1
        )  # kombu looks at its clock once a second
        checks.append(Check(check.__name__, finding, server))
        return finding

    reachable = look(checks_server.redis, patient).status == OK
    for check in BROKER_CHECKS:
        look(check, patient)
    if not reachable:
        checks += [Check(check.__name__, UNSEEN) for check in (*SERVER_CHECKS, *TIMER_CHECKS)]
        return Report(checks)
    for server in patient.servers:
        for server_check in SERVER_CHECKS:
            look(server_check, server, patient, server=server.name)
    for check in TIMER_CHECKS:
        look(check, patient)
    return Report(checks)


def _bounded(check: Callable[[], Finding], seconds: float) -> Finding:
    """A thread of its own: what hangs in it can be left behind."""
    findings: list[Finding] = []
    thread = threading.Thread(target=lambda: findings.append(_attempt(check)), daemon=True)
    thread.start()
    thread.join(seconds)
    if not findings:
        return fail(
            f"no answer within {seconds:g} s", "see whether its server is stopped, or the network slow"
        )
    return findings[0]


def _attempt(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as exc:
        cause = exc.__cause__ if isinstance(exc, StoreUnavailable) else exc
        if isinstance(cause, redis_errors.NoPermissionError):
            return unknown(
                f"the user may not look: {said(cause)}", "docs/operating.md has the rights that a look needs"
            )
        if isinstance(exc, ExpiryError):
            return fail(str(exc), "docs/settings.md has every setting, docs/operating.md what to do")
        if isinstance(exc, redis_errors.RedisError):
            return fail(told(exc), "see the server's log")
        return fail(f"this check broke: {told(exc)}", "the other checks stand; please report it")
