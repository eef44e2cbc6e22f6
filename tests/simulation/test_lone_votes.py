# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica that alone locked, and accepted on that ground what a coordinator proposed that died:
it does not hold up the others for ever."""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Edited, UpdateResult
from quorate.core.values.messages import Said
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import successor
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.collecting import COLLECTED_MS, held, world, write

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
