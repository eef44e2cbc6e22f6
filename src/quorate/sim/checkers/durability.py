# SPDX-License-Identifier: GPL-3.0-or-later
"""An acknowledged write is on as many disks as its answer says (I7, P1).

At the moment of the answer, `acks` distinct replicas hold the record, or a higher one, so that a
power cut would leave it. Hints do not count, nor does a replica counted twice, nor one that has not
synced.
"""

from __future__ import annotations

from quorate.core.events import PutResult
from quorate.core.slots import key_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Machines, Step, may_hold
from quorate.sim.disk import Disk


class Durability:
    """Looks at the disks whenever a write is acknowledged."""

    def __init__(self, machines: Machines) -> None:
        self.found: list[Violation] = []
        self._machines = machines
        self._handed: dict[bytes, tuple[bytes, list[Disk]]] = {}
        """By version: its row, and the disks there were when it was first given to a replica."""

    def look(self, step: Step) -> None:
        """Judge the acknowledgements of a step."""
        for given in (*step.stored, *step.sent):
            version = given.record.version
            if version not in self._handed:
                self._handed[version] = given.row, self._machines.disks()
        for result in step.acked:
            if step.node is not None:
                self._judge(step, result)

    def _judge(self, step: Step, result: PutResult) -> None:
        assert step.node is not None
        layout = step.node.membership.layout
        row, disks = self._handed.get(result.version, (b"", []))
        if layout is None or not row:
            told = f"{result} was answered, and no replica was given it"
            self.found.append(Violation("I7", b"", told))
            return
        disk_of = dict(zip(self._machines.by_url, disks, strict=True))
        holders = [
            machine.url
            for machine in self._machines.replicas(layout, row)
            if may_hold(machine, row, result.version, disk_of[machine.url])
        ]
        if len(holders) < result.acks:
            told = f"{result} is durable on {holders} only, when {step.machine.url} answers"
            self.found.append(Violation("I7", key_of(row), told))
