"""Each Redis server: is it there, is it the right one, is anything strange about it?"""

from __future__ import annotations

import time

from redis import exceptions as redis_errors

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn

#: The oldest Redis that has what our scripts use.
NEEDED = (6, 2)
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
        return fail(f"{location.url}: {exc}", "give the user +select, for a database other than 0")
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
    online = sum(each["state"] == "online" for each in data["replicas"])
    wanted = patient.settings.wait_replicas
    if online < wanted:
        return fail(
            f"{online} replicas online, expiry_wait_replicas asks for {wanted}: each call that schedules "
            f"raises NotReplicated{told and f' ({told})'}",
            "more replicas, or a smaller expiry_wait_replicas",
            **data,
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
