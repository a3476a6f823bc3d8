"""The groups of servers that other tests lean on do what they say."""

from __future__ import annotations

import pytest

from tests.servers.cluster import RedisCluster


@pytest.mark.timeout(120)
def test_a_cluster_moves_slots_and_fails_over(redis_cluster: RedisCluster) -> None:
    client = redis_cluster.client()
    values = {f"{{tag}}{number}": str(number) for number in range(150)}
    for key, value in values.items():
        client.set(key, value, px=600_000)
    slot = redis_cluster.slot("{tag}")
    source = redis_cluster.owner(slot)
    target = next(node for node in redis_cluster.primaries() if node is not source)

    def readable() -> bool:
        return {key: client.get(key) for key in values} == values

    migration = redis_cluster.begin_migration(slot, target)
    assert migration.move_keys(100) == 100
    assert readable()
    assert redis_cluster.owner(slot) is source
    migration.end()
    assert redis_cluster.owner("{tag}7") is target
    assert readable()
    replica = redis_cluster.fail_over(target)
    assert redis_cluster.owner(slot) is replica
    assert readable()
    assert redis_cluster.kill(replica) is target
    assert readable()
    redis_cluster.reset()  # the dead one is back, the slot at home
    assert not readable()
    assert redis_cluster.owner(slot) is source
    assert redis_cluster.up() == redis_cluster.nodes
