# SPDX-License-Identifier: GPL-3.0-or-later
"""A hint is forgotten once its replica holds it, or when its loss was counted (I13).

Forgotten is one that was deleted, and one whose name was given to another. A crash may lose a hint
that was not durable yet, and bring back one whose end was not; a node that starts again does not
know of damaged ones behind which there is nothing.
"""

from __future__ import annotations

from quorate.core.slots import key_of
from quorate.errors import Corrupt
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Machines, Place, Step
from quorate.sim.disk import Disk


class Handoff:
    """Remembers every hint, and looks at its replica's disk when it is forgotten."""

    def __init__(self, machines: Machines) -> None:
        self.found: list[Violation] = []
        self._machines = machines
        self._hints: dict[str, dict[bytes, tuple[Given, Place]]] = {
            url: {} for url in machines.by_url
        }
        """By node and name: the hint, and the copy of its replica at that time."""
        self._lives: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        """By node: losses that this life of it has counted."""

    def look(self, step: Step) -> None:
        """Judge what a step forgot."""
        machine = step.machine
        hints = self._hints[machine.url]
        if step.node is not None and self._lives.get(machine.url) != machine.life:
            self._lives[machine.url] = machine.life
            self._counted[machine.url] = 0
            kept = {name: hint for name, hint in hints.items() if _has(machine.disk, name)}
            hints = self._hints[machine.url] = kept
        counted = self._newly_counted(step)
        if step.forgotten or step.hinted:
            names = [*step.forgotten, *(name for name, _ in step.hinted)]
            self._judge(step, [hints.pop(name) for name in names if name in hints], counted)
        for name, given in step.hinted:
            hints[name] = given, Place(self._machines.by_url[given.url], given.row)

    def _judge(self, step: Step, forgotten: list[tuple[Given, Place]], counted: int) -> None:
        undelivered = [
            given
            for given, place in forgotten
            if not place.may_hold(given.row, given.record.version)
        ]
        # What is dropped while the disk takes nothing was never stored, and is counted too.
        if len(undelivered) > counted:
            told = f"{step.machine.url} forgot hints that were not delivered: {undelivered}"
            self.found.append(Violation("I13", key_of(undelivered[0].row), told))

    def _newly_counted(self, step: Step) -> int:
        """Hints that the step dropped, or that were refused in it."""
        if step.node is None:
            return len(step.forgotten)
        counters = step.node.parts.turn.counters
        # Not by index, which calls back into Python for a counter that is not there yet.
        counted = counters.get("hints_dropped", 0) + counters.get("hints_refused", 0)
        before = self._counted[step.machine.url]
        self._counted[step.machine.url] = counted
        return counted - before


def _has(disk: Disk, name: bytes) -> bool:
    """Whether a hint is there, and can be read."""
    try:
        return next(disk.scan_hints(name, name + b"\0"), None) is not None
    except Corrupt:
        return False
