"""Keyspace notifications, proven with a probe key; what the setting says is shown beside it."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import NoPermissionError, OutOfMemoryError

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, ok, unknown, warn
from celery_redis_expiry.keys import PROBE, member, new_token
from celery_redis_expiry.worker.notifications import PATIENCE


def notifications(server: Server, patient: Patient) -> Finding:
    follow = patient.settings.follow_foreign_ttl
    # setting a key with a TTL is itself a change of one, told by the event `expire`
    wanted, flags = ({"expired", "expire"}, "Kxg") if follow else ({"expired"}, "Kx")
    setting = server.config("notify-keyspace-events")
    shown = (
        "CONFIG is refused, so the setting can't be shown"
        if setting is None
        else f'notify-keyspace-events is "{setting}"'
    )
    start = time.perf_counter()
    try:
        arrived = _probe(server, wanted)
    except NoPermissionError as exc:
        return unknown(
            f"not proven, {exc}; {shown}",
            f"an expiry worker's user needs +psubscribe &{server.channels.events}",
            setting=setting,
        )
    except OutOfMemoryError:
        return unknown(f"not proven, Redis is at its maxmemory and takes no probe key; {shown}", "see memory")
    data = {"arrive": arrived >= wanted, "setting": setting, "events": sorted(arrived)}
    if arrived >= wanted:
        return ok(
            f"arrive, {(time.perf_counter() - start) * 1000:.0f} ms after a probe key was set; {shown}",
            **data,
        )
    text = f"do not arrive; {shown}. Timers fire on time all the same, by the index"
    if follow:
        text += ", but an EARLIER expiry that another client gives a trigger key is not followed"
    if setting is not None and patient.settings.configure_notifications:
        return warn(
            text,
            f'an expiry worker adds "{flags}" when it starts; if one runs, its log says why it could not',
            **data,
        )
    return warn(text, f'add "{flags}" to notify-keyspace-events, in redis.conf or at the provider', **data)


def _probe(server: Server, wanted: set[str]) -> set[str]:
    """The events that came for a key that expires at once."""
    probe = member(new_token(), PROBE)
    key = server.keys.trigger(probe)
    arrived: set[str] = set()
    pubsub: Any = server.client.pubsub()
    try:
        pubsub.psubscribe(server.channels.events)
        pubsub.get_message(timeout=server.client.connection_pool.connection_kwargs["socket_timeout"])
        server.client.set(key, "", px=1)
        for patience in PATIENCE:
            end = time.monotonic() + patience
            while (left := end - time.monotonic()) > 0 and not arrived >= wanted:
                message = pubsub.get_message(timeout=left)
                if message is not None and message["type"] == "pmessage":
                    channel = message["channel"].decode(errors="replace")
                    if server.channels.read(channel) == (server.keys.shard, probe):
                        arrived.add(message["data"].decode(errors="replace"))
            if arrived >= wanted:
                break
            # asking for a key whose time has come makes Redis delete it and send the event
            server.client.exists(key)
    finally:
        pubsub.close()
    return arrived
