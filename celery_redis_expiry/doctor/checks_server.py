"""Each Redis server: is it there, is it the right one, does it keep what it is given?"""

from __future__ import annotations

import time
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn

#: The oldest Redis that has what our scripts use.
NEEDED = (6, 2)
#: The part of `maxmemory` from which on a full server is near.
NEARLY_FULL = 0.9
#: Seconds after which a replica that has not reported is behind.
LAG = 10
#: Seconds by which two clocks may differ.
DRIFT = 1.0


def redis(patient: Patient) -> Finding:
    """Everything else about Redis is looked at only if this one does not fail."""
    location = patient.store.location
    tls = "TLS on" if location.options.get("ssl") else "TLS off"
    try:
        took = patient.reach() * 1000
    except redis_errors.NoPermissionError as exc:
        return fail(f"{location.url}: {exc}", "give the user +ping, and +select for a database other than 0")
    except redis_errors.AuthenticationError as exc:
        return fail(
            f"{location.url} refused the user or password: {exc}", "mend the URL, or the user in Redis"
        )
    except (redis_errors.RedisError, redis_errors.RedisClusterException, OSError) as exc:
        return fail(
            f"{location.url} can't be reached: {exc}",
            "start it, or mend the URL: expiry_redis_url, else the broker's, else the result backend's",
            url=location.url,
            tls=bool(location.options.get("ssl")),
        )
    servers = patient.servers
    primary = f"; its primary is {servers[0].name}" if location.sentinels else ""
    if location.cluster:
        primary = f"; {len(servers)} primaries have timers"
    return ok(
        f"{location.url} answers in {took:.1f} ms, {tls}{primary}",
        url=location.url,
        primaries=[server.name for server in servers],
        tls=bool(location.options.get("ssl")),
        milliseconds=round(took, 3),
    )


def version(server: Server, patient: Patient) -> Finding:
    told = str(server.info.get("redis_version", "?"))
    name = str(server.info.get("server_name", "redis"))
    shown = f"{name} {server.info[f'{name}_version']}, as " if f"{name}_version" in server.info else ""
    shown = f"{'' if name == 'redis' else shown}Redis {told}"
    try:
        known = tuple(int(part) for part in told.split(".")[:2])
    except ValueError:
        return warn(
            f"its version {told!r} says nothing",
            "Redis 6.2 or later is needed: ask the provider",
            version=told,
        )
    if known < NEEDED:
        return fail(
            f"{shown} has no SET with PXAT, which scheduling needs, and no rights on channels",
            "upgrade to Redis 6.2 or later",
            version=told,
        )
    return ok(shown, version=told)


def role(server: Server, patient: Patient) -> Finding:
    info = server.info
    if info.get("role") == "master":
        return ok("a primary", role="master")
    return fail(
        f"a replica of {info.get('master_host')}:{info.get('master_port')}, whose link is "
        f"{info.get('master_link_status')}: what is scheduled or fired must be written",
        "point the setting at the primary, or use a sentinel:// URL, which follows it",
        role=str(info.get("role")),
    )


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


def replicas(server: Server, patient: Patient) -> Finding:
    info = server.info
    if info.get("role") != "master":
        return ok("a replica itself")
    known = [info[f"slave{i}"] for i in range(int(info.get("connected_slaves", 0))) if f"slave{i}" in info]
    data = {
        "replicas": [
            {
                "address": f"{each['ip']}:{each['port']}",
                "state": each["state"],
                "lag": each.get("lag"),
                "bytes_behind": int(info.get("master_repl_offset", 0)) - int(each.get("offset", 0)),
            }
            for each in known
        ]
    }
    told = ", ".join(
        f"{each['address']} {each['state']}, {each['lag']} s and {each['bytes_behind']} bytes behind"
        for each in data["replicas"]
    )
    if not known:
        return ok("no replica: if the server is gone, so is what its disk does not give back", **data)
    if any(each["state"] != "online" or int(each["lag"] or 0) > LAG for each in data["replicas"]):
        return warn(
            f"a replica is behind: {told}",
            "see its log, and the network between: a failover now loses timers",
            **data,
        )
    return ok(told, **data)


def clock(server: Server, patient: Patient) -> Finding:
    before = time.time()
    seconds, micros = server.client.time()
    after = time.time()
    ahead = seconds + micros / 1e6 - (before + after) / 2
    data = {"redis_ahead_seconds": round(ahead, 3)}
    if abs(ahead) > DRIFT + (after - before) / 2:
        return warn(
            f"Redis's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's. "
            "Redis's decides: at= means its time, and logs differ from it",
            "NTP on both machines",
            **data,
        )
    return ok(f"Redis's clock and this machine's are {abs(ahead) * 1000:.0f} ms apart", **data)


def expiring_keys(server: Server, patient: Patient) -> Finding:
    database = server.info.get(f"db{server.location.database}", {})
    keys, expiring = int(database.get("keys", 0)), int(database.get("expires", 0))
    return ok(
        f"{expiring} of {keys} keys in database {server.location.database} have a TTL; however many, the "
        "pacer makes Redis expire ours on time",
        keys=keys,
        expires=expiring,
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
