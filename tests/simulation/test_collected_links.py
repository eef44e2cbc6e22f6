# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes on what was deleted, where one replica missed them and dropped the tombstone:
they have its stamp, which is below the lock, and were made later."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.values.events import Edit, Edited, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import chain_of, ms_of, stamp_of
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.collecting import COLLECTED_MS, SLICE_MS, held, world, write

PARTITION: Final = partition_of(row_of(b"k"))


def _next_slice(cluster: SimCluster, version: bytes) -> None:
    """Wait until all clocks are in a later slice than that of a version."""
    slice_of = ms_of(stamp_of(version)) // SLICE_MS
    cluster.run_until(
        lambda: all(each.now().wall_ms // SLICE_MS > slice_of for each in cluster.machines)
    )


def _locks(cluster: SimCluster) -> list[int]:
    fences = [machine.node.parts.replica.fences for machine in cluster.machines]
    return [each.boundary(PARTITION) for each in fences]


def to(value: bytes | None) -> Edit:
    """Whatever is there, have this there."""

    def edit(found: Record | None) -> Edited:
        del found
        return Edited(value)

    return edit


def _missed(missing: int, values: list[bytes | None]) -> SimCluster:
    """A world in which all deleted `k`, and one replica missed what was built on the tombstone, and
    dropped that."""
    cluster = world(heartbeat_ms=60_000, hint_bytes_max=0)
    deleted = write(cluster, 0, b"k", None, w=3)
    _next_slice(cluster, deleted)
    others = [index for index in range(3) if index != missing]
    asking.split(cluster, others, [missing])
    for value in values:
        asked = asking.update(cluster, others[0], b"k", to(value))
        asking.finish(cluster, asked)
        result = asked.of(UpdateResult)
        assert result.after is not None
        assert chain_of(result.after.version) == deleted
    for other in others:
        # What is under way to it is lost.
        cluster.reset(other, missing)
        cluster.reset(missing, other)
    asking.heal(cluster)
    cluster.run_until(lambda: asking.held(cluster, missing, b"k") is None, COLLECTED_MS)
    assert min(_locks(cluster)) * SLICE_MS > ms_of(stamp_of(deleted))
    return cluster


@pytest.mark.parametrize("missing", range(3))
def test_what_was_built_on_a_tombstone_comes_to_who_dropped_it(missing: int) -> None:
    cluster = _missed(missing, [b"v"])
    cluster.run(COLLECTED_MS)
    assert [each and each.value for each in held(cluster, b"k")] == [b"v"] * 3


@pytest.mark.parametrize("missing", [0, 2])
def test_a_delete_that_was_built_on_it_comes_there_and_is_collected(missing: int) -> None:
    cluster = _missed(missing, [b"v", None])
    cluster.run(2 * COLLECTED_MS)
    assert held(cluster, b"k") == [None] * 3
