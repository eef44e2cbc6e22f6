# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11, P5): after an acknowledged delete, no write that was over before it
is seen again, by a quorum read or in what is left.

Deletes and puts of a majority only: fewer acks promise no order between two writes. A value that a
derived write carried on is over when that write is.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Values that came back."""
    found: list[Violation] = []
    for key, operations in history.by_key().items():
        writes = [op for op in operations if op.is_write]
        deletes = [op for op in writes if op.value is None and _is_by_majority(op, evidence)]
        if deletes:
            by_value: dict[bytes | None, list[Operation]] = {}
            for op in writes:
                by_value.setdefault(op.value, []).append(op)
            facts = _Facts(by_value, deletes, evidence)
            found += _read_again(facts, operations)
            found += _left(facts, key)
    return found


def _is_by_majority(op: Operation, evidence: Evidence) -> bool:
    return isinstance(op.result, PutResult) and evidence.is_promised(op)


class _Facts(NamedTuple):
    """The writes of a key."""

    writes: dict[bytes | None, list[Operation]]
    """By what they wrote."""
    deletes: list[Operation]
    evidence: Evidence

    def deleted(self, record: Record | None, before_ms: float) -> Operation | None:
        """A delete that began when every write that may have made a record was over, and was itself
        over by a time."""
        if record is None or record.value is None:
            return None
        same = self.writes.get(record.value, [])
        writers = [op for op in same if op.may_have_written(record)]
        if not writers or not all(_is_by_majority(op, self.evidence) for op in writers):
            return None
        over_ms = max(map(_done_ms, writers))
        for delete in self.deletes:
            if delete.asked_ms > over_ms and _done_ms(delete) < before_ms:
                return delete
        return None


def _read_again(facts: _Facts, operations: list[Operation]) -> list[Violation]:
    found = []
    evidence = facts.evidence
    forgot_ms = evidence.forgot_ms.get(operations[0].key, float("inf"))
    for read in operations:
        if not isinstance(read.result, GetResult) or _done_ms(read) > forgot_ms:
            continue
        if evidence.met_loss(read):
            continue
        delete = facts.deleted(read.result.record, read.asked_ms)
        if delete is not None and evidence.r_of(read) + evidence.w_of(delete) > evidence.n:
            found.append(Violation("I11", read.key, f"{read} reads what {delete} deleted"))
    return found


def _left(facts: _Facts, key: bytes) -> list[Violation]:
    if not facts.evidence.in_budget:
        return []
    record = facts.evidence.merged(key)
    delete = facts.deleted(record, float("inf"))
    return [] if delete is None else [Violation("I11", key, f"{record} is left after {delete}")]


def _done_ms(op: Operation) -> float:
    assert op.done_ms is not None, f"not answered: {op}"
    return op.done_ms
