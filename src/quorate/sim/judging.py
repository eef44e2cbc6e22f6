# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished run adds up to: figures for people, and what stale reads missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from quorate.core.exchanges.hints import peer_of
from quorate.core.horizons import beginning
from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import key_of, partition_of, row_of
from quorate.errors import Corrupt, QuorateError
from quorate.sim import checkers
from quorate.sim.checkers import Violation
from quorate.sim.cluster import SimCluster
from quorate.sim.disk import Disk
from quorate.sim.history import ClientOperation, Evidence, History, Page
from quorate.sim.machine import newest_garbage
from quorate.sim.plan import Plan

_SECOND_MS = 1_000


def judged(history: History, evidence: Evidence) -> list[Violation]:
    """What the checkers say. Of keys that lost more copies than can be repaired it is only asked
    that nobody lies."""
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
    part.pages = history.pages
    part.operations = [operation for operation in history.operations if operation.key in keys]
    return part, replace(
        evidence,
        settled={key: evidence.settled[key] for key in keys},
        unreadable={key: nodes for key, nodes in evidence.unreadable.items() if key in keys},
        forgotten=[
            each for each in evidence.forgotten if isinstance(each, Page) or each.key in keys
        ],
    )


def counted(operations: Sequence[ClientOperation]) -> Counter[str]:
    """How many operations ended in what: `ok`, or what a client was told."""
    return Counter(_ending(operation) for operation in operations)


def _ending(operation: ClientOperation) -> str:
    result = operation.result
    if result is None:
        return "no answer"
    if isinstance(result, QuorateError):
        return f"{result.code} {result.outcome.value}" if result.outcome else result.code
    return "ok"


def by_second(operations: Sequence[ClientOperation], began_ms: float) -> list[tuple[int, int]]:
    """Operations that succeeded, and all, by the second in which they were asked."""
    fine: Counter[int] = Counter()
    every: Counter[int] = Counter()
    for operation in operations:
        second = int(operation.asked_ms - began_ms) // _SECOND_MS
        every[second] += 1
        fine[second] += isinstance(operation.result, GetResult | PutResult | UpdateResult)
    return [(fine[second], every[second]) for second in range(max(every, default=-1) + 1)]


def stale_ages(history: History, evidence: Evidence) -> tuple[int, list[float]]:
    """How many reads with R + W <= N were answered; and for each of them that missed a write which
    had finished before it began, how long before."""
    weak = 0
    ages: list[float] = []
    for operations in history.by_key().values():
        finished = [op for op in operations if op.wrote is not None]
        for read in operations:
            if not isinstance(read.result, GetResult):
                continue
            if all((read.r or r) + w > n for n, w, r in evidence.defaults()):
                continue
            weak += 1
            missed_ms = [
                write.over_ms
                for write in finished
                if write.over_ms < read.asked_ms and write.version > read.version
            ]
            if missed_ms:
                ages.append(read.asked_ms - min(missed_ms))
    return weak, ages


def settled(
    cluster: SimCluster, replicas: Mapping[bytes, Sequence[int]]
) -> tuple[dict[bytes, dict[int, Record | None]], dict[bytes, list[int]]]:
    """What each replica's disk holds of each key in the end, or dropped as garbage; and where it
    cannot be read. A copy that was made later never had what was dropped before: below its horizon
    nothing is as good as that."""
    found: dict[bytes, dict[int, Record | None]] = {}
    unreadable: dict[bytes, list[int]] = {}
    for key, indices in replicas.items():
        row = row_of(key)
        found[key] = {}
        for index in indices:
            try:
                found[key][index] = cluster.machines[index].disk.remembered(row)
            except Corrupt:
                unreadable.setdefault(key, []).append(index)
        newest = newest_garbage(cluster.machines, row)
        for index, record in found[key].items():
            machine = cluster.machines[index]
            _, horizon = machine.disk.fence(partition_of(row))
            past = beginning(horizon, machine.settings.slice_ms)
            if record is None and newest is not None and newest.version < past:
                found[key][index] = newest
    return found, unreadable


def lowered(cluster: SimCluster) -> list[Violation]:
    """Where a replica replaced a record by one that is not higher (I10, I14)."""
    return [
        Violation("I10", key_of(row), f"{machine.name} replaced {before} with {after}")
        for machine in cluster.machines
        for row, before, after in machine.disk.lowered
    ]


def misplaced(cluster: SimCluster) -> list[Violation]:
    """Copies on machines that the layout does not give them (I18), and nodes that count other keys
    than they hold (I26). To be asked when the layout is at rest, and all is on the disks."""
    found = []
    layout = cluster.layout()
    damaged = any(d.rots for m in cluster.machines for d in (*m.lost_disks, m.disk))
    for machine in cluster.machines:
        own, rows = machine.settings.node_id, machine.disk.rows()
        strays = [row for row in rows if own not in layout.replicas(partition_of(row))]
        if strays:
            told = f"{machine.name} keeps {len(strays)} rows that are not its own"
            found.append(Violation("I18", key_of(strays[0]), told))
        # A copy that was damaged may be counted twice: what takes its place cannot know it.
        if machine.is_running and not damaged:
            held = [machine.disk.held(row) for row in rows]
            live = sum(each is not None and each.value is not None for each in held)
            if machine.node.parts.replica.keys != live:
                told = f"{machine.name} counts {machine.node.parts.replica.keys} keys, not {live}"
                found.append(Violation("I26", b"", told))
    return found


def hints_left(disk: Disk, lost: Collection[int], members: Collection[int] = ()) -> int:
    """Hints that a disk still holds, whether its node knows of them or not, but for those of disks
    that are lost. What cannot be read is left out: nobody can deliver it. And where damage keeps
    the node from finding those that are for no member any more, these."""
    names = [name for name in disk.hint_names() if peer_of(name) not in lost]
    if members and any(disk.hint(name) is None for name in disk.hint_names()):
        names = [name for name in names if peer_of(name) in members]
    return sum(disk.hint(name) is not None for name in names)


def misunderstood(count: int, plan: Plan) -> list[Violation]:
    """Links that ended for what an honest peer sent, though nobody damaged it (I31)."""
    if not count or any(fault.name == "damage" for fault in plan.faults):
        return []
    return [Violation("I31", b"", f"{count} times a peer was said to break the protocol")]
