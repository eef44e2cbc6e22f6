# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage is dropped only when all replicas have confirmed it (I12).

When a node drops a record, every other replica of the row must have that very version or a higher
one on its disk, or have locked what is that old: then it takes nothing older, or it has dropped the
record itself. Not asked are disks that are lost or to be filled, and copies that were damaged.
"""

from __future__ import annotations

from typing import Final

from quorate.core.horizons import beginning
from quorate.core.topology.layout import Layout
from quorate.core.values.slots import partition_of
from quorate.errors import Corrupt
from quorate.sim.checkers.watch import Judge, Machines, Step
from quorate.sim.machine import Machine


class Dropping(Judge):
    """Looks at the disks of the others whenever a row is dropped."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines: Final = machines

    def look(self, step: Step) -> None:
        """Judge what a step dropped."""
        if not step.collected or step.node is None or step.node.membership.layout is None:
            return
        for row in step.collected:
            record = step.machine.disk.collected.get(row)
            if record is None:
                continue  # Written again in the same step, or damaged before.
            if record.value is not None and not record.expires_ms:
                self.blame("I12", f"{step.machine.url} dropped {record}, which is no garbage", row)
            for machine in self._others(step.machine, step.node.membership.layout, row):
                if not _has_confirmed(machine, row, record.version):
                    told = f"{step.machine.url} dropped {record}, and {machine.url} has less"
                    self.blame("I12", told, row)

    def _others(self, own: Machine, layout: Layout, row: bytes) -> list[Machine]:
        """Those that have had their copy since before this layout."""
        found = []
        before = self._machines.rows(layout, row)[0]
        for replica in before.ids:
            machine = self._machines.by_url[self._machines.url_of(replica)]
            is_lost = replica in before.lost or replica not in machine.names()
            if machine is not own and not is_lost:
                found.append(machine)
        return found


def _has_confirmed(machine: Machine, row: bytes, version: bytes) -> bool:
    disk = machine.disk
    try:
        record = disk.durable_remembered(row)
    except Corrupt:
        return True
    if disk.rots[row] or (record is not None and record.version >= version):
        return True
    lock, _ = disk.fence(partition_of(row))
    is_locked = version < beginning(lock, machine.settings.slice_ms)
    return is_locked and record is None
