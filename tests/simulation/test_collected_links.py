# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes that one replica missed, whose stamp is below the lock: they have that of what
they built on, perhaps a tombstone that the replica has dropped, and were made later."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.values.events import Edit, Edited, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import chain_of, ms_of, stamp_of
from quorate.sim.checkers import Handed, watch
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.collecting import COLLECTED_MS, SLICE_MS, held, read, world, write

PARTITION: Final = partition_of(row_of(b"k"))


def _later_slice(cluster: SimCluster, version: bytes, by: int = 1) -> None:
    """Wait until all clocks are in a later slice than that of a version."""
    later = ms_of(stamp_of(version)) // SLICE_MS + by
    cluster.run_until(
        lambda: all(each.now().wall_ms // SLICE_MS >= later for each in cluster.machines)
    )


def _locks(cluster: SimCluster) -> list[int]:
    fences = [machine.node.parts.replica.fences for machine in cluster.machines]
    return [each.boundary(PARTITION) for each in fences]


def to(value: bytes | None, expires_ms: int = 0) -> Edit:
    """Whatever is there, have this there."""

    def edit(found: Record | None) -> Edited:
        del found
        return Edited(value, expires_ms)

    return edit


def _without(cluster: SimCluster, missing: int, chain: bytes, edits: list[Edit]) -> None:
    """Have two replicas make edits of `k`, whose chain is known, which the third misses."""
    others = [index for index in range(3) if index != missing]
    asking.split(cluster, others, [missing])
    for edit in edits:
        asked = asking.update(cluster, others[0], b"k", edit)
        asking.finish(cluster, asked)
        result = asked.of(UpdateResult)
        assert result.after is not None
        assert chain_of(result.after.version) == chain
    for other in others:
        # What is under way to it is lost.
        cluster.reset(other, missing)
        cluster.reset(missing, other)
    asking.heal(cluster)


def _missed(missing: int, values: list[bytes | None]) -> SimCluster:
    """A world in which all deleted `k`, and one replica missed what was built on the tombstone, and
    dropped that."""
    cluster = world(heartbeat_ms=60_000, hint_bytes_max=0)
    deleted = write(cluster, 0, b"k", None, w=3)
    _later_slice(cluster, deleted)
    _without(cluster, missing, deleted, [to(value) for value in values])
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


@pytest.mark.parametrize("missing", range(3))
def test_what_was_given_an_expiry_in_the_past_does_not_come_back_where_that_was_missed(
    missing: int,
) -> None:
    """Of a boundary before the update was made all tell the value that it built on: they agree
    there, and that is not about the update, though its stamp and its expiry are older."""
    cluster = world(heartbeat_ms=60_000, hint_bytes_max=0)
    seen = watch(cluster.machines, Handed())
    cluster.observers.append(seen)
    version = write(cluster, 0, b"k", b"v", w=3)
    _later_slice(cluster, version, 2)
    _without(cluster, missing, version, [to(b"w", 1)])
    cluster.run(2 * COLLECTED_MS)
    assert [each.told for each in seen.violations()] == []
    assert read(cluster, missing, b"k") is None
    assert held(cluster, b"k") == [None] * 3
