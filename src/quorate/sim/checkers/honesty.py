# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer is honest about what happened (P3).

A read counts R answers, "not found" above all; a write W acks of at most N replicas; a write that
failed says whether it may survive; whoever lives answers. What NOT_APPLIED promises is judged in
`refusals`, and acks against what is on the disks in `durability`.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult, PutResult
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Answers that claim too much, or too little."""
    for op in history.operations:
        fault = _fault(op, evidence)
        if fault:
            yield Violation("P3", op.key, f"{op}: {fault}")
    for op in evidence.forgotten:
        yield Violation("P3", op.key, f"{op}: its coordinator lives and never answered")


def _fault(op: ClientOperation, evidence: Evidence) -> str:
    result, n = op.result, evidence.n
    if isinstance(result, GetResult):
        r = evidence.r_of(op)
        if not r <= result.answers <= n:
            return f"{result.answers} answers where {r} to {n} belong"
        if not 0 <= result.repaired <= n:
            return f"{result.repaired} of {n} replicas repaired"
    if isinstance(result, PutResult):
        w = evidence.w_of(op)
        if not w <= result.acks <= n:
            return f"{result.acks} acks where {w} to {n} belong"
        if result.replicas != n:
            return f"{result.replicas} replicas where {n} belong"
        if not result.version:
            return "no version"
    if isinstance(result, QuorateError) and op.is_write and result.outcome is None:
        return "does not say whether the write may survive"
    return ""
