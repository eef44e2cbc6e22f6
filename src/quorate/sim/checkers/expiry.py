# SPDX-License-Identifier: GPL-3.0-or-later
"""No value is served later than it expires, but for what the machines' clocks are wrong by (I16).

When a value expires is what its writer said, not what the record says that was read: so an expiry
that got lost shows, and an expired value that comes back does too. A value has several writers if
its expiry was changed: of those that may have written the record the last one counts.
"""

from __future__ import annotations

from quorate.core.values.events import GetResult
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation

ROUNDING_MS = 1
"""Clocks are read in whole milliseconds."""


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Reads of what had expired."""
    writers: dict[bytes, list[Operation]] = {}
    for op in history.operations:
        if op.is_write and op.value is not None:
            writers.setdefault(op.value, []).append(op)
    found = []
    for op in history.operations:
        if not isinstance(op.result, GetResult) or op.served is None:
            continue
        late_ms = _wall_ms(op, evidence) - _expires_ms(op, writers.get(op.served, []))
        if late_ms > evidence.wall_skew_ms + ROUNDING_MS:
            found.append(Violation("I16", op.key, f"{op}: expired {late_ms:.0f} ms before"))
    return found


def _expires_ms(read: Operation, writers: list[Operation]) -> float:
    """When at the latest what was read expires, as those said who may have written it."""
    assert isinstance(read.result, GetResult)
    record = read.result.record
    assert record is not None, "nothing is served of nothing"
    said = [op.expires_ms or float("inf") for op in writers if op.may_have_written(record)]
    return max(said, default=float("inf"))


def _wall_ms(op: Operation, evidence: Evidence) -> float:
    assert op.done_ms is not None
    return evidence.epoch_ms + op.done_ms
