# SPDX-License-Identifier: GPL-3.0-or-later
"""What each rule of collection is for: a story in which what was deleted comes back, or replicas
differ for ever, if that rule alone is left out (`plants.collection`).

Every story returns what is wrong in the end. Where it says *late*, a write that is newer than the
tombstone comes, which slept until all thought that they had everything of that time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from quorate.core.topology.layout import Layout
from quorate.core.values.events import Change, GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ms_of, pack_version, stamp_of
from quorate.core.values.wish import Wish
from quorate.sim.checkers import Handed, watch
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.simulation.asking import Handle
from tests.simulation.collecting import (
    COLLECTED_MS,
    SLICE_MS,
    dropped_world,
    missed_world,
    world,
    write,
)
from tests.simulation.plants.collection import RULES
from tests.simulation.plants.plant import Plant, planted

ROW: Final = row_of(b"k")
PARTITION: Final = partition_of(ROW)
LATE: Final = b"late"


def _fence(cluster: SimCluster, index: int, partition: int = PARTITION) -> tuple[int, int]:
    """The lock and the horizon of a node."""
    fence = cluster.machines[index].node.parts.replica.fences.of(partition)
    return (0, 0) if fence is None else (fence.lock, fence.horizon)


def _boundary(cluster: SimCluster, index: int) -> int:
    return cluster.machines[index].node.agreement.boundary


def _has_locked(cluster: SimCluster, *indices: int, above: bytes) -> None:
    """Wait until these have locked a boundary that a version is below."""
    ms = ms_of(stamp_of(above))
    cluster.run_until(lambda: all(_fence(cluster, each)[0] * SLICE_MS > ms for each in indices))


def _deleted(**settings: Any) -> tuple[SimCluster, Record]:
    """Three replicas hold a tombstone of `k`, and it is the moment at which they begin to tell of
    it. Also the late write."""
    cluster = world(heartbeat_ms=60_000, **settings)
    version = write(cluster, 0, b"k", None, w=3)
    _begins_to_tell(cluster, version)
    return cluster, Record(pack_version(stamp_of(version) + 1, 9), LATE)


def _begins_to_tell(cluster: SimCluster, version: bytes) -> None:
    """Wait until all tell of boundaries above a version."""
    ms = ms_of(stamp_of(version))
    cluster.run_until(lambda: all(_boundary(cluster, each) * SLICE_MS > ms for each in range(3)))


def _bring(cluster: SimCluster, holder: int, target: int, record: Record) -> None:
    """Have one node replay a hint of a record to another."""
    node = cluster.machines[holder].node
    peer = node.roster.at(cluster.machines[target].url)
    assert peer is not None
    node.hints.add(peer, ROW, record)
    # Any request is a step.
    asking.get(cluster, holder, b"other", r=1)
    cluster.run(100)


def _wrong(cluster: SimCluster, value: bytes | None = None, key: bytes = b"k") -> list[str]:
    """What is wrong with a key once all had the time to agree; it should have this value."""

    def held() -> list[Record | None]:
        return [asking.held(cluster, index, key) for index in cluster.replicas(key)]

    def is_well() -> bool:
        values = [each and each.value for each in held()]
        return values == [value] * len(values) and all(
            each is None or value is not None for each in held()
        )

    cluster.world.run_until(is_well, cluster.world.now + 2 * COLLECTED_MS)
    wrong = [] if is_well() else [f"its replicas hold {held()}"]
    asked = asking.get(cluster, 0, key)
    asking.finish(cluster, asked)
    found = asked.result
    if not isinstance(found, GetResult) or (found.record and found.record.value) != value:
        wrong.append(f"it is read as {found}")
    return wrong


# --- the stories --------------------------------------------------------------------------------


def a_late_write_comes_to_who_has_not_locked() -> list[str]:
    """0 and 2 heard that all are equal, 1 did not hear of 0, and takes what is late."""
    cluster, late = _deleted()
    cluster.cut(0, 1)
    _has_locked(cluster, 0, 2, above=late.version)
    _bring(cluster, 2, 1, late)
    asking.heal(cluster)
    return _wrong(cluster, LATE)


def an_old_hint_comes_when_all_is_dropped() -> list[str]:
    cluster, old = dropped_world()
    _bring(cluster, 0, 2, old)
    return _wrong(cluster)


def what_was_told_before_comes_when_others_have_gone_on() -> list[str]:
    """1 does not hear of 0 in time, and tells a later boundary, so the others take their locks
    back, but it does not hear that; then it hears of 0."""
    cluster, late = _deleted()
    cluster.cut(0, 1)
    _has_locked(cluster, 0, 2, above=late.version)
    lock, _ = _fence(cluster, 0)
    cluster.run(100)
    cluster.cut(2, 1)
    cluster.run_until(lambda: lock not in (_fence(cluster, 0)[0], _fence(cluster, 2)[0]))
    cluster.wire(0, 1).heal()
    cluster.run(100)
    asking.heal(cluster)
    return _wrong(cluster)


def a_late_write_comes_between_telling_and_locking() -> list[str]:
    """1 told what it held, then takes a delete that is late, and then hears that all told the same.
    (A late value would come to all: 1 would hold it with their lock.)"""
    cluster = world(heartbeat_ms=60_000)
    put = write(cluster, 0, b"k", b"v", w=3)
    gone = write(cluster, 0, b"{k}gone", None, w=3)
    _begins_to_tell(cluster, gone)
    cluster.cut(0, 1)
    _has_locked(cluster, 0, 2, above=gone)
    _bring(cluster, 2, 1, Record(pack_version(stamp_of(put) + 1, 9), None))
    cluster.wire(0, 1).heal()
    return _wrong(cluster)


def a_late_write_comes_to_who_waits_for_a_lock() -> list[str]:
    """1 locks, but some time after the others, to one of which what is late comes meanwhile."""
    cluster, late = _deleted()
    cluster.cut(0, 1)
    _has_locked(cluster, 0, 2, above=late.version)
    lock, _ = _fence(cluster, 0)
    # A round of telling, in which 1 says that it has no lock.
    round_ms = cluster.world.now + SLICE_MS / 4 + 50
    cluster.world.run_until(lambda: _fence(cluster, 0)[0] < lock, round_ms)
    _bring(cluster, 2, 0, late)
    cluster.wire(0, 1).heal()
    return _wrong(cluster)


def a_copy_moves_while_the_others_agree() -> list[str]:
    """3 has got the tombstone, and not all else that it gains, when the others are equal."""
    cluster = SimCluster(1, 4, spares=1, slice_ms=SLICE_MS, grow_after_ms=0, replication=3)
    cluster.run(3 * SLICE_MS)
    machines = cluster.machines
    wish = Wish(replace=((machines[1].url, machines[3].url),))
    machines[0].receive(Change(Handle(cluster.world), wish))
    pulls = machines[3].node.pulls
    cluster.run_until(
        lambda: (
            PARTITION in dict(cluster.layout().moves) and pulls.left and PARTITION not in pulls.left
        ),
        240_000,
    )
    write(cluster, 0, b"k", None, w=3)
    cluster.run(100)
    asking.split(cluster, [0, 1, 2], [3])
    cluster.run(COLLECTED_MS)
    asking.heal(cluster)
    cluster.run_until(lambda: is_at_rest(cluster), 240_000)
    return _wrong(cluster)


def _slept(value: bytes | None) -> list[str]:
    """A write of `k`, which must succeed, is on its way for so long that all that is older was
    dropped by then."""
    cluster = world(count=4, replication=3, heartbeat_ms=60_000, timeout_ms=60_000)
    replicas = cluster.replicas(b"k")
    sleeper = next(index for index in range(4) if index not in replicas)
    write(cluster, replicas[0], b"k", b"v", w=3)
    write(cluster, replicas[0], b"k" if value else b"{k}gone", None, w=3)
    asked_ms = cluster.machines[sleeper].now().wall_ms
    for each in replicas:
        cluster.cut(sleeper, each)
    asked = asking.put(cluster, sleeper, b"k", value)
    cluster.run_until(
        lambda: all(_fence(cluster, each)[1] * SLICE_MS > asked_ms for each in replicas)
    )
    asking.heal(cluster)
    asking.finish(cluster, asked)
    assert isinstance(asked.result, PutResult)
    return _wrong(cluster, value)


def _leave(cluster: SimCluster, leaving: int) -> Layout:
    """A node leaves; returns the layout in which its first copies move."""
    wish = Wish(leave=(cluster.machines[leaving].url,))
    cluster.machines[(leaving + 1) % 4].receive(Change(Handle(cluster.world), wish))
    cluster.run_until(lambda: cluster.layout().moves)
    return cluster.layout()


def a_copy_is_got_from_one_who_dropped_and_one_who_has_not() -> list[str]:
    """0 has not heard that the other two dropped the tombstone, and leaves."""
    partition = _leave(world(count=4, replication=3), 0).moves[0][0]
    key = next(key for key in map(str.encode, map(str, count())) if _is_in(key, partition))
    cluster = world(count=4, replication=3)
    others = [index for index in cluster.replicas(key) if index]
    version = write(cluster, 1, key, None, w=3)
    ms = ms_of(stamp_of(version))
    cluster.run_until(lambda: _fence(cluster, 0, partition)[0] * SLICE_MS > ms)
    lock, horizon = _fence(cluster, 0, partition)
    assert horizon < lock
    for each in others:
        cluster.cut(each, 0)
    cluster.run_until(lambda: all(_fence(cluster, each, partition)[1] == lock for each in others))
    _leave(cluster, 0)
    assert _fence(cluster, 0, partition) == (lock, horizon)
    asking.heal(cluster)
    cluster.run_until(lambda: partition not in dict(cluster.layout().moves))
    return _wrong(cluster, key=key)


def _is_in(key: bytes, partition: int) -> bool:
    return partition_of(row_of(key)) == partition


def a_delete_is_missed_by_who_is_away() -> list[str]:
    cluster, _, _ = missed_world()
    return _wrong(cluster)


def a_delete_is_missed_while_all_are_looked_at() -> list[str]:
    """The same, and whenever a record is dropped the disks of the others are looked at."""
    cluster = world(hint_bytes_max=0)
    seen = watch(cluster.machines, Handed())
    cluster.observers.append(seen)
    write(cluster, 0, b"k", b"v", w=3)
    cluster.kill(2)
    cluster.run(20)
    write(cluster, 0, b"k", None)
    cluster.run(COLLECTED_MS)
    return [each.told for each in seen.violations()]


def an_old_hint_comes_to_a_disk_that_was_refilled() -> list[str]:
    cluster, old = dropped_world()
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    cluster.run_until(lambda: is_at_rest(cluster))
    cluster.run(1_000)
    _bring(cluster, 0, 2, old)
    return _wrong(cluster)


def an_old_hint_comes_to_a_disk_before_it_is_refilled() -> list[str]:
    """The disk is to have the partition, and has asked nobody for it yet."""
    cluster, old = dropped_world()
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    pulls = cluster.machines[2].node.pulls
    cluster.run_until(lambda: PARTITION in pulls.left[1:])
    _bring(cluster, 0, 2, old)
    cluster.run_until(lambda: is_at_rest(cluster), 240_000)
    return _wrong(cluster)


STORIES: Final[dict[str, Callable[[], list[str]]]] = {
    "garbage goes before all have locked it": a_late_write_comes_to_who_has_not_locked,
    "what is below a horizon wins": an_old_hint_comes_when_all_is_dropped,
    "a boundary is locked late": what_was_told_before_comes_when_others_have_gone_on,
    "a lock is not checked": a_late_write_comes_between_telling_and_locking,
    "a lock is taken back": a_late_write_comes_to_who_waits_for_a_lock,
    "copies that move are collected": a_copy_moves_while_the_others_agree,
    "a late delete is not kept": lambda: _slept(None),
    "a copy comes with garbage": a_copy_is_got_from_one_who_dropped_and_one_who_has_not,
    "a majority collects": a_delete_is_missed_by_who_is_away,
    "what is refused is acknowledged": lambda: _slept(b"w"),
    "garbage goes by age": a_delete_is_missed_while_all_are_looked_at,
    "a copy comes without a horizon": an_old_hint_comes_to_a_disk_that_was_refilled,
    "what nobody lists is kept": an_old_hint_comes_to_a_disk_before_it_is_refilled,
}


def test_there_is_a_story_for_each_rule() -> None:
    assert list(STORIES) == [plant.name for plant in RULES]


def test_each_rule_is_told_with_the_switch_of_the_model() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    assert [plant.name for plant in RULES if f"` | {plant.name}" not in page] == []


@pytest.mark.parametrize("name", STORIES)
def test_what_is_deleted_stays_deleted_and_replicas_become_equal(name: str) -> None:
    assert STORIES[name]() == []


@pytest.mark.plain
@pytest.mark.parametrize("plant", RULES, ids=lambda plant: plant.name)
def test_without_its_rule_it_is_not_so(plant: Plant) -> None:
    with planted(plant) as ran:
        wrong = STORIES[plant.name]()
    assert wrong
    assert ran
