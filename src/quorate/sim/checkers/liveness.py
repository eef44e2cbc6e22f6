# SPDX-License-Identifier: GPL-3.0-or-later
"""Once faults are over, requests succeed in time (I24, I25).

From `healthy_from_ms` on there are no faults but nodes that stay unreachable, or are silent for a
while. Every request to a node that lives is answered; it succeeds, within the stated time, if as
many replicas of its key can be reached as it needs, by each layout that its coordinator had. For
example: with W = 2 copies move from n0 and n1 to n4 and n1 while n4 is silent. Until n4 is back no
write of these keys can succeed.

Between faults nothing fails either, but by its own deadline, which may be too short for the slowest
disks and links; and an attempt after the first, where others wrote the key: then the record may not
tell any more what became of the request, and the honest answer is that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quorate.core.values.settings import majority
from quorate.errors import Conflict, InvalidRequest, Outcome, QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Violation

CLOCK_MS: Final = 1.0
"""Of a node, which counts whole ones."""


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Requests that failed, or came late, though nothing stood in their way."""
    for op in history.operations:
        if _is_refused_by_settings(op, evidence) or _can_nobody_tell(op, history):
            continue
        is_in_time = op.took_ms < op.timeout_ms - CLOCK_MS
        if isinstance(op.result, QuorateError) and is_in_time and _was_calm(op, evidence):
            yield Violation("I25", op.key, f"{op}: failed between faults: {op.result}")
    for op in history.operations:
        if op.asked_ms < evidence.healthy_from_ms or op.node in evidence.dead:
            continue
        if _is_refused_by_settings(op, evidence):
            continue
        if op.done_ms is None:
            yield Violation("I24", op.key, f"{op}: never answered")
            continue
        if not _has_quorum(op, history, evidence):
            continue
        if isinstance(op.result, QuorateError):
            yield Violation("I25", op.key, f"{op}: failed with a live quorum: {op.result}")
        elif op.took_ms > evidence.answer_within_ms:
            yield Violation("I24", op.key, f"{op}: took {op.took_ms:.0f} ms")


def _is_refused_by_settings(op: ClientOperation, evidence: Evidence) -> bool:
    """Whether it is a read-modify-write where W or R is less than a majority."""
    return (
        op.is_update
        and isinstance(op.result, InvalidRequest)
        and any(min(w, r) < majority(n) for n, w, r in evidence.defaults())
    )


def _can_nobody_tell(op: ClientOperation, history: History) -> bool:
    """Whether it was asked before, and answered that too much was written since to know more; and
    others wrote that key."""
    result, done_ms = op.result, op.done_ms
    if not (op.attempt and isinstance(result, Conflict) and result.outcome is Outcome.UNKNOWN):
        return False
    return any(
        [
            each.is_write and each.key == op.key and each.request != op.request
            for each in history.operations
            if not each.is_refused and done_ms is not None and each.asked_ms < done_ms
        ]
    )


def _was_calm(op: ClientOperation, evidence: Evidence) -> bool:
    return op.done_ms is not None and any(
        begin_ms <= op.asked_ms and op.done_ms < end_ms for begin_ms, end_ms in evidence.calm_ms
    )


def _has_quorum(op: ClientOperation, history: History, evidence: Evidence) -> bool:
    """Whether enough replicas can be reached, of each row of each layout that its coordinator
    had. A put that meets another write may have to be moved, on which a majority votes: but only
    if its W was a majority of all rows of some layout. So it may be if that had fewer copies."""
    away, layouts = evidence.away(op), evidence.rows_of(op)
    may_move = op.is_write and any(
        all(evidence.needed(op, row) >= row.majority for row in rows) for rows in layouts
    )
    may_move = may_move and _meets_another(op, history)
    for rows in layouts:
        for row in rows:
            live = {each for each in row.ids if each >= 0} - away - row.lost
            if len(live) < max(evidence.needed(op, row), row.majority if may_move else 0):
                return False
    return True


def _meets_another(op: ClientOperation, history: History) -> bool:
    """Whether others wrote its key at the same time."""
    return any(
        [
            each is not op and each.is_write and each.key == op.key
            for each in history.operations
            if each.asked_ms <= op.over_ms and op.asked_ms <= each.over_ms
        ]
    )
