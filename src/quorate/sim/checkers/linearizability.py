# SPDX-License-Identifier: GPL-3.0-or-later
"""Are histories of one key linearizable (I6, P2)? The order that the versions say is tried first
(`register`); where it does not explain what clients saw, a search over all orders (`search`).

Promised where both the read and the write ask a majority. Other reads are left out, and other
writes are taken as unknown: too few replicas hold them for every read to see them. A
read-modify-write takes effect exactly once, on what is directly before it. If it left the key as it
was it is a read.

`strict` counts what only the exception of P2 explains: reads that saw a write before it was moved,
and something else in between. So may a write whose outcome is unknown be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, chain_of
from quorate.sim.checkers.register import (
    Content,
    Nothing,
    RegisterOperation,
    Required,
    content_of,
    read,
    unknown_update,
    unknown_write,
    update,
    write,
)
from quorate.sim.checkers.search import STATES_MAX, Undecided, is_linearizable
from quorate.sim.edits import OperationEdit
from quorate.sim.history import ClientOperation, Evidence, History, Kind, Violation

STRICT_STATES_MAX: Final = 20_000
"""Of a part of a history, for all reads that are looked at, and for each if need be: there are few.
One that stays undecided is counted."""


def check(history: History, evidence: Evidence, *, states_max: int = STATES_MAX) -> list[Violation]:
    """Keys whose history no order explains."""
    found = []
    for key, operations in history.by_key().items():
        promised = list(_promised(operations, evidence))
        try:
            if is_linearizable(promised, states_max=states_max):
                continue
            told = f"no order of what began before its end explains {_unexplained(promised)}"
        except Undecided:
            told = f"undecided after {states_max} states: {len(promised)} operations"
        found.append(Violation("P2", key, told))
    return found


def strict(history: History, evidence: Evidence) -> list[tuple[bytes, Required]]:
    """The reads that only the exception of P2 explains, by the key and the value that each saw, of
    keys that forgot nothing. As many of them as are equal may have seen one write twice."""
    return [
        (key, op.value)
        for key, operations in history.by_key().items()
        if key not in evidence.forgot_ms
        for op in _excused(list(_promised(operations, evidence)))
    ]


def _excused(promised: list[RegisterOperation]) -> list[RegisterOperation]:
    """Those of one key: who may have read a first stamp is left out, unless an order explains it
    though each write takes effect once."""
    last = _last_stamps(promised)
    firsts = _of_first_stamps(promised, last)
    if not firsts:
        return []
    told, contents = set(firsts), {op.value for op in firsts}
    once = [
        op for op in promised if op not in told and not (op.is_exception and op.value in contents)
    ]
    # They tell no version: their write has another one by now. Which delete it was is not told.
    reads = [
        op._replace(version=last.get(op.value)) for op in sorted(firsts, key=attrgetter("end"))
    ]
    if _is_explained([*once, *reads]):
        return []
    excused: list[RegisterOperation] = []
    for op in reads:
        candidate = [*once, op]
        if _is_explained(candidate):
            once = candidate
        else:
            excused.append(op)
    return excused


def _of_first_stamps(
    promised: list[RegisterOperation], last: dict[Required, bytes]
) -> list[RegisterOperation]:
    """The reads of what may have been the first stamp of a write that has another one by now. Of a
    delete it is any that nobody is known to have written, or built on: deletes are all alike."""
    twice = {op.value for op in promised if op.is_exception}
    known = {version for op in promised if not op.is_read for version in (op.version, op.base)}
    return [
        op
        for op in promised
        if op.is_read
        and op.value in twice
        and (op.version not in known if op.value is None else _chain(op) != last.get(op.value))
    ]


def _last_stamps(promised: list[RegisterOperation]) -> dict[Required, bytes]:
    """By value: the last stamp of its put, or the last that is known if that had no answer."""
    last: dict[Required, bytes] = {}
    for op in promised:
        content, version = (op.value, op.version) if op.is_read else (op.found, op.base)
        if content is not None and version is not None:
            last[content] = max(last.get(content, ABSENT), chain_of(version))
    for op in promised:
        if op.is_blind and op.must and op.value is not None and op.version is not None:
            last[op.value] = op.version
    return last


def _chain(op: RegisterOperation) -> bytes:
    return ABSENT if op.version is None else chain_of(op.version)


def _is_explained(history: list[RegisterOperation]) -> bool:
    try:
        return is_linearizable(history, states_max=STRICT_STATES_MAX)
    except Undecided:
        return False


def _promised(operations: list[ClientOperation], evidence: Evidence) -> Iterator[RegisterOperation]:
    """The operations of a key that must be in order, up to where a replica forgot something."""
    forgot_ms = evidence.forgot_ms.get(operations[0].key, math.inf)
    for op in operations:
        done_ms = op.done_ms
        if done_ms is not None and done_ms > forgot_ms:
            done_ms = None
        if op.is_write:
            if op.asked_ms <= forgot_ms and not op.is_refused:
                yield from _written(op, done_ms, evidence)
        elif done_ms is not None and isinstance(op.result, GetResult) and evidence.is_promised(op):
            yield _read(op.asked_ms, done_ms, op.result.record)


def _read(start: float, end: float, record: Record | None) -> RegisterOperation:
    if record is None:
        return read(start, end, None, ABSENT)
    expires_ms = 0 if record.value is None else record.expires_ms
    return read(start, end, record.value, record.version, expires_ms=expires_ms)


def _written(
    op: ClientOperation, done_ms: float | None, evidence: Evidence
) -> Iterator[RegisterOperation]:
    result = op.result
    is_known = done_ms is not None and evidence.is_promised(op)
    if op.is_update:
        if is_known and done_ms is not None and isinstance(result, UpdateResult):
            yield _updated(op, result, done_ms, evidence)
            if result.is_repeated:
                # This attempt may be the one.
                yield unknown_update(op.asked_ms, RegisterEdit(op))._replace(end=done_ms)
        elif not isinstance(result, UpdateResult) or op.wrote is not None or result.is_repeated:
            yield unknown_update(op.asked_ms, RegisterEdit(op))
    elif is_known and done_ms is not None and isinstance(result, PutResult):
        yield from write(
            op.asked_ms,
            done_ms,
            op.value,
            result.version,
            expires_ms=0 if op.value is None else op.expires_ms,
            is_moved=result.moved,
        )
    else:
        expires_ms = 0 if op.value is None else op.expires_ms
        yield from unknown_write(op.asked_ms, op.value, expires_ms=expires_ms)


def _updated(
    op: ClientOperation, result: UpdateResult, done_ms: float, evidence: Evidence
) -> RegisterOperation:
    """A read-modify-write that was answered."""
    start = op.asked_ms
    nothing = Nothing(evidence.epoch_ms + done_ms + evidence.wall_skew_ms + 1)
    if result.is_repeated or result.after is None:
        told = result.after if result.is_repeated else result.before
        return read(start, done_ms, nothing) if told is None else _read(start, done_ms, told)
    found = nothing if result.before is None else _content(result.before)
    base = None if result.before is None else result.before.version
    made = _content(result.after)
    return update(start, done_ms, found, made, result.after.version, base=base)


def _content(record: Record) -> Content:
    return content_of(record.value, 0 if record.value is None else record.expires_ms)


class RegisterEdit:
    """The edit of an operation, on contents. One GETDEL does what every other does."""

    __slots__ = ("_edit", "_name", "compared")

    def __init__(self, op: ClientOperation) -> None:
        self.compared = None if op.seen is None else op.seen.value
        self._edit = OperationEdit(op, by_version=False)
        self._name = (0, 0, 0) if op.kind is Kind.GETDEL else op.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegisterEdit) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __call__(self, content: Content) -> Content:
        value, expires_ms = content if isinstance(content, tuple) else (content, 0)
        made = self._edit(None if value is None else Record(ABSENT, value, expires_ms))
        return content if made is None else content_of(made.value, made.expires_ms)


def _unexplained(history: list[RegisterOperation]) -> RegisterOperation:
    """The first that read, or updated, and that no order explains, together with all that was known
    when it ended."""
    reads = sorted((op for op in history if _sees(op)), key=attrgetter("end"))
    fine, bad = -1, len(reads) - 1
    while bad - fine > 1:
        middle = (fine + bad) // 2
        if is_linearizable(_until(history, reads[middle].end)):
            fine = middle
        else:
            bad = middle
    return reads[bad]


def _sees(op: RegisterOperation) -> bool:
    return op.must and not op.is_blind


def _until(history: list[RegisterOperation], ms: float) -> Iterator[RegisterOperation]:
    """What was known at a time."""
    for op in history:
        if op.start <= ms and op.end > ms and not op.is_read:
            yield op._replace(end=math.inf, must=False, version=None)
        elif op.end <= ms:
            yield op
