# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left is the newest of what was written (I1, I3, I14; P1).

Per key the replicas must settle on the acknowledged write with the highest stamp, or on a write
with a higher stamp whose outcome the client does not know; on nothing else. If more copies were
lost than can be repaired, writes may be lost too, but what is left is still something that was
written. And where no replica forgot anything, nothing that was ever read is higher than what is
left: repair only raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Acknowledged writes that are lost, and records that should not have won."""
    by_key = history.by_key()
    for key in evidence.settled:
        operations = by_key.get(key, [])
        writes = [op for op in operations if op.is_write]
        record = evidence.merged(key)
        if evidence.in_budget:
            yield from _lost(key, writes, record)
        if key not in evidence.forgot_ms:
            yield from _lowered(key, operations, record)
        if record is not None:
            yield from _third(key, writes, record)


def _lost(key: bytes, writes: list[ClientOperation], record: Record | None) -> Iterator[Violation]:
    left = ABSENT if record is None else record.version
    acked = [op for op in writes if op.wrote is not None]
    newest = max(acked, key=attrgetter("version"), default=None)
    if newest is not None and newest.version > left:
        yield Violation("I1", key, f"{newest} is lost: {record} is left")


def _lowered(
    key: bytes, operations: list[ClientOperation], record: Record | None
) -> Iterator[Violation]:
    left = ABSENT if record is None else record.version
    for op in operations:
        if any(each.version > left for each in op.told):
            yield Violation("I14", key, f"{op} read more than is left: {record}")


def _third(key: bytes, writes: list[ClientOperation], record: Record) -> Iterator[Violation]:
    """A record is left that is neither an acknowledged write nor one of unknown outcome."""
    # What lost too many copies may be left with the first stamp of a write that has two.
    if not any(op.may_have_written(record) for op in writes):
        yield Violation("I3", key, f"{record} is left, which no write explains")
