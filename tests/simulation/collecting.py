# SPDX-License-Identifier: GPL-3.0-or-later
"""Worlds in which what is deleted is soon dropped, and what comes late to them."""

from __future__ import annotations

from typing import Any, Final

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.sim.cluster import SimCluster
from tests.simulation import asking

SLICE_MS: Final = 2_000
COLLECTED_MS: Final = 10 * SLICE_MS
"""Longer than it takes until what all replicas have is dropped."""


def world(seed: int = 1, count: int = 3, **settings: Any) -> SimCluster:
    """Nodes for which a minute is two seconds; they are old enough to lock anything."""
    cluster = SimCluster(seed, count, slice_ms=SLICE_MS, **settings)
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
