# SPDX-License-Identifier: GPL-3.0-or-later
"""An acknowledged write is on as many disks as its answer says (I7, P1).

At the moment of the answer, `acks` distinct replicas hold the record, or a higher one, so that a
power cut would leave it. Hints do not count, nor does a replica counted twice, nor one that has not
synced.
"""

from __future__ import annotations

from quorate.core.topology.layout import Layout
from quorate.core.values.events import PutResult
from quorate.sim.checkers.watch import Gift, Judge, Machines, Place, Step


class Durability(Judge):
    """Looks at the disks whenever a write is acknowledged."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines
        self._layout: Layout | None = None
        """Of all: it never changes (P4)."""
        self._handed: dict[bytes, tuple[bytes, list[Place]]] = {}
        """By version: its row, and its places when it was first given to a replica."""

    def look(self, step: Step) -> None:
        """Judge the acknowledgements of a step."""
        if self._layout is None and step.node is not None:
            self._layout = step.node.membership.layout
        if self._layout is not None:
            self._note(self._layout, step.given)
        for result in step.acked:
            self._judge(step, result)

    def _note(self, layout: Layout, gifts: list[Gift]) -> None:
        """When a version is first given to a replica, remember where all of its replicas have their
        copies by then."""
        for given in gifts:
            version, row = given.record.version, given.row
            if version not in self._handed:
                urls = self._machines.replicas(layout, row)
                places = [Place(self._machines.by_url[url], row) for url in urls]
                self._handed[version] = row, places

    def _judge(self, step: Step, result: PutResult) -> None:
        row, places = self._handed.get(result.version, (b"", []))
        if not row:
            if result.superseded:
                # What its own copy supersedes is for the others alone, who may get not even hints.
                return
            self.blame("I7", f"{result} was answered, and no replica was given it")
            return
        holders = [place.machine.url for place in places if place.may_hold(row, result.version)]
        if len(holders) < result.acks:
            told = f"{result} is durable on {holders} only, when {step.machine.url} answers"
            self.blame("I7", told, row)
