# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused means not applied (I5): it was given to no replica, is never read, never left.

Only what leaves a value is judged: a delete that was refused leaves nothing to know it by. Nor does
a derived write that says the same as another write: two clients may take away one expiry.
"""

from __future__ import annotations

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Content, Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Refused values that turned up."""
    refused = _refused(history)
    found = [
        _violation(op, "was given to a replica")
        for content, op in refused.items()
        if content in evidence.handed
    ]
    for op in history.operations:
        if isinstance(op.result, GetResult) and op.result.record is not None:
            writer = refused.get(_content(op.result.record))
            if writer is not None:
                found.append(_violation(writer, f"was read by {op}"))
    for copies in evidence.settled.values():
        for node, record in copies.items():
            writer = None if record is None else refused.get(_content(record))
            if writer is not None:
                found.append(_violation(writer, f"is left on n{node}"))
    return found


def _refused(history: History) -> dict[Content, Operation]:
    """By content, what was refused and written by nobody else."""
    refused: dict[Content, Operation] = {}
    others: set[Content] = set()
    for op in history.operations:
        if op.is_write and op.value is not None:
            if op.is_refused:
                refused[op.value, op.expires_ms] = op
            else:
                others.add((op.value, op.expires_ms))
    return {content: op for content, op in refused.items() if content not in others}


def _content(record: Record) -> Content:
    """Of a tombstone: what no write has."""
    return record.value or b"", record.expires_ms


def _violation(refused: Operation, what: str) -> Violation:
    return Violation("I5", refused.key, f"{refused} {what}")
