# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left is the newest of what was written (I1, I3, I14; P1).

Per key the replicas must settle on the highest-stamped write that was acknowledged, or on one with
a higher stamp whose outcome the client does not know; on nothing else. A world that lost more
copies than can be repaired may have lost writes, but still holds nothing third. And nothing that
was ever read is left lowered, on a key whose replicas forgot nothing: repair only raises.
"""

from __future__ import annotations

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Acknowledged writes that are lost, and records that should not have won."""
    found: list[Violation] = []
    by_key = history.by_key()
    for key in evidence.settled:
        operations = by_key.get(key, [])
        writes = [op for op in operations if op.is_write]
        record = evidence.merged(key)
        if evidence.in_budget:
            found += _lost(key, writes, record)
        if key not in evidence.forgot_ms:
            found += _lowered(key, operations, record)
        if record is not None:
            found += _third(key, writes, record)
    return found


def _lost(key: bytes, writes: list[Operation], record: Record | None) -> list[Violation]:
    left = ABSENT if record is None else record.version
    acked = [op for op in writes if isinstance(op.result, PutResult)]
    newest = max(acked, key=_version, default=None)
    if newest is None or _version(newest) <= left:
        return []
    return [Violation("I1", key, f"{newest} is lost: {record} is left")]


def _lowered(key: bytes, operations: list[Operation], record: Record | None) -> list[Violation]:
    left = ABSENT if record is None else record.version
    return [
        Violation("I14", key, f"{op} read more than is left: {record}")
        for op in operations
        if isinstance(op.result, GetResult)
        and op.result.record is not None
        and op.result.record.version > left
    ]


def _third(key: bytes, writes: list[Operation], record: Record) -> list[Violation]:
    """Whether the record is neither an acknowledged write nor an unknown one."""
    # What lost too many copies may be left with the first stamp of a write that has two.
    if any(op.may_have_written(record) for op in writes):
        return []
    return [Violation("I3", key, f"{record} is left, which no write explains")]


def _version(op: Operation) -> bytes:
    assert isinstance(op.result, PutResult)
    return op.result.version
