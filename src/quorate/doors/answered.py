# SPDX-License-Identifier: GPL-3.0-or-later
"""What a door answered: how often, with what outcome, and how long reads and writes took.

A request pays for it a few additions to plain numbers. Its time runs from the packet that completed
it to the turn that writes its answer, so the clock is read once for each packet and once for each
turn of a connection, not for each request.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import Outcome

OK: Final = "ok"
"""Answered as asked; "not found" is such an answer."""
FAILED: Final = "failed"
"""An error that says nothing about a write: a read that too few replicas answered, say."""

_MS: Final = 1_000_000
BOUNDS_NS: Final[list[int]] = [
    *(_MS // 10, _MS // 4, _MS // 2, _MS, 5 * _MS // 2, 5 * _MS, 10 * _MS, 25 * _MS, 50 * _MS),
    *(100 * _MS, 250 * _MS, 500 * _MS, 1000 * _MS, 2500 * _MS, 5000 * _MS, 10_000 * _MS),
]
"""Upper bounds of a histogram's buckets, but for the last, which has none."""
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
        at = 0
        while at < _LAST and ns > BOUNDS_NS[at]:
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
