# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished run adds up to: figures for people, and what stale reads missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.slots import key_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt, QuorateError
from quorate.sim import checkers
from quorate.sim.checkers import Violation
from quorate.sim.cluster import SimCluster
from quorate.sim.disk import Disk
from quorate.sim.history import Evidence, History, Operation

_SECOND_MS = 1_000


def judged(history: History, evidence: Evidence) -> list[Violation]:
    """What the checkers say: first of the keys that lost no more copies than can be repaired, then
    of the others, of which it is only asked that nobody lies."""
    forgot = evidence.forgot_ms
    intact = _part(history, evidence, [key for key in evidence.replicas if key not in forgot])
    found = [each for check in checkers.ALL.values() for each in check(*intact)]
    if forgot:
        others, of_others = _part(history, evidence, list(forgot))
        lies = replace(of_others, in_budget=False, is_quiet=False)
        found += [each for check in checkers.ALL.values() for each in check(others, lies)]
    return found


def _part(history: History, evidence: Evidence, keys: Sequence[bytes]) -> tuple[History, Evidence]:
    """What there is of some keys."""
    part = History()
    part.operations = [operation for operation in history.operations if operation.key in keys]
    return part, replace(
        evidence,
        settled={key: evidence.settled[key] for key in keys},
        unreadable={key: nodes for key, nodes in evidence.unreadable.items() if key in keys},
        forgotten=[operation for operation in evidence.forgotten if operation.key in keys],
    )


def counted(operations: Sequence[Operation]) -> Counter[str]:
    """How many operations ended in what: `ok`, or what a client was told."""
    return Counter(_ending(operation) for operation in operations)


def _ending(operation: Operation) -> str:
    result = operation.result
    if result is None:
        return "no answer"
    if isinstance(result, QuorateError):
        return f"{result.code} {result.outcome.value}" if result.outcome else result.code
    return "ok"


def by_second(operations: Sequence[Operation], began_ms: float) -> list[tuple[int, int]]:
    """Operations that succeeded, and all, by the second in which they were asked."""
    fine: Counter[int] = Counter()
    every: Counter[int] = Counter()
    for operation in operations:
        second = int(operation.asked_ms - began_ms) // _SECOND_MS
        every[second] += 1
        fine[second] += isinstance(operation.result, GetResult | PutResult)
    return [(fine[second], every[second]) for second in range(max(every, default=-1) + 1)]


def stale_ages(history: History, evidence: Evidence) -> tuple[int, list[float]]:
    """Answered reads for which R + W <= N; and of those that missed a write that had finished
    before they began, how long before."""
    weak = 0
    ages: list[float] = []
    for operations in history.by_key().values():
        finished = _finished(operations)
        for operation in operations:
            if not isinstance(operation.result, GetResult):
                continue
            if evidence.r_of(operation) + evidence.w > evidence.n:
                continue
            weak += 1
            age_ms = _age(operation, operation.result.record, finished)
            if age_ms is not None:
                ages.append(age_ms)
    return weak, ages


def _finished(operations: Sequence[Operation]) -> list[tuple[float, bytes]]:
    """When each acknowledged write was answered, and its version."""
    return [
        (operation.done_ms, operation.result.version)
        for operation in operations
        if isinstance(operation.result, PutResult) and operation.done_ms is not None
    ]


def _age(
    read: Operation, record: Record | None, finished: Sequence[tuple[float, bytes]]
) -> float | None:
    version = ABSENT if record is None else record.version
    missed = [
        done_ms for done_ms, written in finished if done_ms < read.asked_ms and written > version
    ]
    return read.asked_ms - min(missed) if missed else None


def settled(
    cluster: SimCluster, replicas: Mapping[bytes, Sequence[int]]
) -> tuple[dict[bytes, dict[int, Record | None]], dict[bytes, list[int]]]:
    """What each replica's disk holds of each key in the end; and where it cannot be read."""
    found: dict[bytes, dict[int, Record | None]] = {}
    unreadable: dict[bytes, list[int]] = {}
    for key, indices in replicas.items():
        found[key] = {}
        for index in indices:
            try:
                found[key][index] = cluster.machines[index].disk.held(row_of(key))
            except Corrupt:
                unreadable.setdefault(key, []).append(index)
    return found, unreadable


def lowered(cluster: SimCluster) -> list[Violation]:
    """Where a replica replaced a record by one that is not higher (I10, I14)."""
    return [
        Violation("I10", key_of(row), f"{machine.name} replaced {before} with {after}")
        for machine in cluster.machines
        for row, before, after in machine.disk.lowered
    ]


def hints_left(disk: Disk) -> int:
    """Hints that a disk still holds, whether its node knows of them or not. What cannot be read is
    left out: nobody can deliver it."""
    return sum(_can_read_hint(disk, name) for name in disk.hint_names())


def _can_read_hint(disk: Disk, name: bytes) -> bool:
    try:
        return any(disk.held_hints(name, name + b"\0"))
    except Corrupt:
        return False
