"""What the app's user may do in Redis, found out by trying as the app."""

from __future__ import annotations

from redis.exceptions import ResponseError

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn
from celery_redis_expiry.store.rights import FIGURES, PUNCTUALITY, TIDINESS, may_listen, missing, rights_of


def rights(server: Server, patient: Patient) -> Finding:
    user = _user(server)
    needed = set().union(*(rights_of(role) for role in patient.roles))
    lacking = missing(server.client, server.keys, server.channels, needed)
    if "psubscribe" in needed:
        lacking = sorted({*lacking, *may_listen(server.client, server.channels)})
    data = {"user": user, "roles": list(patient.roles), "missing": lacking}
    who = " and ".join(patient.roles)
    if not lacking:
        return ok(f"the user {user} has every right of {who}", **data)
    text = f"the user {user} lacks, as {who}: {' '.join(lacking)}"
    remedy = f"ACL SETUSER {user} {' '.join(lacking)}"
    channels = {f"&{channel}" for channel in server.channels.patterns}
    names = {rule.lstrip("+") for rule in lacking}
    if names - PUNCTUALITY - FIGURES - TIDINESS - channels:
        return fail(text, remedy, **data)
    if names & FIGURES:
        text += "; how many timers are overdue can't be told"
    if names & TIDINESS:
        text += "; templates that no timer has any more stay in Redis"
    if names - FIGURES - TIDINESS:
        text += "; timers fire, but those that nobody is told of up to a minute late"
    return warn(text, remedy, **data)


def _user(server: Server) -> str:
    try:
        return str(server.client.acl_whoami())
    except ResponseError:
        return str(server.location.options.get("username") or "default")
