# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer is honest about what happened (P3).

A read counts R answers, "not found" above all; a write W acks of at most N replicas; a write that
failed says whether it may survive; whoever lives answers. What NOT_APPLIED promises is judged in
`refusals`, and acks against what is on the disks in `durability`.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Violation
from quorate.sim.layouts import Holders


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
    layouts = evidence.rows_of(op)
    n, needed = max(map(_count, layouts)), _needed(op, evidence, layouts)
    if isinstance(result, GetResult):
        if not needed <= result.answers <= n:
            return f"{result.answers} answers where {needed} to {n} belong"
        if not 0 <= result.repaired <= n:
            return f"{result.repaired} of {n} replicas repaired"
    if isinstance(result, PutResult):
        if not result.version:
            return "no version"
        return _fault_of_acks(result, op, evidence)
    if isinstance(result, UpdateResult):
        for name, asked in (("W", evidence.set_w), ("R", evidence.set_r)):
            if 0 < asked < needed:
                return f"a read-modify-write where {name} is {asked}, and {needed} are a majority"
        return "" if op.wrote is None else _fault_of_acks(result, op, evidence)
    if isinstance(result, QuorateError) and op.is_write and result.outcome is None:
        return "does not say whether the write may survive"
    return ""


def _fault_of_acks(
    result: PutResult | UpdateResult, op: ClientOperation, evidence: Evidence
) -> str:
    """As many as belong to a layout with so many replicas, and not to any other."""
    layouts = evidence.rows_of(op)
    told = [rows for rows in layouts if _count(rows) == result.replicas]
    if not told:
        return f"{result.replicas} replicas where {max(map(_count, layouts))} belong"
    needed = _needed(op, evidence, told)
    if not needed <= result.acks <= result.replicas:
        return f"{result.acks} acks where {needed} to {result.replicas} belong"
    return ""


def _count(rows: list[Holders]) -> int:
    """Of a partition that moves the replicas are those that hold it, and those that shall."""
    return len({id for row in rows for id in row.ids})


def _needed(op: ClientOperation, evidence: Evidence, layouts: list[list[Holders]]) -> int:
    return min(max(evidence.needed(op, row) for row in rows) for rows in layouts)
