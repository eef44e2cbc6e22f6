# SPDX-License-Identifier: GPL-3.0-or-later
"""An acknowledged write is on as many disks as its answer says (I7, P1).

At the moment of the answer, `acks` distinct replicas hold the record, or a higher one, so that a
power cut would leave it. Hints do not count, nor does a replica counted twice, nor one that has not
synced.
"""

from __future__ import annotations

from quorate.core.events import PutResult
from quorate.core.layout import Layout
from quorate.core.slots import key_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Machines, Place, Step, place_of


class Durability:
    """Looks at the disks whenever a write is acknowledged."""

    def __init__(self, machines: Machines) -> None:
        self.found: list[Violation] = []
        self._machines = machines
        self._layout: Layout | None = None
        """Of all: it never changes (P4)."""
        self._handed: dict[bytes, tuple[bytes, list[Place]]] = {}
        """By version: its row, and its places when it was first given to a replica."""

    def look(self, step: Step) -> None:
        """Judge the acknowledgements of a step."""
        if step.node is not None:
            self._layout = step.node.membership.layout
        if self._layout is not None:
            for given in (*step.stored, *step.sent):
                version, row = given.record.version, given.row
                if version not in self._handed:
                    replicas = self._machines.replicas(self._layout, row)
                    places = [place_of(machine, row) for machine in replicas]
                    self._handed[version] = row, places
        for result in step.acked:
            self._judge(step, result)

    def _judge(self, step: Step, result: PutResult) -> None:
        row, places = self._handed.get(result.version, (b"", []))
        if not row:
            told = f"{result} was answered, and no replica was given it"
            self.found.append(Violation("I7", b"", told))
            return
        holders = [place.machine.url for place in places if place.may_hold(row, result.version)]
        if len(holders) < result.acks:
            told = f"{result} is durable on {holders} only, when {step.machine.url} answers"
            self.found.append(Violation("I7", key_of(row), told))
