# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps of a process strictly increase, above the ceiling that it found when it started, and stay
within the guard; what it stores with them is stored with, or behind, a ceiling at or above them,
and ceilings never fall, so no later process of its disk stamps below what it did durably (I8).

A node gives a stamp out when it first stores, sends or hints a record whose version ends in the
number of its process. No two records ever have the same version.

Read-modify-writes are not stamped: their versions are their bases' with a link. Of them it is only
asked that in its row each is unique. A write that is moved gives its second stamp out when it is
proposed. It draws it when nobody may be reachable, and may propose it after later ones were given
out.
"""

from __future__ import annotations

from quorate.core.values.versions import link_of, ms_of, stamp_of
from quorate.sim.checkers.watch import Gift, Judge, Step


class Stamps(Judge):
    """Looks at every version when it is first seen."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[bytes, Gift] = {}
        """By version, and of links by row too: who was first given it, with which row and record.
        """
        self._highest: dict[int, int] = {}
        """By process: the highest stamp that it gave out."""
        self._ceilings: dict[int, int] = {}
        """By process: the ceiling that it stored last."""

    def look(self, step: Step) -> None:
        """Judge what a step stored and said."""
        if step.ceiling:
            # Also without a record: of a step that was refused a stamp, say.
            self._raise(step)
        if not step.given and not step.proposed:
            return
        tie = step.machine.process.to_bytes(6, "big")
        fresh: dict[bytes, Gift] = {}
        moved = {given.record.version for given in step.proposed}
        for given in (*step.given, *step.proposed):
            version = given.record.version
            place = given.row + version if link_of(version) else version
            seen = self._seen.get(place)
            if seen is None:
                self._seen[place] = given
                if version.endswith(tie):
                    fresh[version] = given
            elif seen.row != given.row or seen.record != given.record:
                told = f"version {version.hex()} is {seen}, and at {step.machine.url} {given}"
                self.blame("I8", told, given.row)
        if fresh:
            self._judge(step, fresh, moved)

    def _raise(self, step: Step) -> None:
        machine = step.machine
        before = self._ceilings.get(machine.process, machine.ceiling)
        if step.ceiling < before:
            told = f"{machine.url} stored ceiling {step.ceiling:016x} after {before:016x}"
            self.blame("I8", told)
        self._ceilings[machine.process] = step.ceiling

    def _judge(self, step: Step, fresh: dict[bytes, Gift], moved: set[bytes]) -> None:
        """Versions that this node has just made, those of writes that are moved among them."""
        machine, process = step.machine, step.machine.process
        highest = self._highest.get(process, machine.ceiling)
        ceiling = self._ceilings.get(process, machine.ceiling)
        limit_ms = machine.now().wall_ms + machine.settings.max_clock_skew_ms
        for version, given in fresh.items():
            stamp = stamp_of(version)
            if stamp <= (machine.ceiling if version in moved else highest):
                told = f"{machine.url} gave out {version.hex()} after stamp {highest:016x}"
                self.blame("I8", told, given.row)
            if stamp > ceiling:
                told = f"{machine.url} gave out {version.hex()} with ceiling {ceiling:016x}"
                self.blame("I8", told, given.row)
            if ms_of(stamp) > limit_ms:
                told = f"{machine.url} stamped {ms_of(stamp) - limit_ms} ms past its guard"
                self.blame("I8", told, given.row)
        self._highest[process] = max(highest, *map(stamp_of, fresh))
