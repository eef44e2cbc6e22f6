# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each operation took effect exactly once, at one moment between its beginning and its
answer; one of unknown outcome at most once, at any later moment.

One exception (P2): of a put that was moved gets may see the first stamp too. Nothing is built on
that.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from tests.models.read_modify_write.clients import History
from tests.models.read_modify_write.operations import WRITES, Operation
from tests.models.read_modify_write.values import Record, Value, is_dead
from tests.models.read_modify_write.world import KEYS


class _Move(NamedTuple):
    """An operation, as the search for an order sees it."""

    start: float
    end: float
    must: bool
    kind: str
    """read, write, ghost (the first stamp of a put that was moved), update, or maybe: an update
    of which nothing is known."""
    operation: Operation


def violation(history: History) -> str:
    """What is wrong; empty if nothing is."""
    if history.has_twins:
        return "one version has two contents"
    if any([each.end is None and each.kind == "get" for each in history.last]):
        return "when all is well, a get is not answered"
    unanswered = Counter(
        [(each.key, each.kind) for each in history.last if each.end is None],
    )
    if any([count > 1 for count in unanswered.values()]):
        return "when all is well, an update does not come to an end"
    for key in range(KEYS):
        operations = [each for each in history.operations if each.key == key]
        if not _is_linearizable(operations):
            return f"key {key} is not linearizable"
        tokens = [each.token for each in operations if each.end is not None and each.has_written]
        if len(set(tokens)) < len(tokens):
            return f"key {key}: two updates have one version"
    lock = max(history.locks)
    if len({_visible(records, lock) for records in history.left}) > 1:
        return "replicas are not equal"
    return ""


def _visible(records: list[Record], lock: int) -> tuple[object, ...]:
    return tuple([None if is_dead(record, lock) else record for record in records])


def _moves(operations: list[Operation]) -> list[_Move]:
    moves: list[_Move] = []
    for each in operations:
        is_ok = each.end is not None
        end = math.inf if each.end is None else each.end
        if each.kind in WRITES:
            moves.append(_Move(each.start, end, is_ok, "write", each))
            if each.is_moved:
                moves.append(_Move(each.start, end, False, "ghost", each))
        elif each.kind == "get":
            if is_ok:
                moves.append(_Move(each.start, end, True, "read", each))
        elif is_ok:
            kind = "update" if each.has_written else "read"
            moves.append(_Move(each.start, end, True, kind, each))
        else:
            moves.append(_Move(each.start, end, False, "maybe", each))
    return moves


def _is_linearizable(operations: list[Operation]) -> bool:
    moves = _moves(operations)
    must = sum([1 << index for index, move in enumerate(moves) if move.must])
    seen: set[tuple[int, Value, bool]] = set()
    todo: list[tuple[int, Value, bool]] = [(0, None, False)]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        done, value, is_ghost = state
        if done & must == must:
            return True
        limit = min([move.end for i, move in enumerate(moves) if move.must and not done >> i & 1])
        for index, move in enumerate(moves):
            if done >> index & 1 or move.start > limit:
                continue
            after = _after(move, value, is_ghost=is_ghost)
            if after is not None:
                todo.append((done | 1 << index, *after))
    return False


def _after(move: _Move, value: Value, *, is_ghost: bool) -> tuple[Value, bool] | None:
    """What the key has next, and whether that is a ghost; None if it cannot have been next."""
    operation = move.operation
    if move.kind == "read":
        return (value, is_ghost) if operation.seen == value else None
    if move.kind in ("write", "ghost"):
        return operation.given, move.kind == "ghost"
    if is_ghost:
        return None
    if move.kind == "update":
        return (operation.made, False) if operation.seen == value else None
    made = operation.edit(value)
    return None if made is value else (made, False)
