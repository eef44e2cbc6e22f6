# SPDX-License-Identifier: GPL-3.0-or-later
"""No value is served later than it expires, but for what the machines' clocks are wrong by (I16).

When a value expires is what its writer said, not what the record says that was read: so an expiry
that got lost shows, and an expired value that comes back does too.
"""

from __future__ import annotations

from quorate.core.events import GetResult
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation

ROUNDING_MS = 1
"""Clocks are read in whole milliseconds."""


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Reads of what had expired."""
    expires_ms = {
        (op.key, op.value): op.expires_ms
        for op in history.operations
        if op.value is not None and op.expires_ms
    }
    found = []
    for op in history.operations:
        if not expires_ms or not isinstance(op.result, GetResult) or op.served is None:
            continue
        late_ms = _wall_ms(op, evidence) - expires_ms.get((op.key, op.served), float("inf"))
        if late_ms > evidence.wall_skew_ms + ROUNDING_MS:
            found.append(Violation("I16", op.key, f"{op}: expired {late_ms:.0f} ms before"))
    return found


def _wall_ms(op: Operation, evidence: Evidence) -> float:
    assert op.done_ms is not None
    return evidence.epoch_ms + op.done_ms
