# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values were ever given to a replica: what `refusals` holds NOT_APPLIED against (I5, P3)."""

from __future__ import annotations

from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Step


class Handed:
    """Collects; the history says what is wrong about it."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._values: dict[bytes, None] = {}

    def look(self, step: Step) -> None:
        """Note what was stored, sent, or kept to be sent."""
        for given in step.given:
            if given.record.value is not None:
                self._values[given.record.value] = None

    def values(self) -> frozenset[bytes]:
        """All of them."""
        return frozenset(self._values)
