# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused means not applied (I5, P3): it was given to no replica, is never read, never left.

A write is known by the token that it leaves in values; one that leaves none, as a delete, cannot be
judged. What a read-modify-write proposed, and another won over, was given to nobody as a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quorate.sim.checkers.watch import Judge, Step
from quorate.sim.history import WRITES_TOKEN, ClientOperation, Evidence, History, Violation
from quorate.sim.tokens import Name, tokens_of


class Handed(Judge):
    """Whose writes were ever given to a replica: collected step by step, and judged when all is
    told."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[bytes, None] = {}

    def look(self, step: Step) -> None:
        """Note what was stored, sent, or kept to be sent."""
        for given in step.given:
            if given.record.value is not None:
                self.values[given.record.value] = None

    def names(self) -> frozenset[Name]:
        """All of them."""
        return frozenset(_names(self.values))


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Refused values that turned up."""
    refused = {
        op.name: op for op in history.operations if op.is_refused and op.kind in WRITES_TOKEN
    }
    for name, op in refused.items():
        if name in evidence.handed:
            yield _violation(op, "was given to a replica")
    if not refused:
        return
    for op in history.operations:
        for name in _names(each.value for each in op.told):
            if name in refused:
                yield _violation(refused[name], f"was read by {op}")
    for copies in evidence.settled.values():
        for name in _names(record.value for record in copies.values() if record is not None):
            if name in refused:
                yield _violation(refused[name], f"is left: {copies}")


def _names(values: Iterable[bytes | None]) -> Iterator[Name]:
    """Who wrote something of these values."""
    for value in values:
        for token in (tokens_of(value) if value is not None else None) or ():
            yield token.name


def _violation(refused: ClientOperation, what: str) -> Violation:
    return Violation("I5", refused.key, f"{refused} {what}")
