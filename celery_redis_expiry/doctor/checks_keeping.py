"""Whether a Redis server keeps what it is given: eviction, memory, persistence."""

from __future__ import annotations

import time
from typing import Any

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn

#: The part of `maxmemory` from which on a full server is near.
NEARLY_FULL = 0.9


def eviction(server: Server, patient: Patient) -> Finding:
    policy = str(server.info.get("maxmemory_policy", "?"))
    limit = int(server.info.get("maxmemory", 0))
    remedy = "maxmemory-policy noeviction"
    if policy == "noeviction":
        return ok("maxmemory-policy noeviction", policy=policy, maxmemory=limit)
    if policy.startswith("allkeys-"):
        text = (
            f"maxmemory-policy {policy} lets Redis evict stored messages and the index: those timers are lost"
        )
        if limit:
            return fail(text, remedy, policy=policy, maxmemory=limit)
        return warn(f"{text}, once a maxmemory is set", remedy, policy=policy, maxmemory=limit)
    text = f"maxmemory-policy {policy}"
    if not limit:
        return ok(f"{text}, but no maxmemory: nothing is evicted", policy=policy, maxmemory=limit)
    return warn(
        f"{text} lets Redis evict trigger keys: such a timer fires at its indexed due time, whatever TTL "
        "another client gave it",
        remedy,
        policy=policy,
        maxmemory=limit,
    )


def memory(server: Server, patient: Patient) -> Finding:
    info = server.info
    # what Redis itself compares with maxmemory: the buffers of replicas and AOF don't count
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    limit = int(info.get("maxmemory", 0))
    data = {"used": used, "maxmemory": limit}
    if not limit:
        return ok(f"{_size(used)} used, no maxmemory", **data)
    text = f"{_size(used)} of {_size(limit)} used"
    remedy = "more maxmemory, fewer timers, or a Redis of their own for them (expiry_redis_url)"
    if used >= limit:
        return fail(f"{text}: scheduling is refused (StoreFull), firing goes on", remedy, **data)
    if used >= NEARLY_FULL * limit:
        return warn(f"{text}: at the limit scheduling is refused (StoreFull)", remedy, **data)
    return ok(text, **data)


def persistence(server: Server, patient: Patient) -> Finding:
    info = server.info
    aof = bool(info.get("aof_enabled"))
    snapshots = server.config("save")
    fsync = server.config("appendfsync")
    age = max(0.0, time.time() - float(info.get("rdb_last_save_time", 0)))
    data: dict[str, Any] = {
        "aof": aof,
        "appendfsync": fsync,
        "save": snapshots,
        "changes_since_save": info.get("rdb_changes_since_last_save"),
        "seconds_since_save": round(age),
    }
    wanted = "appendonly yes (and appendfsync everysec or always)"
    if aof and info.get("aof_last_write_status", "ok") != "ok":
        return fail("AOF is on, but its last write failed", "see the server's log: a full disk?", **data)
    if aof and info.get("aof_last_bgrewrite_status", "ok") != "ok":
        return warn("AOF is on, but its last rewrite failed", "see the server's log: a full disk?", **data)
    if aof and fsync == "no":
        return warn(
            "AOF, appendfsync no: a crash of its machine loses what the kernel had not written",
            wanted,
            **data,
        )
    if aof:
        lost = {
            "always": "a crash loses nothing",
            "everysec": "a crash of its machine loses up to a second",
        }.get(
            fsync or "",
            "CONFIG is refused, so appendfsync can't be shown; with everysec a crash loses a second",
        )
        return ok(f"AOF, appendfsync {fsync}: {lost}" if fsync else f"AOF; {lost}", **data)
    if snapshots == "":
        return fail("neither AOF nor snapshots: a restart of this Redis forgets every timer", wanted, **data)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return fail(
            "snapshots alone, and the last one failed: Redis may refuse to write",
            "see the server's log: a full disk, no memory to fork? And appendonly yes",
            **data,
        )
    if snapshots is None:
        return warn(
            "AOF is off, and CONFIG is refused, so whether snapshots are made can't be seen: a crash loses "
            f"what came after the last of them ({_ago(age)})",
            f"{wanted}, at the provider",
            **data,
        )
    return warn(
        f"snapshots alone: a crash loses what came after the last of them ({_ago(age)}, "
        f"{data['changes_since_save']} changes since)",
        wanted,
        **data,
    )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 600 else f"{seconds / 60:.0f} min ago"
