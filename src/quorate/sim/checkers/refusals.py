# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused means not applied (I5, P3): it was given to no replica, is never read, never left.

A write is known by its value and expiry. So a refused delete cannot be judged, nor a refused write
that another write equals, as when two clients take away the expiry of one value.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.sim.checkers.watch import Judge, Step
from quorate.sim.history import ClientOperation, Content, Evidence, History, Violation


class Handed(Judge):
    """What was ever given to a replica: collected step by step, and judged when all is told."""

    def __init__(self) -> None:
        super().__init__()
        self._contents: dict[Content, None] = {}

    def look(self, step: Step) -> None:
        """Note what was stored, sent, or kept to be sent."""
        for given in step.given:
            if given.record.value is not None:
                self._contents[given.record.value, given.record.expires_ms] = None

    def contents(self) -> frozenset[Content]:
        """All of it."""
        return frozenset(self._contents)


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Refused values that turned up."""
    refused = _refused(history)
    for content, op in refused.items():
        if content in evidence.handed:
            yield _violation(op, "was given to a replica")
    for op in history.operations:
        if isinstance(op.result, GetResult) and op.result.record is not None:
            writer = refused.get(_content(op.result.record))
            if writer is not None:
                yield _violation(writer, f"was read by {op}")
    for copies in evidence.settled.values():
        for node, record in copies.items():
            writer = None if record is None else refused.get(_content(record))
            if writer is not None:
                yield _violation(writer, f"is left on n{node}")


def _refused(history: History) -> dict[Content, ClientOperation]:
    """The refused writes that nobody else's write equals, by content."""
    refused: dict[Content, ClientOperation] = {}
    others: set[Content] = set()
    for op in history.operations:
        if op.is_write and op.value is not None:
            if op.is_refused:
                refused[op.value, op.expires_ms] = op
            else:
                others.add((op.value, op.expires_ms))
    return {content: op for content, op in refused.items() if content not in others}


def _content(record: Record) -> Content:
    """What a record is known by; for a tombstone something that no write has."""
    return record.value or b"", record.expires_ms


def _violation(refused: ClientOperation, what: str) -> Violation:
    return Violation("I5", refused.key, f"{refused} {what}")
