# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that differ come together by themselves, though nobody reads (P6, I2, I14, I15)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from quorate.core.digests import Digests
from quorate.core.exchanges.agreement import Agreement
from quorate.core.exchanges.anti_entropy import AntiEntropy
from quorate.core.values.messages import Listed
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.status import Status
from quorate.sim.checkers.digests import check
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.plants.plant import Plant, planted

HEALTHY_S: Final = 150
"""A slice and a half until it is compared, and a round until it is told."""
COMPARED_MS: Final = 200_000.0
"""Longer than it takes until what was written is compared and repaired."""
KEYS: Final = [b"key%d" % number for number in range(40)]


def _held(cluster: SimCluster, key: bytes) -> list[Record | None]:
    return [asking.held(cluster, index, key) for index in cluster.replicas(key)]


def _is_equal(cluster: SimCluster) -> bool:
    return all(len(set(map(repr, _held(cluster, key)))) == 1 for key in KEYS)


def _statuses(cluster: SimCluster) -> list[Status]:
    return [machine.node.status() for machine in cluster.machines]


def _missing(lacking: int, *, seed: int = 3, **settings: Any) -> SimCluster:
    """A cluster in which one node was away for some writes and deletes; all hints are lost."""
    cluster = SimCluster(seed, 3, hint_bytes_max=0, **settings)
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"old", w=3) for key in KEYS[:20]])
    cluster.kill(lacking)
    cluster.run(20)
    writer = (lacking + 1) % 3
    values = [None if number % 4 == 0 else b"new" for number in range(len(KEYS))]
    puts = [
        asking.put(cluster, writer, key, value) for key, value in zip(KEYS, values, strict=True)
    ]
    asking.finish(cluster, *puts)
    cluster.restart(lacking)
    cluster.run_until(cluster.is_connected)
    assert not _is_equal(cluster)
    return cluster


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_key_that_nobody_reads_and_whose_hint_was_lost_becomes_equal_by_itself(
    lacking: int,
) -> None:
    """Whether the replica that goes to work is ahead or behind, deletes too."""
    cluster = _missing(lacking)
    newest = {key: max(r.version for r in _held(cluster, key) if r is not None) for key in KEYS}
    cluster.run(COMPARED_MS)
    assert _is_equal(cluster)
    for key in KEYS:
        # Tombstones that all have may be gone.
        kept = [cluster.machines[each].disk.remembered(row_of(key)) for each in range(3)]
        assert {record.version for record in kept if record} == {newest[key]}
    assert not any(machine.disk.lowered for machine in cluster.machines)
    assert list(check(cluster.machines)) == []
    assert all(status.agreed_age_s < HEALTHY_S for status in _statuses(cluster))
    assert [status.agreed_waits for status in _statuses(cluster)] == [""] * 3


def test_replicas_that_are_equal_are_sent_nothing() -> None:
    """I14: it ends."""
    cluster = _missing(2)
    cluster.run(COMPARED_MS)
    moved = asking.counter(cluster, "repair_records_sent")
    assert moved == len(KEYS)
    compared = asking.counter(cluster, "partitions_compared")
    cluster.run(600_000)
    assert asking.counter(cluster, "repair_records_sent") == moved
    assert asking.counter(cluster, "repair_records_got") == 0
    assert asking.counter(cluster, "partitions_compared") == compared


def test_without_repair_what_differs_is_told() -> None:
    cluster = _missing(2, repair_rate=0)
    cluster.run(600_000)
    assert not _is_equal(cluster)
    for status in _statuses(cluster):
        assert status.agreed_age_s > 500
        assert "holds something else" in status.agreed_waits


def test_the_age_grows_while_a_replica_is_away_and_says_who() -> None:
    cluster = SimCluster(5, 3)
    cluster.run(COMPARED_MS)
    cluster.kill(1)
    cluster.run(900_000)
    for index in (0, 2):
        status = cluster.machines[index].node.status()
        assert status.agreed_age_s > 850
        assert "http://n1:8000 cannot be reached" in status.agreed_waits
        assert [each.url for each in status.members if each.holds_up] == ["http://n1:8000"]
    cluster.restart(1)
    cluster.run(COMPARED_MS)
    for status in _statuses(cluster):
        assert status.agreed_age_s < HEALTHY_S
        assert not any(each.holds_up for each in status.members)


def test_clocks_some_seconds_apart_agree_all_the_same() -> None:
    cluster = SimCluster(6, 3, max_clock_skew_ms=12_000)
    for machine, offset_ms in zip(cluster.machines, (-5_000, 0, 5_000), strict=True):
        machine.clock.offset_ms = offset_ms
    asking.finish(cluster, *[asking.put(cluster, 1, key, b"v") for key in KEYS])
    for _ in range(20):
        cluster.run(30_000)
    assert all(status.agreed_age_s < HEALTHY_S + 10 for status in _statuses(cluster))


@pytest.mark.parametrize("apart_ms", [50_000, 90_000, 400_000])
def test_clocks_that_may_be_minutes_apart_agree_all_the_same(apart_ms: int) -> None:
    """Their hybrid clocks are one."""
    cluster = SimCluster(6, 3, max_clock_skew_ms=apart_ms + 5_000)
    cluster.machines[2].clock.offset_ms = apart_ms
    asking.finish(cluster, *[asking.put(cluster, 1, key, b"v") for key in KEYS])
    for _ in range(20):
        cluster.run(30_000)
    ahead_s = apart_ms / 1_000
    assert all(status.agreed_age_s < HEALTHY_S + ahead_s for status in _statuses(cluster))
    assert [status.agreed_waits for status in _statuses(cluster)] == [""] * 3


def test_clocks_further_apart_than_they_may_be_are_named() -> None:
    cluster = SimCluster(6, 3)
    cluster.machines[0].clock.offset_ms = 3_600_000
    for _ in range(20):
        cluster.run(30_000)
    assert all(status.agreed_age_s > 500 for status in _statuses(cluster))
    for status in _statuses(cluster)[1:]:
        assert "http://n0:8000 tells of another minute" in status.agreed_waits


def test_those_whose_clocks_are_right_are_repaired_beside_one_that_is_not() -> None:
    """It has the lowest id, and would go to work before others."""
    cluster = _missing(2)
    cluster.machines[0].clock.offset_ms = 3_600_000
    cluster.run(COMPARED_MS)
    for key in KEYS:
        assert asking.held(cluster, 1, key) == asking.held(cluster, 2, key)


def test_an_age_does_not_stand_still_after_a_clock_was_set_back() -> None:
    cluster = SimCluster(6, 3)
    cluster.run(COMPARED_MS)
    for machine in cluster.machines:
        machine.clock.offset_ms = 3_600_000
    cluster.run(COMPARED_MS)
    for machine in cluster.machines:
        machine.clock.offset_ms = 0
    cluster.kill(1)
    cluster.run(1_200_000)
    for index in (0, 2):
        assert cluster.machines[index].node.status().agreed_age_s > 900


def test_a_node_whose_clock_was_an_hour_ahead_agrees_again_soon_after_it_is_set() -> None:
    """What it added to its base by then nobody else will tell for an hour."""
    cluster = SimCluster(7, 3)
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v", w=3) for key in KEYS])
    cluster.machines[2].clock.offset_ms = 3_600_000
    cluster.run(COMPARED_MS)
    cluster.machines[2].clock.offset_ms = 0
    cluster.run(COMPARED_MS)
    assert all(status.agreed_age_s < HEALTHY_S for status in _statuses(cluster))
    assert list(check(cluster.machines)) == []


def test_what_is_written_over_a_damaged_copy_is_counted_as_it_is() -> None:
    """What was counted of the damaged one cannot be taken back, as nobody can read it."""
    cluster = SimCluster(8, 3)
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v", w=3) for key in KEYS])
    cluster.run(COMPARED_MS)
    assert all(cluster.rot(1, key) for key in KEYS[:10])
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"w", w=3) for key in KEYS[:10]])
    cluster.run(COMPARED_MS)
    assert list(check(cluster.machines)) == []
    assert all(status.agreed_age_s < HEALTHY_S for status in _statuses(cluster))


def test_replicas_agree_while_they_are_written_to() -> None:
    """Restarts, late hints and rows that are overwritten all the time."""
    cluster = SimCluster(9, 3)
    random = cluster.world.random
    for turn in range(60):
        if turn % 20 == 5:
            cluster.kill(turn // 20)
        if turn % 20 == 10:
            cluster.restart(turn // 20)
        running = [index for index in range(3) if cluster.machines[index].is_running]
        for key in random.sample(KEYS, 10):
            value = None if random.random() < 0.2 else b"%d" % turn
            asking.put(cluster, random.choice(running), key, value)
        cluster.run(10_000)
        if turn % 5 == 0:
            assert list(check(cluster.machines)) == []
    cluster.run(COMPARED_MS)
    assert _is_equal(cluster)
    assert all(status.agreed_age_s < HEALTHY_S for status in _statuses(cluster))


# --- planted faults ------------------------------------------------------------------------------

_move_on: Final = Agreement._move_on
_sort: Final = AntiEntropy._sort


def _boundary_of_one(self: Agreement) -> bool:
    clock, wall_ms = self._parts.clock, self._turn.wall_ms
    clock.begin(wall_ms + (90_000 if self._parts.settings.node_id == 1 else 0))
    try:
        return _move_on(self)
    finally:
        clock.begin(wall_ms)


def _older_is_sent(self: AntiEntropy, task: Any, theirs: Listed) -> None:
    _sort(self, task, theirs)
    task.fetch, task.push = task.push, task.fetch


def _nothing_is_scanned(self: Digests, partition: int, rows: list[Any], past: bytes) -> bool:
    del rows
    return _scanned(self, partition, [], past)


_scanned: Final = Digests.scanned

FAULTS: Final = [
    Plant("the boundary moves with one clock alone", Agreement, "_move_on", _boundary_of_one),
    Plant("repair sends what is older", AntiEntropy, "_sort", _older_is_sent),
    Plant("a restart counts nothing of what is there", Digests, "scanned", _nothing_is_scanned),
]


def _is_well() -> bool:
    """Whether replicas come together, digests are right, and all that is known."""
    cluster = _missing(2)
    cluster.run(2 * COMPARED_MS)
    ages = [status.agreed_age_s for status in _statuses(cluster)]
    return _is_equal(cluster) and not list(check(cluster.machines)) and max(ages) < HEALTHY_S


@pytest.mark.plain
@pytest.mark.parametrize("plant", FAULTS, ids=[plant.name for plant in FAULTS])
def test_a_planted_fault_is_noticed(plant: Plant) -> None:
    assert _is_well()
    with planted(plant) as ran:
        assert not _is_well()
    assert ran[plant.name]
