# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11, P5): once a delete is acknowledged, no write that was over before the
delete began is seen again, by a read or in what is left.

Judged are deletes and puts that a majority acknowledged, and reads whose R meets the delete's W:
fewer acks promise no order between two writes. If a derived write carries a value on (`EXPIRE`),
the value counts as written until that write is over too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Values that came back."""
    by_value = history.by_value()
    for key, operations in history.by_key().items():
        deletes = [
            op
            for op in operations
            if op.is_write and op.value is None and _is_by_majority(op, evidence)
        ]
        if deletes:
            facts = _Facts(by_value, deletes, evidence)
            yield from _read_again(facts, operations)
            yield from _left(facts, key)


def _is_by_majority(op: ClientOperation, evidence: Evidence) -> bool:
    return isinstance(op.result, PutResult) and evidence.is_promised(op)


class _Facts(NamedTuple):
    """What was written, and which deletes of a key were acknowledged."""

    writes: dict[bytes, list[ClientOperation]]
    """Of all keys, by what they wrote."""
    deletes: list[ClientOperation]
    evidence: Evidence

    def deleted(self, record: Record | None, before_ms: float) -> ClientOperation | None:
        """A delete that should hide a record: it began after every write that may have made the
        record was over, and was over itself by `before_ms`."""
        if record is None or record.value is None:
            return None
        same = self.writes.get(record.value, [])
        writers = [op for op in same if op.may_have_written(record)]
        if not writers or not all(_is_by_majority(op, self.evidence) for op in writers):
            return None
        over_ms = max(op.over_ms for op in writers)
        for delete in self.deletes:
            if delete.asked_ms > over_ms and delete.over_ms < before_ms:
                return delete
        return None


def _read_again(facts: _Facts, operations: list[ClientOperation]) -> Iterator[Violation]:
    evidence = facts.evidence
    forgot_ms = evidence.forgot_ms.get(operations[0].key, float("inf"))
    for read in operations:
        if not isinstance(read.result, GetResult) or read.over_ms > forgot_ms:
            continue
        if evidence.met_loss(read):
            continue
        delete = facts.deleted(read.result.record, read.asked_ms)
        if delete is not None and evidence.r_of(read) + evidence.w_of(delete) > evidence.n:
            yield Violation("I11", read.key, f"{read} reads what {delete} deleted")


def _left(facts: _Facts, key: bytes) -> Iterator[Violation]:
    record = facts.evidence.merged(key) if facts.evidence.in_budget else None
    delete = facts.deleted(record, float("inf"))
    if delete is not None:
        yield Violation("I11", key, f"{record} is left after {delete}")
