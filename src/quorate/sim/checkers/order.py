# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica's record of a key never goes to a lower version (I10, I14).

Judged on what a node has stored, batch after batch; after a restart, on what the disk kept. A disk
that was lost, and damaged bytes, are no record: whatever comes is higher.
"""

from __future__ import annotations

from quorate.core.record import Record, wins
from quorate.core.slots import key_of
from quorate.errors import Corrupt
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Step
from quorate.sim.machine import Machine


class Order:
    """Remembers the latest record of each row in each life of each node."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._latest: dict[tuple[str, int], dict[bytes, Record]] = {}

    def look(self, step: Step) -> None:
        """Judge what a step stored."""
        if not step.stored or step.node is None:
            return
        machine = step.machine
        latest = self._latest.get((machine.url, machine.life))
        if latest is None:
            latest = self._latest[machine.url, machine.life] = {}
        for given in step.stored:
            before = latest.get(given.row)
            if before is None:
                before = _kept(machine, given)
            if before is not None and not wins(given.record, before) and _is_sound(machine, given):
                told = f"{machine.url} replaced {before} with {given.record}"
                self.found.append(Violation("I10", key_of(given.row), told))
            latest[given.row] = given.record


def _kept(machine: Machine, given: Given) -> Record | None:
    """What the disk had of a row before this life first wrote it."""
    if not machine.disk.needs_sync:
        # What was just written is durable already: nothing tells what was there.
        return None
    try:
        return machine.disk.durable(given.row)
    except Corrupt:
        return None


def _is_sound(machine: Machine, given: Given) -> bool:
    """Whether the bytes that were replaced were not damaged: until the new ones are durable, a
    power cut would leave the old ones. Without syncs nobody can tell."""
    if not machine.disk.needs_sync:
        return False
    try:
        machine.disk.durable(given.row)
    except Corrupt:
        return False
    return True
