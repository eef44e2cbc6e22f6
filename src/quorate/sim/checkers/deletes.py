# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11, P5): after an acknowledged delete, no write that was over before it
is seen again, by a quorum read or in what is left.

Deletes and puts of a majority only: fewer acks promise no order between two writes.
"""

from __future__ import annotations

from quorate.core.events import GetResult, PutResult
from quorate.core.quorum import majority
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Kind, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Values that came back."""
    found: list[Violation] = []
    for key, operations in history.by_key().items():
        acked = [op for op in operations if _is_by_majority(op, evidence)]
        deletes = [op for op in acked if op.kind is Kind.DELETE]
        puts = {op.value: op for op in acked if op.kind is Kind.PUT}
        if deletes and puts:
            found += _read_again(deletes, puts, operations, evidence)
            found += _left(key, deletes, puts, evidence)
    return found


def _is_by_majority(op: Operation, evidence: Evidence) -> bool:
    return isinstance(op.result, PutResult) and evidence.w_of(op) >= majority(evidence.n)


def _read_again(
    deletes: list[Operation],
    puts: dict[bytes | None, Operation],
    operations: list[Operation],
    evidence: Evidence,
) -> list[Violation]:
    found = []
    forgot_ms = evidence.forgot_ms.get(deletes[0].key, float("inf"))
    for read in operations:
        if not isinstance(read.result, GetResult) or _done_ms(read) > forgot_ms:
            continue
        put = puts.get(read.read)
        delete = _after(put, deletes, read.asked_ms)
        if delete is not None and evidence.r_of(read) + evidence.w_of(delete) > evidence.n:
            found.append(Violation("I11", read.key, f"{read} reads what {delete} deleted"))
    return found


def _left(
    key: bytes,
    deletes: list[Operation],
    puts: dict[bytes | None, Operation],
    evidence: Evidence,
) -> list[Violation]:
    record = evidence.merged(key)
    if record is None or not evidence.in_budget:
        return []
    delete = _after(puts.get(record.value), deletes, float("inf"))
    return [] if delete is None else [Violation("I11", key, f"{record} is left after {delete}")]


def _after(put: Operation | None, deletes: list[Operation], before_ms: float) -> Operation | None:
    """A delete that began when `put` was over and was itself over by a time."""
    if put is None:
        return None
    for delete in deletes:
        if delete.asked_ms > _done_ms(put) and _done_ms(delete) < before_ms:
            return delete
    return None


def _done_ms(op: Operation) -> float:
    assert op.done_ms is not None, f"not answered: {op}"
    return op.done_ms
