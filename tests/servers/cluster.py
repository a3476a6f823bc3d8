"""A Redis Cluster of private servers: three primaries with a replica each, moved and broken at will."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from tests.servers.redis import RedisServer
from tests.waiting import eventually

SLOTS = 16384
BUS = 10_000  # Redis's own distance from a node's port to its bus port
NODE_TIMEOUT_MS = 2000


class RedisCluster:
    """Six servers; `nodes[i]` and `nodes[i + 3]` begin as primary and replica of one third of the slots.

    `options` go to every server. A node is a RedisServer: `node.client()` speaks to it alone.
    """

    def __init__(self, binary: Path, version: str, *, primaries: int = 3, **options: str) -> None:
        options = {
            "cluster_enabled": "yes",
            "cluster_config_file": "nodes.conf",
            "cluster_node_timeout": str(NODE_TIMEOUT_MS),
            "cluster_replica_validity_factor": "0",  # a replica may always be promoted
            "cluster_allow_replica_migration": "no",  # it stays with its own primary
            "repl_diskless_sync_delay": "0",
        } | options
        self.version = version
        self.nodes = [RedisServer(binary, version, **options) for _ in range(2 * primaries)]
        for node in self.nodes:
            node.port = _free_pair()
        self._thirds = primaries
        self._ids: dict[str, RedisServer] = {}
        self._moved: set[int] = set()
        self._migration: Migration | None = None

    def start(self) -> RedisCluster:
        """Form the cluster; returns once every node calls it ok and the replicas have everything."""
        for epoch, node in enumerate(self.nodes, 1):
            node.start()
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
                self._ids[str(client.execute_command("CLUSTER MYID"))] = node
        first, *others = self.nodes
        for node in others:
            tell(first, "CLUSTER MEET", "127.0.0.1", node.port)
        for third in range(self._thirds):
            slots = range(SLOTS * third // self._thirds, SLOTS * (third + 1) // self._thirds)
            tell(self.nodes[third], "CLUSTER ADDSLOTS", *slots)
        eventually(self._all_met, timeout=30, what=lambda: f"all nodes have met\n{self.tail()}")
        for third in range(self._thirds):
            tell(self.nodes[third + self._thirds], "CLUSTER REPLICATE", self.id(self.nodes[third]))
        self.wait_ready()
        return self

    # -- for those who connect

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    @property
    def startup_nodes(self) -> list[ClusterNode]:
        """As redis.RedisCluster takes them."""
        return [ClusterNode(host, port) for host, port in self.addresses]

    def url(
        self, database: int = 0, *, scheme: str = "redis+cluster", user: str = "", password: str = ""
    ) -> str:
        """The URL of the first node: the others are found from there."""
        login = f"{user}:{password}@" if user or password else ""
        return f"{scheme}://{login}127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.RedisCluster:
        assert database == 0, "a cluster has but one database"
        return redis.RedisCluster(startup_nodes=self.startup_nodes, decode_responses=True, socket_timeout=5)

    # -- who is what

    def id(self, node: RedisServer) -> str:
        return next(id for id, one in self._ids.items() if one is node)

    def up(self) -> list[RedisServer]:
        return [node for node in self.nodes if node.process is not None]

    def primaries(self) -> list[RedisServer]:
        """Those that serve slots, in the order of the slots' thirds."""
        return [self._of_third(third) for third in range(self._thirds)]

    def _of_third(self, third: int) -> RedisServer:
        pair = (self.nodes[third], self.nodes[third + self._thirds])

        def look() -> RedisServer | None:
            roles = {_role(node): node for node in pair if node.process is not None}
            return roles.get("master")

        return eventually(look, what=lambda: f"third {third} has a primary\n{self.tail()}")

    def replica_of(self, node: RedisServer) -> RedisServer:
        """The other one of its pair."""
        index = self.nodes.index(node)
        return self.nodes[(index + self._thirds) % len(self.nodes)]

    def slot(self, key: str) -> int:
        return int(key_slot(key.encode()))

    def owner(self, place: int | str) -> RedisServer:
        """The primary of a slot, or of the slot of a key."""
        slot = self.slot(place) if isinstance(place, str) else place
        return self._map(self.up()[0])[slot]

    def _map(self, node: RedisServer) -> dict[int, RedisServer]:
        """Which primary serves each slot, as one node sees it."""
        owners: dict[int, RedisServer] = {}
        for begin, end, primary, *_ in tell(node, "CLUSTER SLOTS"):
            owners.update(dict.fromkeys(range(begin, end + 1), self._ids[primary[2]]))
        return owners

    # -- readiness

    def wait_ready(self, timeout: float = 40) -> None:
        """Until every node that is up says ok, all see one map, and the replicas have everything."""
        eventually(self._ready, timeout=timeout, every=0.1, what=lambda: f"the cluster is ok\n{self.tail()}")
        for node in self.primaries():
            node.wait_replicated(int(self.replica_of(node).process is not None))

    def _ready(self) -> bool:
        nodes = self.up()
        try:
            maps = [self._map(node) for node in nodes]
            infos: list[Any] = [tell(node, "CLUSTER INFO") for node in nodes]
            return all(info["cluster_state"] == "ok" for info in infos) and all(
                len(one) == SLOTS and one == maps[0] for one in maps
            )
        except (redis.RedisError, KeyError, ValueError):
            return False

    def _all_met(self) -> bool:
        """Whether everybody knows everybody: a replica can only be attached to a node that is known."""
        told = [str(tell(node, "CLUSTER NODES")) for node in self.nodes]
        return all(nodes.count("connected") == len(self.nodes) and "handshake" not in nodes for nodes in told)

    # -- failovers

    def fail_over(self, node: RedisServer) -> RedisServer:
        """An orderly one: this primary's replica takes over. Answers it, once all know it."""
        replica = self.replica_of(node)
        tell(replica, "CLUSTER FAILOVER")
        self._wait_promoted(replica)
        self.wait_ready()
        return replica

    def kill(self, node: RedisServer) -> RedisServer:
        """kill -9 of a primary. Answers its replica once it was promoted and the cluster is ok again."""
        replica = self.replica_of(node)
        node.kill()
        self._wait_promoted(replica)
        self.wait_ready()
        return replica

    def _wait_promoted(self, replica: RedisServer) -> None:
        eventually(
            lambda: _role(replica) == "master", timeout=30, what=lambda: f"a promotion\n{replica.tail()}"
        )

    def restart(self, node: RedisServer) -> None:
        """Bring a killed one back: it becomes a replica of who took its place."""
        node.start()
        self.wait_ready()

    # -- slots that move

    def begin_migration(self, slot: int, target: RedisServer) -> Migration:
        """Half migrate a slot: the source answers ASK for what it has no more, the target wants ASKING."""
        assert self._migration is None, "one migration is in progress"
        self._migration = Migration(self, slot, target)
        return self._migration

    def migrate_slot(self, slot: int, target: RedisServer) -> None:
        """Move a slot and everything in it, live."""
        self.begin_migration(slot, target).end()

    def ended(self, migration: Migration) -> None:
        self._migration = None
        self._moved.add(migration.slot)

    def _home(self, slot: int) -> RedisServer:
        """The present primary of the third in which a slot began."""
        ends = (SLOTS * (third + 1) // self._thirds for third in range(self._thirds))
        return self._of_third(next(third for third, end in enumerate(ends) if slot < end))

    # -- configuration, and the end

    def config_set(self, name: str, value: str) -> None:
        """On every node that is up."""
        for node in self.up():
            tell(node, "CONFIG SET", name, value)

    def flush(self) -> None:
        for node in self.primaries():
            tell(node, "FLUSHALL")

    def reset(self) -> None:
        """All nodes up, every slot where it began, nothing stored, no configuration or user of a test's."""
        for node in self.nodes:
            if node.process is None:
                node.start()
        self.wait_ready()
        self.flush()
        if self._migration is not None:
            self._migration.give_up()
        for slot in list(self._moved):
            if self.owner(slot) is not self._home(slot):
                self.migrate_slot(slot, self._home(slot))
        self._moved.clear()
        for node in self.nodes:
            node.reset_configuration()
        self.wait_ready()

    def tail(self) -> str:
        return "\n".join(f"-- {node.port}\n{node.tail()[-600:]}" for node in self.nodes)

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


class Migration:
    """A slot on its way from one primary to another, held half migrated until `end`."""

    def __init__(self, cluster: RedisCluster, slot: int, target: RedisServer) -> None:
        self.cluster = cluster
        self.slot = slot
        self.source = cluster.owner(slot)
        self.target = target
        assert self.source is not target, "the slot is there already"
        tell(target, "CLUSTER SETSLOT", slot, "IMPORTING", cluster.id(self.source))
        tell(self.source, "CLUSTER SETSLOT", slot, "MIGRATING", cluster.id(target))

    def move_keys(self, count: int) -> int:
        """Move so many of its keys, as the source gives them out; answers how many there were."""
        keys: Any = tell(self.source, "CLUSTER GETKEYSINSLOT", self.slot, count)
        self.move(*keys)
        return len(keys)

    def move(self, *keys: str) -> None:
        """Move just these."""
        if keys:
            tell(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        """Move what is left, and tell everybody where the slot is now."""
        while self.move_keys(100):
            pass
        for node in (self.target, self.source):  # the target first: at no moment is the slot nobody's
            tell(node, "CLUSTER SETSLOT", self.slot, "NODE", self.cluster.id(self.target))
        self.cluster.ended(self)

    def give_up(self) -> None:
        """As if it had never begun; for a slot with nothing in it."""
        for node in self.cluster.primaries():
            tell(node, "CLUSTER SETSLOT", self.slot, "STABLE")
        self.cluster.ended(self)


def tell(node: RedisServer, command: str, *arguments: Any) -> Any:
    """One command to this node alone."""
    with node.client() as client:
        return client.execute_command(command, *arguments)


def _role(node: RedisServer) -> str:
    return str(tell(node, "ROLE")[0])


def _free_pair() -> int:
    """A port for clients whose bus port is free too; below those that the kernel gives to connections."""
    while True:
        port = random.randrange(11_000, 22_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            return port
