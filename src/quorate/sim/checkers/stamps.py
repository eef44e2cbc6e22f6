# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps of a node strictly increase, over restarts too, and stay within the guard (I8).

A stamp is taken as given out when a record that bears it is first stored, sent or kept as a hint by
the process whose number it ends in. Two records never bear one version. Derived writes end in a
number drawn for them alone, as two may continue one version, and are stamped by what they continue,
not by a clock: only that they are unique is asked of them. A node that comes back with an old disk
knows of no stamp that it gave out since: it may go below those, but no version may come twice.
"""

from __future__ import annotations

from quorate.core.values.clock import ms_of
from quorate.core.values.slots import key_of
from quorate.core.values.versions import stamp_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Step
from quorate.sim.disk import Disk
from quorate.sim.machine import Machine


class Stamps:
    """Looks at every version when it is first seen."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._seen: dict[bytes, Given] = {}
        """By version: who was first given it, with which row and record."""
        self._highest: dict[int, list[tuple[float, int]]] = {}
        """By node id: when processes that ran on a disk gave out a stamp that was the highest, and
        that stamp."""
        self._disks: dict[str, Disk] = {}
        """By machine: the disk that it had when it was last looked at."""

    def look(self, step: Step) -> None:
        """Judge what a step stored and said."""
        if not step.given:
            return
        tie = step.machine.process.to_bytes(6, "big")
        fresh: dict[bytes, Given] = {}
        for given in step.given:
            version = given.record.version
            seen = self._seen.get(version)
            if seen is None:
                self._seen[version] = given
                if version.endswith(tie):
                    fresh[version] = given
            elif seen.row != given.row or seen.record != given.record:
                told = f"version {version.hex()} is {seen}, and at {step.machine.url} {given}"
                self.found.append(Violation("I8", key_of(given.row), told))
        if fresh:
            self._judge(step, fresh)

    def _judge(self, step: Step, fresh: dict[bytes, Given]) -> None:
        """Versions that this node has just made."""
        machine = step.machine
        settings = machine.settings
        rises = self._rises(machine)
        highest = rises[-1][1] if rises else 0
        limit_ms = machine.instant.wall_ms + settings.max_clock_skew_ms
        for version, given in fresh.items():
            stamp = stamp_of(version)
            if stamp <= highest:
                told = f"{machine.url} gave out {version.hex()} after stamp {highest:016x}"
                self.found.append(Violation("I8", key_of(given.row), told))
            ahead_ms = ms_of(stamp) - limit_ms
            if ahead_ms > 0:
                told = f"{machine.url} stamped {ahead_ms} ms past its guard"
                self.found.append(Violation("I8", key_of(given.row), told))
        rises.append((machine.world.now, max(highest, *map(stamp_of, fresh))))

    def _rises(self, machine: Machine) -> list[tuple[float, int]]:
        """What the disk of a machine can know of the stamps that its node gave out."""
        rises = self._highest.setdefault(machine.settings.node_id, [])
        if self._disks.setdefault(machine.url, machine.disk) is not machine.disk:
            self._disks[machine.url] = machine.disk
            while rises and rises[-1][0] > machine.image_ms:
                rises.pop()
        return rises
