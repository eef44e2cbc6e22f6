# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused means not applied (I5): such a value was given to no replica, is never read, never left.

Only puts are judged: a delete that was refused leaves nothing to know it by.
"""

from __future__ import annotations

from quorate.core.events import GetResult
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Refused values that turned up."""
    refused = {op.value: op for op in history.operations if op.is_refused and op.value is not None}
    found = [
        _violation(op, "was given to a replica")
        for value, op in refused.items()
        if value in evidence.handed
    ]
    found += [
        _violation(refused[op.read], f"was read by {op}")
        for op in history.operations
        if isinstance(op.result, GetResult) and op.read in refused
    ]
    for copies in evidence.settled.values():
        for node, record in copies.items():
            if record is not None and record.value in refused:
                found.append(_violation(refused[record.value], f"is left on n{node}"))
    return found


def _violation(refused: Operation, what: str) -> Violation:
    return Violation("I5", refused.key, f"{refused} {what}")
