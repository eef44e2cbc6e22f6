# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica that alone locked, and accepted on that ground what a coordinator proposed that died:
it does not hold up the others for ever."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.node import Node
from quorate.core.values.events import Edited, UpdateResult
from quorate.core.values.messages import Said
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ms_of, stamp_of, successor
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.collecting import COLLECTED_MS, SLICE_MS, held, world, write

ROW: Final = row_of(b"k")
PARTITION: Final = partition_of(ROW)


def _accepted_alone(cluster: SimCluster, index: int) -> int:
    """Have a node lock a boundary that the others have passed, and accept something on it."""
    node = cluster.machines[index].node
    replica, lock = node.parts.replica, node.agreement.boundary
    cluster.run_until(lambda: all(m.node.agreement.boundary > lock for m in cluster.machines))
    replica.fences.lock(PARTITION, lock, 1)
    phantom = replica.fences.locked(PARTITION)
    record = Record(successor(phantom, 1), b"theirs", winners=((0, 7),))
    assert node.parts.votes.accept(ROW, phantom, (3, 5), record).said == Said.ACCEPTED
    return lock


def test_who_accepted_alone_takes_its_lock_back_and_the_key_is_written_and_collected() -> None:
    cluster = world()
    lock = _accepted_alone(cluster, 1)
    cluster.run(COLLECTED_MS)
    fences = [machine.node.parts.replica.fences for machine in cluster.machines]
    assert lock not in [each.boundary(PARTITION) for each in fences]
    asked = asking.update(cluster, 0, b"k", lambda found: Edited(None if found else b"v"))
    asking.finish(cluster, asked)
    assert asked.of(UpdateResult).before is None
    write(cluster, 0, b"k", None, w=3)
    cluster.run(COLLECTED_MS)
    assert held(cluster, b"k") == [None] * 3
    assert min(each.horizon(PARTITION) for each in fences) > lock


def _half_accepted(count: int) -> tuple[SimCluster, Record]:
    """A world in which half of the replicas accepted an update of what was deleted; its coordinator
    is dead."""
    cluster = world(count=count, replication=count)
    write(cluster, 0, b"k", b"old", w=count)
    deleted = write(cluster, 0, b"k", None, w=count)
    record = Record(successor(deleted, 1), b"theirs", winners=((0, 7),))
    for machine in cluster.machines[: count // 2]:
        said = machine.node.parts.votes.accept(ROW, deleted, (3, 5), record).said
        assert said == Said.ACCEPTED
    return cluster, record


def _is_over(cluster: SimCluster, record: Record) -> bool:
    return held(cluster, b"k") == [record] * len(cluster.machines)


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_what_half_accepted_on_a_tombstone_that_others_would_lock_comes_to_an_end(
    count: int, *, is_restarted: bool
) -> None:
    """Who locked votes on the tombstone no more, and who accepted cannot lock. So they do not agree
    there, nobody locks, and it is decided. After a restart who accepted may have agreed before it
    knew: those that locked hear that it has gone on, and take that back."""
    cluster, record = _half_accepted(count)
    if is_restarted:
        cluster.run(200)
        for index in range(count // 2):
            cluster.kill(index)
        cluster.run(50)
        for index in range(count // 2):
            cluster.restart(index)
        cluster.run_until(cluster.is_connected)
    cluster.run_until(lambda: _is_over(cluster, record), 6 * COLLECTED_MS)
    write(cluster, 0, b"k", None, w=count)
    cluster.run(COLLECTED_MS)
    assert held(cluster, b"k") == [None] * count


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lock_on_what_was_told_before_an_update_was_accepted_is_taken_back(seed: int) -> None:
    """Two copies. One has told its digest when it accepts an update of what was deleted; the other
    locks on that."""
    cluster = world(seed, count=2, replication=2)
    write(cluster, 0, b"k", b"old", w=2)
    deleted = write(cluster, 0, b"k", None, w=2)
    after = ms_of(stamp_of(deleted)) // SLICE_MS + 1

    def told() -> list[Node]:
        nodes = [machine.node for machine in cluster.machines]
        return [
            node
            for node in nodes
            if node.agreement.boundary >= after and PARTITION in node.agreement._own
        ]

    cluster.run_until(lambda: bool(told()), 3 * COLLECTED_MS)
    record = Record(successor(deleted, 1), b"theirs", winners=((0, 7),))
    said = told()[0].parts.votes.accept(ROW, deleted, (1, 5), record).said
    assert said == Said.ACCEPTED
    cluster.run_until(lambda: _is_over(cluster, record), 6 * COLLECTED_MS)
