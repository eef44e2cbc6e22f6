# SPDX-License-Identifier: GPL-3.0-or-later
"""A read that starts after an ack returns that write or a later one (I6), by the order of versions.

This is the cheap half of what reads promise, and all that there is to *regular* ones: where a
read's R and a write's W overlap, R + W > N, the read never returns a version below the write's. A
*linearizable* read is also never below what an earlier one returned. `linearizability` judges the
same without trusting versions; *eventual* reads promise nothing here.
"""

from __future__ import annotations

from quorate.core.topology.quorum import Consistency, consistency
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.versions import ABSENT
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Reads that are older than they may be."""
    found: list[Violation] = []
    for key, operations in history.by_key().items():
        forgot_ms = evidence.forgot_ms.get(key, float("inf"))
        answered = sorted(
            (op for op in operations if op.done_ms is not None and op.done_ms <= forgot_ms),
            key=_done_ms,
        )
        found += _stale(answered, evidence)
    return found


def _stale(answered: list[Operation], evidence: Evidence) -> list[Violation]:
    """Of one key's operations in the order in which they were answered."""
    found = []
    newest: dict[tuple[bool, int], Operation] = {}
    """Of what was answered, by whether it wrote and how many replicas it asked."""
    place = 0
    reads = [
        op for op in answered if isinstance(op.result, GetResult) and not evidence.met_loss(op)
    ]
    for read in sorted(reads, key=lambda op: op.asked_ms):
        while _done_ms(answered[place]) < read.asked_ms:
            op = answered[place]
            kind = op.is_write, evidence.w_of(op) if op.is_write else evidence.r_of(op)
            if kind not in newest or _version(newest[kind]) < _version(op):
                newest[kind] = op
            place += 1
        found += [
            Violation("I6", read.key, f"{read} is older than {earlier}")
            for earlier in newest.values()
            if _version(earlier) > _version(read) and _is_promised(read, earlier, evidence)
        ]
    return found


def _is_promised(read: Operation, earlier: Operation, evidence: Evidence) -> bool:
    """Whether the read must not be older than an operation that was over before it began."""
    r = evidence.r_of(read)
    if earlier.is_write:
        return r + evidence.w_of(earlier) > evidence.n
    return all(
        consistency(n=evidence.n, r=each, w=evidence.w) is Consistency.LINEARIZABLE
        for each in (r, evidence.r_of(earlier))
    )


def _version(op: Operation) -> bytes:
    """What it read or wrote; ABSENT if it did neither."""
    result = op.result
    if isinstance(result, PutResult):
        return result.version
    if isinstance(result, GetResult) and result.record is not None:
        return result.record.version
    return ABSENT


def _done_ms(op: Operation) -> float:
    assert op.done_ms is not None, f"not answered: {op}"
    return op.done_ms
