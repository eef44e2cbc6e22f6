# SPDX-License-Identifier: GPL-3.0-or-later
"""What was ever given to a replica: `refusals` holds NOT_APPLIED against it (I5, P3)."""

from __future__ import annotations

from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Step
from quorate.sim.history import Content


class Handed:
    """Collects; the history says what is wrong about it."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._contents: dict[Content, None] = {}

    def look(self, step: Step) -> None:
        """Note what was stored, sent, or kept to be sent."""
        for given in step.given:
            if given.record.value is not None:
                self._contents[given.record.value, given.record.expires_ms] = None

    def contents(self) -> frozenset[Content]:
        """All of it."""
        return frozenset(self._contents)
