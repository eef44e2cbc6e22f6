# SPDX-License-Identifier: GPL-3.0-or-later
"""Once faults are over, requests succeed in time (I24, I25).

From `healthy_from_ms` on there are no faults but nodes that stay unreachable. Every request to a
node that lives is answered; it succeeds, within the stated time, if as many replicas of its key
live as it needs.

Between faults nothing fails either, but by its own deadline, which may be too short for the slowest
disks and links.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import QuorateError
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation

CLOCK_MS: Final = 1.0
"""Of a node, which counts whole ones."""


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Requests that failed, or came late, though nothing stood in their way."""
    found = [
        Violation("I25", op.key, f"{op}: failed between faults: {op.result}")
        for op in history.operations
        if isinstance(op.result, QuorateError)
        and op.took_ms < op.timeout_ms - CLOCK_MS
        and _was_calm(op, evidence)
    ]
    for op in history.operations:
        if op.asked_ms < evidence.healthy_from_ms or op.node in evidence.dead:
            continue
        if op.done_ms is None:
            found.append(Violation("I24", op.key, f"{op}: never answered"))
            continue
        if not _has_quorum(op, evidence):
            continue
        if isinstance(op.result, QuorateError):
            told = f"{op}: failed with a live quorum: {op.result}"
            found.append(Violation("I25", op.key, told))
        elif op.took_ms > evidence.answer_within_ms:
            found.append(Violation("I24", op.key, f"{op}: took {op.took_ms:.0f} ms"))
    return found


def _was_calm(op: Operation, evidence: Evidence) -> bool:
    return op.done_ms is not None and any(
        begin_ms <= op.asked_ms and op.done_ms < end_ms for begin_ms, end_ms in evidence.calm_ms
    )


def _has_quorum(op: Operation, evidence: Evidence) -> bool:
    live = [node for node in evidence.replicas.get(op.key, []) if node not in evidence.dead]
    return len(live) >= (evidence.w_of(op) if op.is_write else evidence.r_of(op))
