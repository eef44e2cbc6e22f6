# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests say what is held (I15): those of two replicas are equal exactly if their records are.

Asked of each node for itself: what a partition's sums are over all slices must be what its records
add up to. Of a partition that the node has not gone through yet nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quorate.core.digests import sums_of
from quorate.core.replica import Replica
from quorate.core.values.slots import PARTITION_COUNT, partition_bounds
from quorate.errors import StorageError
from quorate.sim.history import Violation
from quorate.sim.machine import Machine


def check(machines: Iterable[Machine]) -> Iterator[Violation]:
    """Partitions whose sums are not those of what their node holds."""
    for machine in machines:
        if not machine.is_running:
            continue
        replica = machine.node.parts.replica
        for partition in range(PARTITION_COUNT):
            if not replica.digests.is_whole(partition):
                continue
            try:
                rows = _rows(replica, partition)
            except StorageError:
                continue  # Its copies are damaged, or cannot be read: nobody knows.
            if replica.digests.held(partition) != sums_of(rows):
                told = f"{machine.name}: partition {partition} has a digest of other records"
                yield Violation("I15", b"", told)


def _rows(replica: Replica, partition: int) -> list[tuple[bytes, bytes]]:
    start, end = partition_bounds(partition)
    rows: list[tuple[bytes, bytes]] = []
    while start < end:
        found, start = replica.newest(start, end, limit=1 << 30)
        rows += [(row, record.version) for row, record in found.items()]
    return rows
