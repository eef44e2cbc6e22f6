# SPDX-License-Identifier: GPL-3.0-or-later
"""A read that starts after an ack returns that write or a later one (I6), by the order of versions.

This is the cheap half of what reads promise, and all that there is to *regular* ones: where a
read's R and a write's W overlap, R + W > N, the read never returns a version below the write's. A
*linearizable* read is also never below what an earlier one returned. `linearizability` judges the
same without trusting versions; *eventual* reads promise nothing here. A read-modify-write is a read
of what it was built on; and one that wrote nothing is no more than that, as a majority has what it
read, and perhaps no W.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from quorate.core.topology.topology import Consistency, consistency
from quorate.core.values.events import GetResult, UpdateResult
from quorate.sim.history import ClientOperation, Evidence, History, Violation


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Reads that are older than they may be."""
    for key, operations in history.by_key().items():
        forgot_ms = evidence.forgot_ms.get(key, float("inf"))
        answered = sorted(
            (op for op in operations if op.done_ms is not None and op.done_ms <= forgot_ms),
            key=attrgetter("over_ms"),
        )
        yield from _stale(answered, evidence)


def _stale(answered: list[ClientOperation], evidence: Evidence) -> Iterator[Violation]:
    """Of one key's operations in the order in which they were answered."""
    newest: dict[tuple[bool, int], ClientOperation] = {}
    """The operation with the highest version so far, by whether it wrote and how many replicas it
    asked for; 0 for no number."""
    place = 0
    reads = [op for op in answered if _found(op) is not None and not evidence.met_loss(op)]
    for read in sorted(reads, key=lambda op: op.asked_ms):
        while answered[place].over_ms < read.asked_ms:
            op = answered[place]
            has_written = op.wrote is not None
            kind = has_written, op.w if has_written else op.r
            if kind not in newest or newest[kind].version < op.version:
                newest[kind] = op
            place += 1
        for earlier in newest.values():
            found = _found(read)
            is_older = found is not None and earlier.version > found
            if is_older and _is_promised(read, earlier, evidence):
                yield Violation("I6", read.key, f"{read} is older than {earlier}")


def _found(op: ClientOperation) -> bytes | None:
    """The version that an operation read; None if it read none, or does not know."""
    result = op.result
    if isinstance(result, GetResult):
        return op.version
    if isinstance(result, UpdateResult):
        wrote = op.wrote
        if wrote is not None:
            # Nothing has no version that is told; but what was over is not above what it wrote.
            return wrote.version if result.before is None else result.before.version
        return op.version or None
    return None


def _is_promised(read: ClientOperation, earlier: ClientOperation, evidence: Evidence) -> bool:
    """Whether the read must not be older than an operation that was over before it began."""
    if earlier.wrote is not None:
        return evidence.do_overlap(read, earlier)
    return all(
        consistency(n=n, r=each.r or r, w=w) is Consistency.LINEARIZABLE
        for n, w, r in evidence.defaults()
        for each in (read, earlier)
    )
