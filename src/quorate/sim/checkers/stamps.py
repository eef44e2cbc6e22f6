# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps of a node strictly increase, over restarts too, and stay within the guard (I8).

A stamp is taken as given out when a record that bears it is first stored, sent or kept as a hint by
the process whose number it ends in. Two records never bear one version. Derived writes end in a
number drawn for them alone, as two may continue one version, and are stamped by what they continue,
not by a clock: only that they are unique is asked of them.
"""

from __future__ import annotations

from quorate.core.clock import ms_of
from quorate.core.record import stamp_of
from quorate.core.slots import key_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Step


class Stamps:
    """Looks at every version when it is first seen."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._seen: dict[bytes, Given] = {}
        """By version: who was first given it, with which row and record."""
        self._highest: dict[int, int] = {}
        """Stamps by node id: of all processes that ran on a disk."""

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
        settings = step.machine.settings
        highest = self._highest.get(settings.node_id, 0)
        limit_ms = step.machine.instant.wall_ms + settings.max_clock_skew_ms
        for version, given in fresh.items():
            stamp = stamp_of(version)
            if stamp <= highest:
                told = f"{step.machine.url} gave out {version.hex()} after stamp {highest:016x}"
                self.found.append(Violation("I8", key_of(given.row), told))
            ahead_ms = ms_of(stamp) - limit_ms
            if ahead_ms > 0:
                told = f"{step.machine.url} stamped {ahead_ms} ms past its guard"
                self.found.append(Violation("I8", key_of(given.row), told))
        self._highest[settings.node_id] = max(highest, *map(stamp_of, fresh))
