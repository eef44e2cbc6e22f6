# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer is honest about what happened (P3).

A read counts R answers, "not found" above all; a write W acks of at most N replicas; a write that
failed says whether it may survive; whoever lives answers. What NOT_APPLIED promises is judged in
`refusals`, and acks against what is on the disks in `durability`.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.topology.topology import majority
from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Answers that claim too much, or too little."""
    for op in history.operations:
        fault = _fault(op, evidence)
        if fault:
            yield Violation("P3", op.key, f"{op}: {fault}")
    for asked in evidence.forgotten:
        yield Violation("P3", asked.key, f"{asked}: its coordinator lives and never answered")


def _fault(op: ClientOperation, evidence: Evidence) -> str:
    result = op.result
    # Of a partition that moves the replicas are those that hold it, and those that shall.
    layouts = evidence.rows_of(op)
    counts = [len({id for row in rows for id in row.ids}) for rows in layouts]
    needed = min(max(evidence.needed(op, row) for row in rows) for rows in layouts)
    n = max(counts)
    if isinstance(result, GetResult):
        if not needed <= result.answers <= n:
            return f"{result.answers} answers where {needed} to {n} belong"
        if not 0 <= result.repaired <= n:
            return f"{result.repaired} of {n} replicas repaired"
    if isinstance(result, PutResult):
        if not needed <= result.acks <= n:
            return f"{result.acks} acks where {needed} to {n} belong"
        if result.replicas not in counts:
            return f"{result.replicas} replicas where {n} belong"
        if not result.version:
            return "no version"
    if isinstance(result, UpdateResult):
        return _fault_of_update(result, op, evidence, needed, counts)
    if isinstance(result, QuorateError) and op.is_write and result.outcome is None:
        return "does not say whether the write may survive"
    return ""


def _fault_of_update(
    result: UpdateResult, op: ClientOperation, evidence: Evidence, needed: int, counts: list[int]
) -> str:
    for name, asked in (("W", evidence.set_w), ("R", evidence.set_r)):
        if 0 < asked < min(majority(n) for n, _, _ in evidence.defaults()):
            return f"a read-modify-write where {name} is {asked}"
    if op.wrote is not None and not needed <= result.acks <= max(counts):
        return f"{result.acks} acks where {needed} to {max(counts)} belong"
    if op.wrote is not None and result.replicas not in counts:
        return f"{result.replicas} replicas where {max(counts)} belong"
    return ""
