# SPDX-License-Identifier: GPL-3.0-or-later
"""Tombstones and expired records are dropped for good, and deleted stays deleted (P5, I11, I12)."""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.sim.checkers.digests import check
from quorate.sim.cluster import url_of
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.simulation.collecting import (
    COLLECTED_MS,
    SLICE_MS,
    dropped_world,
    held,
    hint,
    missed_world,
    read,
    world,
    write,
)

KEYS: Final = [b"key%d" % number for number in range(40)]


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
    """EXPIRE and GETDEL build on what they read; nothing of it was dropped."""
    cluster = world()
    keys = [b"{t}expire", b"{t}getdel", b"{t}gone"]
    for key in keys:
        write(cluster, 0, key, b"v", w=3)
    write(cluster, 0, keys[2], None, w=3)
    cluster.run(COLLECTED_MS)
    assert held(cluster, keys[2]) == [None] * 3
    later_ms = cluster.machines[0].now().wall_ms + 3_600_000
    expire = asking.update(cluster, 1, keys[0], lambda _: Edited(b"v", later_ms))
    getdel = asking.update(cluster, 1, keys[1], lambda _: Edited(None))
    asking.finish(cluster, expire, getdel)
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
