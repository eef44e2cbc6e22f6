# SPDX-License-Identifier: GPL-3.0-or-later
"""What a door has to answer yet, and what it answered: how often, with what outcome, and how long
reads and writes took.

A request pays for it a few additions to plain numbers. Its time runs from the packet that completed
it to the turn that writes its answer, so the clock is read once for each packet and once for each
turn of a connection, not for each request.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from quorate.errors import Outcome

if TYPE_CHECKING:
    from mypy_extensions import i64

OK: Final = "ok"
"""Answered as asked; "not found" is such an answer."""
FAILED: Final = "failed"
"""An error that says nothing about a write: a read that too few replicas answered, say."""

_MS: Final = 1_000_000
BOUNDS_NS: Final[list[int]] = [
    *(_MS // 10, _MS // 4, _MS // 2, _MS, 5 * _MS // 2, 5 * _MS, 10 * _MS, 25 * _MS, 50 * _MS),
    *(100 * _MS, 250 * _MS, 500 * _MS, 1000 * _MS, 2500 * _MS, 5000 * _MS, 10_000 * _MS),
]
"""Upper bounds of a histogram's buckets, but for the last, which has none: 1, 2.5 and 5 times each
power of ten."""
_FIRST_NS: Final = _MS // 10
_LAST: Final = 16


def outcome_word(outcome: Outcome | None) -> str:
    """The word for the outcome of what was answered with an error."""
    return FAILED if outcome is None else outcome.value


class Durations:
    """A histogram of durations."""

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * (_LAST + 1)
        """By bucket; a duration is in the first whose bound it does not exceed."""
        self.total_ns = 0

    def add(self, ns: int) -> None:
        """Count a duration."""
        # Reckoned in native integers: those of a list are objects, to be read one by one.
        took: i64 = ns
        ten: i64 = _FIRST_NS
        at: i64 = 0
        while at < _LAST - 1 and took > 5 * ten:
            at += 3
            ten *= 10
        if took > ten:
            at += 1
            if at < _LAST and 2 * took > 5 * ten:
                at += 1
        self.counts[at] += 1
        self.total_ns += ns


class Operation:
    """One kind of request at one door, and what became of those that were answered."""

    __slots__ = ("errors", "name", "ok", "times")

    def __init__(self, name: str, times: Durations | None) -> None:
        self.name: Final = name
        self.times: Final = times
        """Where their times are counted, errors included; None for what neither reads nor writes
        keys that it names."""
        self.ok = 0
        self.errors: Final[dict[str, int]] = {}
        """By outcome."""

    def done(self, outcome: str, ns: int) -> None:
        """Count an answer."""
        if outcome == OK:
            self.ok += 1
        else:
            self.errors[outcome] = self.errors.get(outcome, 0) + 1
        if self.times is not None:
            self.times.add(ns)


class Answered:
    """What one door answered since the start."""

    __slots__ = ("door", "operations", "reads", "writes")

    def __init__(self, door: str) -> None:
        self.door: Final = door
        self.operations: Final[dict[str, Operation]] = {}
        """By name."""
        self.reads: Final = Durations()
        self.writes: Final = Durations()

    def operation(self, name: str, times: Durations | None = None) -> Operation:
        """The operation of that name, a new one if there is none."""
        operation = self.operations.get(name)
        if operation is None:
            operation = self.operations[name] = Operation(name, times)
        return operation


class Waiting:
    """A request that was begun and has its place in line."""

    __slots__ = ("behind", "came_ns", "operation", "outcome", "reply")

    def __init__(self, line: WaitingLine, operation: Operation, came_ns: int) -> None:
        self.operation = operation
        """What it is counted as."""
        self.came_ns = came_ns
        """When the packet came that completed it."""
        self.reply = b""
        """Empty until it is known; no reply is empty."""
        self.outcome = OK
        """As what it is counted."""
        self.behind: Waiting | None = None
        """Who is answered next after this one."""
        last = line.last
        if last is None:
            line.first = self
        else:
            last.behind = self
        line.last = self
        line.count += 1


class WaitingLine:
    """Requests of a connection, begun and not yet answered, in the order of their answers.

    Each knows the one behind it: a deque's ends are looked up by name, which takes compiled code
    hundreds of instructions each time.
    """

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.first: Waiting | None = None
        self.last: Waiting | None = None
        self.count = 0

    def clear(self) -> None:
        """Wait for nobody any more."""
        self.first = self.last = None
        self.count = 0

    def take_ready(self) -> bytes:
        """The replies up to the first that is not known, whose requests leave the line and are
        counted as answered; empty if there are none."""
        first = self.first
        if first is None or not first.reply:
            return b""
        now_ns = monotonic_ns()
        replies = first.reply
        second = self._advance(first, now_ns)
        if second is None or not second.reply:
            return replies
        ready = [replies]
        following: Waiting | None = second
        while following is not None and following.reply:
            ready.append(following.reply)
            following = self._advance(following, now_ns)
        return b"".join(ready)

    def _advance(self, first: Waiting, now_ns: int) -> Waiting | None:
        """Count the first as answered; who is the first now."""
        first.operation.done(first.outcome, now_ns - first.came_ns)
        self.first = behind = first.behind
        # What still holds it shall not hold all that came later.
        first.behind = None
        if behind is None:
            self.last = None
        self.count -= 1
        return behind
