# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11, P5): once a delete is acknowledged, no write that was over before the
delete began is seen again, by a read or in what is left.

Judged are deletes and puts that a majority acknowledged, and reads whose R meets the delete's W:
fewer acks promise no order between two writes. A value is over when all are that have a token in
it, or may have given it another expiry. What an update built on is a read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Values that came back."""
    for key, operations in history.by_key().items():
        deletes = [
            op
            for op in operations
            if _is_by_majority(op, evidence) and op.wrote is not None and op.wrote.value is None
        ]
        if deletes:
            facts = _Facts(history, deletes, evidence)
            yield from _read_again(facts, operations)
            yield from _left(facts, key)


def _is_by_majority(op: ClientOperation, evidence: Evidence) -> bool:
    return isinstance(op.result, PutResult | UpdateResult) and evidence.is_promised(op)


class _Facts(NamedTuple):
    """What was written, and which deletes of a key were acknowledged."""

    history: History
    deletes: list[ClientOperation]
    evidence: Evidence

    def deleted(self, record: Record | None, before_ms: float) -> ClientOperation | None:
        """A delete that should hide a record: it began after every write that may have made the
        record was over, and was over itself by `before_ms`."""
        if record is None or record.value is None:
            return None
        writers = self.history.writers(self.deletes[0].key, record)
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
        result = read.result
        if not isinstance(result, GetResult | UpdateResult) or read.over_ms > forgot_ms:
            continue
        if evidence.met_loss(read):
            continue
        found = result.record if isinstance(result, GetResult) else result.before
        delete = facts.deleted(found, read.asked_ms)
        if delete is not None and evidence.do_overlap(read, delete):
            yield Violation("I11", read.key, f"{read} reads what {delete} deleted")


def _left(facts: _Facts, key: bytes) -> Iterator[Violation]:
    record = facts.evidence.merged(key) if facts.evidence.in_budget else None
    delete = facts.deleted(record, float("inf"))
    if delete is not None:
        yield Violation("I11", key, f"{record} is left after {delete}")
