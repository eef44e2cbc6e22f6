# SPDX-License-Identifier: GPL-3.0-or-later
"""Once faults are over, requests succeed in time (I24, I25).

From `healthy_from_ms` on there are no faults but nodes that stay unreachable. Every request to a
node that lives is answered; it succeeds, within the stated time, if as many replicas of its key
live as it needs.
"""

from __future__ import annotations

from quorate.errors import QuorateError
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Requests that failed, or came late, though nothing stood in their way."""
    found = []
    for op in history.operations:
        if op.asked_ms < evidence.healthy_from_ms or op.node in evidence.dead:
            continue
        if op.done_ms is None:
            found.append(Violation("I24", op.key, f"{op}: never answered"))
            continue
        took_ms = op.done_ms - op.asked_ms
        if not _has_quorum(op, evidence):
            continue
        if isinstance(op.result, QuorateError):
            told = f"{op}: failed with a live quorum: {op.result}"
            found.append(Violation("I25", op.key, told))
        elif took_ms > evidence.answer_within_ms:
            found.append(Violation("I24", op.key, f"{op}: took {took_ms:.0f} ms"))
    return found


def _has_quorum(op: Operation, evidence: Evidence) -> bool:
    live = [node for node in evidence.replicas.get(op.key, []) if node not in evidence.dead]
    return len(live) >= (evidence.w_of(op) if op.is_write else evidence.r_of(op))
