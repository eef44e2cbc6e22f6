# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a row: both sides in one run, in turns, so that what else the machine does meets both.

The median of the rounds' ratios is the row's; all of them are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final, NamedTuple

from bench.loads import Load, Measured
from bench.systems import Place, Running, System

WARM_UP_SECONDS: Final = 3.0


class Side(NamedTuple):
    """A store, and what it is asked for."""

    system: System
    load: Load
    guarantee: str
    """What an answer of this store to this load promises."""


class Bound(NamedTuple):
    """What a row's value is to be: `at_least` or `at_most`; a row that only informs has none."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a value is within."""
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and (high is None or value <= high)


def throughput(ours: Measured, theirs: Measured) -> float:
    """Operations per second, ours over theirs."""
    return ours.per_second / theirs.per_second


def cost(ours: Measured, theirs: Measured) -> float:
    """Processor time of the whole store for an operation, ours over theirs."""
    return ours.store_us / theirs.store_us


class Row(NamedTuple):
    """Quorate beside something: another store, or itself otherwise."""

    name: str
    """One word, for `--only`."""
    what: str
    against: str
    quorate: Side
    other: Side
    bound: Bound = Bound()
    ratio: Callable[[Measured, Measured], float] = throughput


class Compared(NamedTuple):
    """A row that was measured. All lists are by round."""

    row: Row
    ours: Sequence[Measured]
    theirs: Sequence[Measured]

    @property
    def ratios(self) -> list[float]:
        return [self.row.ratio(*pair) for pair in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def ratio_by_cpu(self) -> float:
        """Operations for a second of the store's processor time, ours over theirs."""
        return median(1 / cost(*pair) for pair in zip(self.ours, self.theirs, strict=True))


class Pace(NamedTuple):
    """How long, how often, and who is told of it."""

    rounds: int
    seconds: float
    """Of each measurement."""
    long_seconds: float
    """Of the measurements of latency over a long time."""
    records: int
    """Kept while memory is measured."""
    is_quick: bool
    """Whether it is only to be seen that all of it runs."""
    tell: Callable[[str], None]


def compare(row: Row, place: Place, pace: Pace) -> Compared:
    """Measure a row; raises Failed."""
    sides = (row.quorate, row.other)
    results: dict[int, list[Measured]] = {0: [], 1: []}
    with started([side.system for side in sides], place, pace.tell) as running:
        for number, side in enumerate(sides):
            side.load.measure(running[number], place, seconds=min(WARM_UP_SECONDS, pace.seconds))
        for turn in range(pace.rounds):
            # Who goes first changes, so that going first helps neither.
            for number in (0, 1) if turn % 2 == 0 else (1, 0):
                side = sides[number]
                result = side.load.measure(running[number], place, seconds=pace.seconds)
                results[number].append(result)
                pace.tell(f"  round {turn + 1}: {side.system.name} {result.per_second:,.0f}/s")
    return Compared(row, results[0], results[1])


@contextmanager
def started(
    systems: Sequence[System], place: Place, tell: Callable[[str], None]
) -> Iterator[list[Running]]:
    """All of them running; one that is given twice runs once. Raises Failed."""
    with ExitStack() as stack:
        running: dict[System, Running] = {}
        for system in systems:
            if system not in running:
                tell(f"  starting {system.name}")
                running[system] = stack.enter_context(system.start(place.below(system.name)))
        yield [running[system] for system in systems]
