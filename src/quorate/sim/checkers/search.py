# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there any order of a register's operations that explains what clients saw? A search over all
of them (Wing, Gong 1993), which remembers where it has been (Lowe 2017).

What keeps it quick: a write that may be left out, and that nobody finds, is; one that may come late
is not awaited after the last time its content was found; where nothing is under way the history is
cut, and the parts are judged one after another. An update whose outcome is unknown finds whatever
there is: beside one every content counts as found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from quorate.sim.checkers.register import (
    ANYTHING,
    Content,
    Nothing,
    RegisterOperation,
    Required,
    by_version,
    explains,
)

STATES_MAX: Final = 200_000
"""So many states are looked at of one part of a history before it counts as undecided. This takes
seconds."""


class Undecided(Exception):
    """The search met its maximum before it found an order, or that there is none."""


def is_linearizable(history: Iterable[RegisterOperation], *, states_max: int = STATES_MAX) -> bool:
    """Whether some order explains the history of a key that held nothing: that of versions, or any.
    Undecided if it takes too long to say."""
    ops = list(history)
    return explains(by_version(ops), ops) or has_order(ops, states_max=states_max)


def has_order(history: Iterable[RegisterOperation], *, states_max: int = STATES_MAX) -> bool:
    """The same, whatever versions say."""
    ops = list(history)
    finds_any = any(op.edit is not None for op in ops)
    holds: set[_Holds] = {(None, False)}
    parts = list(_parts(_needed(ops, finds_any=finds_any)))
    last = {op.reads(): number for number, part in enumerate(parts) for op in part}
    for number, part in enumerate(parts):
        later = _Finds(found for found, place in last.items() if place > number)
        later.finds_any |= finds_any
        holds = _Search(part, later, states_max).ends(holds)
        if not holds:
            return False
    return True


class _Finds:
    """What is found by some operations."""

    def __init__(self, founds: Iterable[Required]) -> None:
        self._contents = {each for each in founds if each is not ANYTHING}
        self._is_nothing_found = any(type(each) is Nothing for each in self._contents)
        self.finds_any = False
        """Whether there may be updates that find whatever there is."""

    def __bool__(self) -> bool:
        return self.finds_any or bool(self._contents)

    def __contains__(self, content: Content) -> bool:
        if self.finds_any or content in self._contents:
            return True
        return self._is_nothing_found and not isinstance(content, bytes)


def _needed(history: list[RegisterOperation], *, finds_any: bool) -> list[RegisterOperation]:
    """The operations in order of start. Optional writes that begin after what they write was found
    for the last time are left out: they cannot matter."""
    last: dict[Required, float] = {}
    for op in history:
        last[op.reads()] = max(last.get(op.reads(), -math.inf), op.end if op.must else math.inf)
    last.pop(ANYTHING, None)
    nothing = max([end for found, end in last.items() if type(found) is Nothing], default=-math.inf)
    every = max(last.values(), default=-math.inf)

    def limit(op: RegisterOperation) -> float:
        if finds_any:
            return every
        end = last.get(op.value, -math.inf)
        return end if isinstance(op.value, bytes) else max(end, nothing)

    kept = []
    for op in sorted(history, key=attrgetter("start", "end")):
        if not op.must:
            op = op._replace(end=min(op.end, limit(op)))
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


_Holds = tuple[Content, bool]
"""What a register holds, and whether that is the first stamp of a put."""
_State = tuple[int, _Holds]
"""Which operations are done or passed over, as a bit for each; and what the register holds."""

_UNFOUND: Final = (b"\xff any content that nobody will find", False)
"""Stands for every content that nobody will find: they all make the same difference later, none."""


class _Search:
    """All orders of one part, which is in order of start."""

    def __init__(self, ops: list[RegisterOperation], later: _Finds, states_max: int) -> None:
        """`later`: what is found in the parts after this one."""
        self._ops = ops
        self._states_max = states_max
        self._later = later
        self._needed = 0
        self._finders: dict[Required, int] = {}
        self._nothings = 0
        """Those who find nothing, or what has expired."""
        self._writers: dict[Content | Nothing, int] = {}
        for index, op in enumerate(ops):
            self._needed |= op.must << index
            found = op.reads()
            self._finders[found] = self._finders.get(found, 0) | 1 << index
            self._nothings |= (type(found) is Nothing) << index
            if not op.is_read:
                self._writers[op.value] = self._writers.get(op.value, 0) | 1 << index

    def ends(self, holds: set[_Holds]) -> set[_Holds]:
        """What the register may hold at the end if it holds one of these at the beginning."""
        # In an order of their own, as sets have none: what is decided in time must not be chance.
        stack = [(0, self._seen(each, 0)) for each in sorted(holds, key=repr)]
        met: set[_State] = set(stack)
        found: set[_Holds] = set()
        while stack:
            done, held = stack.pop()
            if done & self._needed == self._needed:
                found.add(held)
                if not self._later:
                    break
            for state in self._next(done, held):
                if state not in met:
                    met.add(state)
                    stack.append(state)
            if len(met) > self._states_max:
                raise Undecided
        return found

    def _finding(self, content: Content) -> int:
        """Who finds this."""
        finders = self._finders.get(content, 0)
        return finders if isinstance(content, bytes) else finders | self._nothings

    def _seen(self, held: _Holds, done: int) -> _Holds:
        """What is held, or `_UNFOUND` if no operation that is not done finds it."""
        content, _ = held
        if content in self._later or self._finding(content) & ~done:
            return held
        return _UNFOUND

    def _next(self, done: int, held: _Holds) -> list[_State]:
        """The states that one more operation leads to, the most likely last."""
        indices = self._candidates(done)
        ops = self._ops
        content, _ = held
        for index in indices:
            is_fitting_read = ops[index].is_read and ops[index].outcomes(content)
            if is_fitting_read and self._passed(done, index, indices) == done:
                # It changes nothing, so it may as well be now.
                return [(done | 1 << index, self._seen(held, done | 1 << index))]
        free = self._free(done, indices)
        if free and held is _UNFOUND:
            return [(done | free, held)]
        found: list[_State] = []
        for index in sorted(indices, key=lambda each: ops[each].end, reverse=True):
            op = ops[index]
            after = self._passed(done, index, indices) | 1 << index
            if op.is_read:
                if op.outcomes(content):
                    found.append((after, self._seen(held, after)))
            elif not op.is_blind:
                found += self._updated(op, held, after)
            elif self._is_worth(index, done, content, indices):
                after |= free
                if op.value == content or self._can_be_lost(content, after):
                    found.append((after, self._seen(_made(op), after)))
        return found

    def _free(self, done: int, indices: list[int]) -> int:
        """The writes that nobody will find: free to happen just before another write, or when what
        they overwrite is not needed; unless that is too late for an optional write before them."""
        free = 0
        for index in indices:
            op = self._ops[index]
            if op.must and op.is_blind and self._seen(_made(op), done) is _UNFOUND:
                free |= (self._passed(done, index, indices) == done) << index
        return free

    def _updated(self, op: RegisterOperation, held: _Holds, after: int) -> list[_State]:
        content, is_first = held
        if is_first:
            return []
        can_be_lost = op.edit is not None or self._can_be_lost(content, after)
        made = [each for each in op.outcomes(content) if can_be_lost or each == content]
        return [(after, self._seen((each, False), after)) for each in made]

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

    def _is_worth(self, index: int, done: int, content: Content, indices: list[int]) -> bool:
        """Whether a write has to be tried next. An optional one does only if what it writes is
        found later, if it changes the register, and if no other write of the same ends sooner: that
        one would do as well, and this one is worth more later."""
        op = self._ops[index]
        if op.must:
            return True
        if op.value == content or self._seen(_made(op), done) is _UNFOUND:
            return False
        others = (self._ops[other] for other in indices if other < index)
        return not any(
            other.is_blind
            and other.value == op.value
            and other.end <= op.end
            and other.is_first == op.is_first
            for other in others
        )

    def _can_be_lost(self, content: Content, after: int) -> bool:
        """Whether what is held may be overwritten: nobody has to find it any more, or it can be
        written again."""
        # Who finds nothing may find it in many forms.
        must = self._needed & ~after
        if self._later.finds_any or not self._finders.get(content, 0) & must:
            return True
        return bool(self._writers.get(content, 0) & ~after)


def _made(op: RegisterOperation) -> _Holds:
    """What a write leaves."""
    assert not isinstance(op.value, Nothing), "only reads find nothing"
    return op.value, op.is_first
