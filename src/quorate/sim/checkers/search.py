# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there any order of a register's operations that explains what clients saw? A search over all
of them (Wing, Gong 1993), which remembers where it has been (Lowe 2017).

What keeps it quick: a write that may be left out, and that nobody finds, is; one that may come late
is not awaited after the last time its content was found; where nothing is under way the history is
cut, and the parts are judged one after another. An update whose outcome is unknown finds whatever
there is: contents of which these make the same are one (`prospects`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from quorate.sim.checkers.prospects import UNFOUND, Prospects
from quorate.sim.checkers.register import (
    ANYTHING,
    Content,
    ContentEdit,
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
    prospects = Prospects(ops)
    holds: set[_Holds] = {(None, False)}
    parts = list(_parts(_needed(ops, prospects)))
    last = {op.reads(): number for number, part in enumerate(parts) for op in part}
    for number, part in enumerate(parts):
        later = _Finds(found for found, place in last.items() if place > number)
        holds = _Search(part, later, prospects, states_max).ends(holds)
        if not holds:
            return False
    return True


class _Finds:
    """What is found by some operations."""

    def __init__(self, founds: Iterable[Required]) -> None:
        self._contents = {each for each in founds if each is not ANYTHING}
        self._is_nothing_found = any(type(each) is Nothing for each in self._contents)

    def __bool__(self) -> bool:
        return bool(self._contents)

    def __contains__(self, content: Content) -> bool:
        if content in self._contents:
            return True
        return self._is_nothing_found and not isinstance(content, bytes)


def _needed(history: list[RegisterOperation], prospects: Prospects) -> list[RegisterOperation]:
    """The operations in order of start. Optional writes that begin after what they write, or what
    edits make of it, was found for the last time are left out: they cannot matter."""
    last: dict[Required, float] = {}
    for op in history:
        last[op.reads()] = max(last.get(op.reads(), -math.inf), op.end if op.must else math.inf)
    last.pop(ANYTHING, None)
    nothing = max([end for found, end in last.items() if type(found) is Nothing], default=-math.inf)
    every = max(last.values(), default=-math.inf)

    def limit(op: RegisterOperation) -> float:
        assert not isinstance(op.value, Nothing), "nothing is written as None"
        if op.edit is not None or op.value in prospects:
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

_UNFOUND: Final = (UNFOUND, False)
"""Stands for every content that nobody will find: they all make the same difference later, none."""


class _Search:
    """All orders of one part, which is in order of start."""

    def __init__(
        self,
        ops: list[RegisterOperation],
        later: _Finds,
        prospects: Prospects,
        states_max: int,
    ) -> None:
        """`later`: what is found in the parts after this one."""
        self._ops = ops
        self._prospects = prospects
        self._states_max = states_max
        self._later = later
        self._needed = 0
        self._finders: dict[Required, int] = {}
        self._nothings = 0
        """Those who find nothing, or what has expired."""
        self._writers: dict[Content | Nothing, int] = {}
        self._any_writers = 0
        """Edits of which it is not known what they may make."""
        for index, op in enumerate(ops):
            self._needed |= op.must << index
            found = op.reads()
            self._finders[found] = self._finders.get(found, 0) | 1 << index
            self._nothings |= (type(found) is Nothing) << index
            if op.edit is not None:
                self._makes(op.edit, index)
            elif not op.is_read:
                self._writers[op.value] = self._writers.get(op.value, 0) | 1 << index

    def _makes(self, edit: ContentEdit, index: int) -> None:
        """Know what an edit may make."""
        made = self._prospects.makes(edit)
        if made is None:
            self._any_writers |= 1 << index
        for content in made or ():
            self._writers[content] = self._writers.get(content, 0) | 1 << index

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
        """What is held, or what stands for it if no operation that is not done finds it."""
        content, is_first = held
        if content in self._later or self._finding(content) & ~done:
            return held
        stand = UNFOUND if is_first else self._prospects.stand_in(content)
        return _UNFOUND if stand == UNFOUND else (stand, False)

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
            if not op.is_blind:
                is_worth = op.edit is None or not self._is_done_as_well(index, done, indices)
                found += self._found(op, held, after) if is_worth else []
            elif self._is_worth(index, done, held, indices):
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

    def _found(self, op: RegisterOperation, held: _Holds, after: int) -> list[_State]:
        """The states after an operation that finds what is held; none if it finds something else.
        What has an unknown outcome has none, too, if that is worth no more than what is held."""
        content, is_first = held
        if op.is_read:
            return [(after, self._seen(held, after))] if op.outcomes(content) else []
        if is_first:
            return []
        can_be_lost = self._can_be_lost(content, after)
        if op.edit is None:
            made = [each for each in op.outcomes(content) if can_be_lost or each == content]
            return [(after, self._seen((each, False), after)) for each in made]
        if not can_be_lost or content == UNFOUND:
            return []
        outcomes = op.outcomes(self._prospects.sample(content))
        seen = [self._seen((each, False), after) for each in outcomes]
        return [(after, each) for each in seen if self._is_more(each, held)]

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

    def _is_worth(self, index: int, done: int, held: _Holds, indices: list[int]) -> bool:
        """Whether a write has to be tried next. An optional one does only if what it writes is
        found later, or something that edits make of it, and if it changes the register."""
        op = self._ops[index]
        if op.must:
            return True
        made = self._seen(_made(op), done)
        return self._is_more(made, held) and not self._is_done_as_well(index, done, indices)

    def _is_more(self, made: _Holds, held: _Holds) -> bool:
        """Whether anything may come of what is made that does not come of what is held."""
        content, is_first = held
        if made[0] == content:
            return is_first and not made[1]
        if is_first:
            return made is not _UNFOUND
        return self._prospects.is_more(made[0], content)

    def _is_done_as_well(self, index: int, done: int, indices: list[int]) -> bool:
        """Whether another operation that does the same as an optional one ends sooner: that one
        would do as well, and this one is worth more later."""
        op = self._ops[index]
        made = None if op.edit is not None else self._seen(_made(op), done)
        for other in (self._ops[each] for each in indices if each < index):
            if other.end > op.end or other.edit != op.edit:
                continue
            if op.edit is not None or (other.is_blind and self._seen(_made(other), done) == made):
                return True
        return False

    def _can_be_lost(self, content: Content, after: int) -> bool:
        """Whether what is held may be overwritten: nobody has to find it any more, or it can be
        written again."""
        # Who finds nothing may find it in many forms.
        must = self._needed & ~after
        if not self._finders.get(content, 0) & must:
            return True
        return bool((self._writers.get(content, 0) | self._any_writers) & ~after)


def _made(op: RegisterOperation) -> _Holds:
    """What a write leaves."""
    assert not isinstance(op.value, Nothing), "only reads find nothing"
    return op.value, op.is_first
