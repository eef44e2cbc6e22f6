# SPDX-License-Identifier: GPL-3.0-or-later
"""Tombstones and expired records are dropped for good, and deleted stays deleted (P5, I11, I12)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from quorate.core.exchanges.agreement import Agreement
from quorate.core.exchanges.pulls import Pulls
from quorate.core.horizons import Fences
from quorate.core.topology.peer import Peer
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.sim.checkers.digests import check
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.simulation.planted import is_compiled
from tests.simulation.plants.plant import Plant, planted

KEYS: Final = [b"key%d" % number for number in range(40)]
SLICE_MS: Final = 2_000
COLLECTED_MS: Final = 10 * SLICE_MS
"""Longer than it takes until what all replicas have is dropped."""


def world(seed: int = 1, **settings: Any) -> SimCluster:
    """Three replicas for which a minute is two seconds; they are old enough to lock anything."""
    cluster = SimCluster(seed, 3, slice_ms=SLICE_MS, **settings)
    cluster.run(3 * SLICE_MS)
    return cluster


def held(cluster: SimCluster, key: bytes) -> list[Record | None]:
    return [asking.held(cluster, index, key) for index in cluster.replicas(key)]


def write(cluster: SimCluster, index: int, key: bytes, value: bytes | None, **how: Any) -> bytes:
    """Write, and return the version."""
    asked = asking.put(cluster, index, key, value, **how)
    asking.finish(cluster, asked)
    return asked.of(PutResult).version


def read(cluster: SimCluster, index: int, key: bytes) -> Record | None:
    asked = asking.get(cluster, index, key)
    asking.finish(cluster, asked)
    return asked.of(GetResult).record


def test_what_is_deleted_on_all_replicas_is_gone() -> None:
    cluster = world()
    for key in KEYS:
        write(cluster, 0, key, b"v", w=3)
        write(cluster, 1, key, None if key in KEYS[:30] else b"w", w=3)
    cluster.run(COLLECTED_MS)
    assert all(held(cluster, key) == [None] * 3 for key in KEYS[:30])
    assert all(None not in held(cluster, key) for key in KEYS[30:])
    assert list(check(cluster.machines)) == []
    for machine in cluster.machines:
        replica = machine.node.parts.replica
        assert sum(replica.tombstones) == 0
        assert replica.keys == 10
        assert machine.node.status().agreed_age_s <= 3 * SLICE_MS // 1_000
    assert all(read(cluster, 2, key) is None for key in KEYS[:30])


def test_what_has_expired_is_gone() -> None:
    cluster = world()
    now_ms = cluster.machines[0].now().wall_ms
    write(cluster, 0, b"soon", b"v", w=3, expires_ms=now_ms + 100)
    write(cluster, 0, b"later", b"v", w=3, expires_ms=now_ms + 3_600_000)
    cluster.run(COLLECTED_MS)
    assert held(cluster, b"soon") == [None] * 3
    assert None not in held(cluster, b"later")
    assert [machine.node.parts.replica.keys for machine in cluster.machines] == [1] * 3


def missed_world() -> tuple[SimCluster, int, str]:
    """A world in which one replica missed a delete, was away for long, and is back with the value;
    which that is, and what another said that the tombstone waits for."""
    cluster = world(hint_bytes_max=0)
    write(cluster, 0, b"k", b"v", w=3)
    away = cluster.replicas(b"k")[2]
    there = cluster.replicas(b"k")[0]
    cluster.kill(away)
    cluster.run(20)
    write(cluster, there, b"k", None)
    cluster.run(3 * COLLECTED_MS)
    told = cluster.machines[there].node.status().tombstones_wait
    cluster.restart(away)
    cluster.run_until(cluster.is_connected)
    return cluster, away, told


def test_a_tombstone_waits_for_a_replica_that_is_away_and_goes_when_it_is_back() -> None:
    """A delete that one replica missed: it comes back with the value, and must not win."""
    cluster, away, told = missed_world()
    assert told == f"1 tombstones: partition 476: {url_of(away)} cannot be reached"
    assert all(held(cluster, b"k"))
    assert read(cluster, away, b"k").value is None  # type: ignore[union-attr]
    cluster.run(COLLECTED_MS)
    assert held(cluster, b"k") == [None] * 3
    assert read(cluster, away, b"k") is None
    assert not any(machine.disk.lowered for machine in cluster.machines)


def dropped_world(seed: int = 1) -> tuple[SimCluster, Record]:
    """A world in which `k` was deleted, and that is dropped everywhere. Also the old record."""
    cluster = world(seed)
    write(cluster, 0, b"k", b"old", w=3)
    old = held(cluster, b"k")[0]
    assert old is not None
    write(cluster, 1, b"k", None, w=3)
    cluster.run(COLLECTED_MS)
    assert held(cluster, b"k") == [None] * 3
    return cluster, old


def hint(cluster: SimCluster, holder: int, target: int, record: Record) -> None:
    """Have one node keep a hint for another: a write of long ago that was on its way."""
    node = cluster.machines[holder].node
    peer = node.roster.at(cluster.machines[target].url)
    assert peer is not None
    node.hints.add(peer, row_of(b"k"), record)
    # Any request is a step.
    read(cluster, holder, b"other")
    cluster.run(1_000)


def test_a_hint_of_before_the_horizon_is_refused_for_good_and_counted() -> None:
    """Hints that come after collection, however late."""
    cluster, old = dropped_world()
    hint(cluster, 0, 2, old)
    assert held(cluster, b"k") == [None] * 3
    assert read(cluster, 2, b"k") is None
    assert asking.counter(cluster, "hints_refused") == 1
    assert all(machine.node.hints.total == 0 for machine in cluster.machines)


def test_a_late_delete_is_taken_where_nothing_is_left_to_delete() -> None:
    cluster, old = dropped_world()
    hint(cluster, 0, 2, Record(old.version, None))
    assert held(cluster, b"k") == [None] * 3
    assert asking.counter(cluster, "hints_refused") == 0
    assert asking.counter(cluster, "hints_replayed") == 1


def test_a_restart_forgets_no_horizon() -> None:
    cluster, old = dropped_world()
    for index in range(3):
        cluster.kill(index)
        cluster.restart(index)
    cluster.run_until(cluster.is_connected)
    hint(cluster, 0, 2, old)
    assert held(cluster, b"k") == [None] * 3


def test_what_is_written_on_an_old_version_is_taken_below_the_horizon() -> None:
    """EXPIRE and GETDEL have the stamp of what they read; nothing of it was dropped."""
    cluster = world()
    keys = [b"{t}expire", b"{t}getdel", b"{t}gone"]
    versions = [write(cluster, 0, key, b"v", w=3) for key in keys]
    write(cluster, 0, keys[2], None, w=3)
    cluster.run(COLLECTED_MS)
    assert held(cluster, keys[2]) == [None] * 3
    later_ms = cluster.machines[0].now().wall_ms + 3_600_000
    write(cluster, 1, keys[0], b"v", expires_ms=later_ms, derived_from=versions[0])
    write(cluster, 1, keys[1], None, derived_from=versions[1])
    assert read(cluster, 2, keys[0]).expires_ms == later_ms  # type: ignore[union-attr]
    assert read(cluster, 2, keys[1]).value is None  # type: ignore[union-attr]
    cluster.run(2 * COLLECTED_MS)
    assert held(cluster, keys[1]) == [None] * 3
    assert [record.expires_ms for record in held(cluster, keys[0]) if record] == [later_ms] * 3
    assert list(check(cluster.machines)) == []


def test_a_disk_that_is_refilled_gets_the_horizon_with_its_copy() -> None:
    cluster, old = dropped_world()
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    cluster.run_until(lambda: is_at_rest(cluster))
    cluster.run(1_000)
    hint(cluster, 0, 2, old)
    assert held(cluster, b"k") == [None] * 3
    assert asking.counter(cluster, "hints_refused") == 1


# --- planted faults ------------------------------------------------------------------------------


def _no_horizon(self: Fences, partition: int, record: Record, held: Record | None) -> bool:
    del self, partition, record, held
    return True


def _forgotten_by_pulls(self: Pulls, page: Any, lock: int) -> dict[bytes, Record]:
    del self, page, lock
    return {}


def _the_reachable_are_enough(self: Agreement, partition: int, others: tuple[Peer, ...]) -> None:
    there = tuple([peer for peer in others if peer.is_reachable])
    _look_at(self, partition, there)
    fence = self._replica.fences.of(partition)
    if fence is not None and fence.lock > fence.horizon:
        self._collection._look_at_locked(partition, fence.lock, fence.digest, there)


_look_at: Final = Agreement._look_at

FAULTS: Final = [
    Plant("who is away is not waited for", Agreement, "_look_at", _the_reachable_are_enough),
    Plant("what is below a horizon wins", Fences, "lets_in", _no_horizon),
    Plant("copies are got without the horizon", Pulls, "_own_rows", _forgotten_by_pulls),
]


def _is_well() -> bool:
    """Whether deleted stays deleted, with a late hint to a replica and to one that is refilled."""
    cluster, old = dropped_world()
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    cluster.run_until(lambda: is_at_rest(cluster))
    cluster.run(1_000)
    for target in (1, 2):
        hint(cluster, 0, target, old)
    is_well = held(cluster, b"k") == [None] * 3 and not list(check(cluster.machines))
    cluster, away, _ = missed_world()
    asked = asking.get(cluster, away, b"k")
    asking.finish(cluster, asked)
    result = asked.result
    record = result.record if isinstance(result, GetResult) else None
    return is_well and record is not None and record.value is None


@pytest.mark.skipif(is_compiled(), reason="compiled classes cannot be changed")
@pytest.mark.parametrize("plant", FAULTS, ids=[plant.name for plant in FAULTS])
def test_a_planted_fault_is_noticed(plant: Plant) -> None:
    with planted(plant) as ran:
        assert not _is_well()
    assert ran[plant.name]
