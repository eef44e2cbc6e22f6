# SPDX-License-Identifier: GPL-3.0-or-later
"""A counter counts what was counted (P2): what is read is at least the increments that were over
before the read began, and at most these and those that may have happened by its end.

Judged are keys that nothing else was done to.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult, UpdateResult
from quorate.core.values.record import Record
from quorate.sim.history import ClientOperation, Evidence, History, Kind, Violation
from quorate.sim.tokens import count_of

_JUDGED = frozenset((Kind.GET, Kind.INCREMENT))


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Counters that lost an increment, or have one too many."""
    for key, operations in history.by_key().items():
        if not {op.kind for op in operations} <= _JUDGED:
            continue
        counts = [op for op in operations if op.kind is Kind.INCREMENT]
        forgot_ms = evidence.forgot_ms.get(key, float("inf"))
        for op in operations:
            is_fit = op.over_ms < forgot_ms and evidence.is_promised(op)
            if is_fit and isinstance(op.result, GetResult):
                yield from _judged(op, counts, op.result.record)
            elif is_fit and isinstance(op.result, UpdateResult) and not op.result.is_repeated:
                others = [each for each in counts if each is not op]
                yield from _judged(op, others, op.result.before)
        if key in evidence.settled and evidence.in_budget and key not in evidence.forgot_ms:
            count = _count(evidence.merged(key))
            least = _sure(counts)
            most = sum(_may_be(op) for op in counts)
            if not least <= count <= most:
                yield Violation("P2", key, f"{count} is left of {least} to {most} increments")


def _judged(
    op: ClientOperation, counts: list[ClientOperation], record: Record | None
) -> Iterator[Violation]:
    least = _sure([each for each in counts if each.over_ms < op.asked_ms])
    most = sum(_may_be(each) and each.asked_ms <= op.over_ms for each in counts)
    if not least <= _count(record) <= most:
        yield Violation("P2", op.key, f"{op}: it counts to {_count(record)}, not {least} to {most}")


def _count(record: Record | None) -> int:
    return 0 if record is None or record.value is None else count_of(record.value)


def _sure(counts: list[ClientOperation]) -> int:
    """How many requests surely counted: of the attempts of one, one is enough."""
    done = [op for op in counts if op.wrote is not None or _is_repeated(op)]
    single = sum(not op.request for op in done)
    return single + len({op.request for op in done if op.request})


def _is_repeated(op: ClientOperation) -> bool:
    return isinstance(op.result, UpdateResult) and op.result.is_repeated


def _may_be(op: ClientOperation) -> bool:
    if isinstance(op.result, UpdateResult):
        return op.wrote is not None or op.result.is_repeated
    return not op.is_refused
