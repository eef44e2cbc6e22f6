# SPDX-License-Identifier: GPL-3.0-or-later
"""A hint is forgotten once its replica holds it, or when its loss was counted (I13).

Forgotten is one that was deleted, and one whose name was given to another. A crash may lose a hint
that was not durable yet, and bring back one whose end was not; a node that starts again does not
know of damaged ones behind which there is nothing. With an old disk the hints of then come back,
and those since are lost: they are not counted, as nobody is left who knew of them.
"""

from __future__ import annotations

from quorate.core.values.slots import key_of
from quorate.errors import Corrupt
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Machines, Place, Step
from quorate.sim.disk import Disk

_Hints = dict[bytes, tuple[Given, Place]]
"""By name: the hint, and the copy of its replica when it was stored, or found."""


class Handoff:
    """Remembers every hint, and looks at its replica's disk when it is forgotten."""

    def __init__(self, machines: Machines) -> None:
        self.found: list[Violation] = []
        self._machines = machines
        self._hints: dict[str, _Hints] = {url: {} for url in machines.by_url}
        """By node."""
        self._lives: dict[str, int] = {}
        self._disks: dict[str, Disk] = {}
        """By node: the disk that it had when it was last looked at."""
        self._counted: dict[str, int] = {}
        """By node: losses that this life of it has counted."""

    def look(self, step: Step) -> None:
        """Judge what a step forgot."""
        machine = step.machine
        hints = self._hints[machine.url]
        if step.node is not None and self._lives.get(machine.url) != machine.life:
            self._lives[machine.url] = machine.life
            self._counted[machine.url] = 0
            hints = self._hints[machine.url] = self._kept(step, hints)
        counted = self._newly_counted(step)
        if step.forgotten or step.hinted:
            names = [*step.forgotten, *(name for name, _ in step.hinted)]
            self._judge(step, [hints.pop(name) for name in names if name in hints], counted)
        for name, given in step.hinted:
            hints[name] = given, Place(self._machines.by_url[given.url], given.row)

    def _kept(self, step: Step, before: _Hints) -> _Hints:
        """The hints that a new life of a node finds on its disk."""
        disk, url = step.machine.disk, step.machine.url
        if self._disks.setdefault(url, disk) is disk:
            return {name: hint for name, hint in before.items() if _stored(disk, name) is not None}
        self._disks[url] = disk
        kept: _Hints = {}
        fresh = [name for name, _ in step.hinted]
        for name in disk.hint_names():
            blob = _stored(disk, name)
            if blob is not None and name not in fresh:
                given = self._machines.hinted(name, blob)
                kept[name] = given, Place(self._machines.by_url[given.url], given.row)
        return kept

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


def _stored(disk: Disk, name: bytes) -> bytes | None:
    """What is stored of a hint; None if it is not there, or cannot be read."""
    try:
        found = next(disk.held_hints(name, name + b"\0"), None)
    except Corrupt:
        return None
    return None if found is None else found[1]
