# SPDX-License-Identifier: GPL-3.0-or-later
"""Are histories of one key linearizable (I6, P2)? The order that the versions say is tried first;
where it does not explain what clients saw, a search over all orders (Wing, Gong 1993), which
remembers where it has been (Lowe 2017).

The register is read and written; a delete writes None, which is also the first value. An order
explains the history if every operation takes effect between its start and its end, and each read
returns what the write before it wrote. Three kinds of writes need not take effect once: one whose
outcome is unknown may at any later time or never; one that was re-stamped may twice within its
duration (P2); an unknown one may have been re-stamped too.

The versions are a guess, held against the rules like any other order: a store whose versions are
wrong gains nothing by it. It settles a sound history of any length; the search is for the others.
What keeps that quick: a write that may be left out, and that nobody reads, is; one that may come
late is not awaited after the last read of its value; where nothing is under way the history is cut,
and the parts are judged one after another.

Promised where both the read and the write ask a majority. Other reads are left out, and other
writes are taken as unknown: too few replicas hold them for every read to see them, or, if they are
derived from what such a read found, it may have been overwritten long ago.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from quorate.core.values.events import GetResult, PutResult
from quorate.sim.history import ClientOperation, Evidence, History, Violation

STATES_MAX: Final = 200_000
"""So many states are looked at of one part of a history before it counts as undecided. This takes
seconds."""


class Undecided(Exception):
    """The search met its maximum before it found an order, or that there is none."""


class RegisterOperation(NamedTuple):
    """One operation as its client saw it. A read that got no answer says nothing: leave it out."""

    start: float
    end: float
    is_read: bool
    value: bytes | None
    """What was read or written."""
    must: bool = True
    """Whether it surely took effect."""
    version: bytes | None = None
    """Of the record that was read, or that was written in the end; None if that is not known."""


def read(
    start: float, end: float, value: bytes | None, version: bytes | None = None
) -> RegisterOperation:
    """A read that was answered."""
    return RegisterOperation(start, end, True, value, version=version)


def write(
    start: float,
    end: float,
    value: bytes | None,
    version: bytes | None = None,
    *,
    is_restamped: bool = False,
) -> list[RegisterOperation]:
    """A write that was answered."""
    once = RegisterOperation(start, end, False, value, version=version)
    return [once, once._replace(must=False, version=None)] if is_restamped else [once]


def unknown_write(start: float, value: bytes | None) -> list[RegisterOperation]:
    """A write that may have happened, or may happen yet."""
    return [RegisterOperation(start, math.inf, False, value, must=False)] * 2


# --- runs --------------------------------------------------------------------------------------


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
            yield read(op.asked_ms, done_ms, op.read, op.version)


def _written(
    op: ClientOperation, done_ms: float | None, evidence: Evidence
) -> list[RegisterOperation]:
    result = op.result
    if done_ms is None or not evidence.is_promised(op) or not isinstance(result, PutResult):
        return unknown_write(op.asked_ms, op.value)
    is_restamped = result.restamped
    return write(op.asked_ms, done_ms, op.value, result.version, is_restamped=is_restamped)


def _unexplained(history: list[RegisterOperation]) -> RegisterOperation:
    """The first read that no order explains, together with all that was known when it ended."""
    reads = sorted((op for op in history if op.is_read), key=attrgetter("end"))
    fine, bad = -1, len(reads) - 1
    while bad - fine > 1:
        middle = (fine + bad) // 2
        if is_linearizable(_until(history, reads[middle].end)):
            fine = middle
        else:
            bad = middle
    return reads[bad]


def _until(history: list[RegisterOperation], ms: float) -> Iterator[RegisterOperation]:
    """What was known at a time."""
    for op in history:
        if op.start <= ms and op.end > ms and not op.is_read:
            yield from unknown_write(op.start, op.value)
        elif op.end <= ms:
            yield op


# --- the order of versions ---------------------------------------------------------------------


def explains(order: list[RegisterOperation], history: list[RegisterOperation]) -> bool:
    """Whether an order explains a history of a key that held nothing. It does if it has every
    operation that must have happened, and none twice; if no operation comes after one that began
    when it was already over; and if each read returns what was last written."""
    value: bytes | None = None
    now = -math.inf
    for op in order:
        now = max(now, op.start)
        if op.end < now or (op.is_read and op.value != value):
            return False
        value = op.value
    used, given = Counter(order), Counter(history)
    return used <= given and all(used[op] == count for op, count in given.items() if op.must)


def by_version(history: list[RegisterOperation]) -> list[RegisterOperation]:
    """The order that the versions tell: each write stands at its version, and those who read it
    directly after it. Optional writes have no version: they stand where their value was read."""
    groups: dict[bytes, list[RegisterOperation]] = {}
    spare: dict[bytes | None, list[RegisterOperation]] = {}
    for op in history:
        if not op.must:
            spare.setdefault(op.value, []).append(op)
        elif op.version is not None:
            groups.setdefault(op.version, []).append(op)
    order: list[RegisterOperation] = []
    value: bytes | None = None
    now = -math.inf
    for version in sorted(groups):
        group = sorted(groups[version], key=attrgetter("is_read", "start"))
        if group[0].is_read and group[0].value != value:
            group = _taken(spare.get(group[0].value, []), now) + group
        order += group
        value = group[-1].value
        now = max(now, *(op.start for op in group))
    return order


def _taken(spare: list[RegisterOperation], now: float) -> list[RegisterOperation]:
    """Take from `spare` the write that can take effect first, and of several the one that ends
    first; none if all ended before `now`."""
    fitting = [op for op in spare if op.end >= now]
    if not fitting:
        return []
    write = min(fitting, key=lambda op: (max(op.start, now), op.end))
    spare.remove(write)
    return [write]


# --- one register ------------------------------------------------------------------------------


def is_linearizable(history: Iterable[RegisterOperation], *, states_max: int = STATES_MAX) -> bool:
    """Whether some order explains the history of a key that held nothing. Undecided if that takes
    too long to say."""
    ops = list(history)
    if explains(by_version(ops), ops):
        return True
    values: set[bytes | None] = {None}
    parts = list(_parts(_needed(ops)))
    last = {op.value: number for number, part in enumerate(parts) for op in part if op.is_read}
    for number, part in enumerate(parts):
        read_later = frozenset(value for value, place in last.items() if place > number)
        values = _Search(part, read_later, states_max).ends(values)
        if not values:
            return False
    return True


def _needed(history: list[RegisterOperation]) -> list[RegisterOperation]:
    """The operations in order of start. Optional writes that begin after the last read of their
    value are left out: they cannot matter."""
    last: dict[bytes | None, float] = {}
    for op in history:
        if op.is_read:
            last[op.value] = max(last.get(op.value, -math.inf), op.end)
    kept = []
    for op in sorted(history, key=attrgetter("start", "end")):
        if not op.must:
            op = op._replace(end=min(op.end, last.get(op.value, -math.inf)))
        if op.start <= op.end:
            kept.append(op)
    return kept


def _parts(ops: list[RegisterOperation]) -> Iterator[list[RegisterOperation]]:
    """The operations, in order of start, cut where none is under way."""
    part: list[RegisterOperation] = []
    end = -math.inf
    for op in ops:
        if part and op.start > end:
            yield part
            part = []
        part.append(op)
        end = max(end, op.end)
    if part:
        yield part


_State = tuple[int, bytes | None]
"""Which operations are done or passed over, as a bit for each; and what the register holds."""

_UNREAD: Final = b"\xff any value that nobody will read"
"""Stands for every value that nobody will read: they all make the same difference later, none."""


class _Search:
    """All orders of one part, which is in order of start."""

    def __init__(
        self, ops: list[RegisterOperation], read_later: frozenset[bytes | None], states_max: int
    ) -> None:
        """`read_later`: what is read in the parts after this one."""
        self._ops = ops
        self._states_max = states_max
        self._read_later = read_later
        self._needed = 0
        self._readers: dict[bytes | None, int] = {}
        self._writers: dict[bytes | None, int] = {}
        for index, op in enumerate(ops):
            self._needed |= op.must << index
            of_kind = self._readers if op.is_read else self._writers
            of_kind[op.value] = of_kind.get(op.value, 0) | 1 << index

    def ends(self, values: set[bytes | None]) -> set[bytes | None]:
        """What the register may hold at the end if it holds one of `values` at the beginning."""
        # In an order of their own, as sets have none: what is decided in time must not be chance.
        stack = [(0, self._seen(value, 0)) for value in sorted(values, key=repr)]
        met: set[_State] = set(stack)
        found: set[bytes | None] = set()
        while stack:
            done, value = stack.pop()
            if done & self._needed == self._needed:
                found.add(value)
                if not self._read_later:
                    break
            for state in self._next(done, value):
                if state not in met:
                    met.add(state)
                    stack.append(state)
            if len(met) > self._states_max:
                raise Undecided
        return found

    def _seen(self, value: bytes | None, done: int) -> bytes | None:
        """The value, or `_UNREAD` if no operation that is not done reads it."""
        if self._readers.get(value, 0) & ~done or value in self._read_later:
            return value
        return _UNREAD

    def _next(self, done: int, value: bytes | None) -> list[_State]:
        """The states that one more operation leads to, the most likely last."""
        indices = self._candidates(done)
        ops = self._ops
        # Writes that nobody will read are free to happen just before another write, or when what
        # they overwrite is not needed; unless that is too late for an optional write before them.
        free = 0
        for index in indices:
            op = ops[index]
            if not op.is_read:
                if op.must and self._seen(op.value, done) is _UNREAD:
                    free |= (self._passed(done, index, indices) == done) << index
            elif op.value == value and self._passed(done, index, indices) == done:
                # A read of what is there changes nothing, so it may as well be now.
                return [(done | 1 << index, self._seen(value, done | 1 << index))]
        if free and value is _UNREAD:
            return [(done | free, value)]
        found = []
        for index in sorted(indices, key=lambda each: ops[each].end, reverse=True):
            op = ops[index]
            if op.is_read and op.value != value:
                continue
            after = self._passed(done, index, indices) | 1 << index
            if op.is_read:
                found.append((after, self._seen(value, after)))
            elif self._is_worth(index, done, value, indices):
                after |= free
                if op.value == value or self._can_be_lost(value, after):
                    found.append((after, self._seen(op.value, after)))
        return found

    def _candidates(self, done: int) -> list[int]:
        """Who may be next: not who starts after another operation, not done yet, had to be over."""
        found = []
        limit = math.inf
        ops = self._ops
        # From the lowest bit that is not set.
        for index in range((~done & (done + 1)).bit_length() - 1, len(ops)):
            op = ops[index]
            if op.start > limit:
                break
            if not done >> index & 1:
                found.append(index)
                if op.must and op.end < limit:
                    limit = op.end
        return [index for index in found if ops[index].start <= limit]

    def _passed(self, done: int, index: int, indices: list[int]) -> int:
        """`done`, and with it the optional writes that are too late once `index` has happened."""
        start = self._ops[index].start
        for other in indices:
            if other >= index:
                break
            op = self._ops[other]
            if op.end < start and not op.must:
                done |= 1 << other
        return done

    def _is_worth(self, index: int, done: int, value: bytes | None, indices: list[int]) -> bool:
        """Whether a write has to be tried next. An optional one does only if its value is read
        later, if it changes the register, and if no other write of the same value ends sooner: that
        one would do as well, and this one is worth more later."""
        op = self._ops[index]
        if op.must:
            return True
        if op.value == value or self._seen(op.value, done) is _UNREAD:
            return False
        others = (self._ops[other] for other in indices if other < index)
        return not any(
            not other.is_read and other.value == op.value and other.end <= op.end
            for other in others
        )

    def _can_be_lost(self, value: bytes | None, after: int) -> bool:
        """Whether a value may be overwritten: nobody has to read it any more, or it can be written
        again."""
        if not self._readers.get(value, 0) & ~after:
            return True
        return bool(self._writers.get(value, 0) & ~after)
