# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row is, what measuring one finds, and the ways to measure with load.

Two sides run at once and are loaded in turn, so that what else the machine does meets both. The
median of the rounds is the row's value; all of them are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Final, NamedTuple

from bench.generator import Measured, StoreLoad
from bench.systems import Deployment, Workbench, started

WARM_UP_SECONDS: Final = 3.0


class Pacing(NamedTuple):
    """How long, how often, and who is told of it."""

    tell: Callable[[str], None]
    rounds: int = 3
    seconds: float = 10.0
    """Of each measurement."""
    long_seconds: float = 600.0
    """Of the measurements of latency over a long time."""
    records: int = 1_000_000
    """Kept while memory is measured."""
    is_quick: bool = False
    """Whether it is only to be seen that all of it runs."""


class Bound(NamedTuple):
    """What a row's value is to be: `at_least` or `at_most`; a row that only informs has none."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a value is within."""
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and (high is None or value <= high)


NO_BOUND: Final = Bound()


class Side(NamedTuple):
    """A store with what it is asked for, and what each round measured."""

    name: str
    measured: Sequence[Measured]

    @property
    def store_us(self) -> float:
        return median(each.store_us for each in self.measured)

    @property
    def generator_us(self) -> float:
        return median(each.generator_us for each in self.measured)


class RowFound(NamedTuple):
    """What measuring a row found."""

    values: Sequence[float]
    """By round. None at all: the row is a table of its sides."""
    sides: Sequence[Side] = ()
    """All that was loaded, Quorate first."""
    is_by_rate: bool = False
    """Whether the values are of throughputs, which a generator can hold down."""


Measure = Callable[[Workbench, Pacing], RowFound]


class BenchRow(NamedTuple):
    """A line of the page."""

    name: str
    """One word, for `--only`."""
    what: str
    against: str
    """Or how, if it is measured against nothing."""
    measure: Measure
    bound: Bound = NO_BOUND
    unit: str = ""
    """Of the value; empty: it is a ratio."""
    is_long: bool = False


Figure = Callable[[Measured, Measured], float]


def throughput(ours: Measured, theirs: Measured) -> float:
    """Operations per second, ours over theirs."""
    return ours.seen.per_second / theirs.seen.per_second


def cost(ours: Measured, theirs: Measured) -> float:
    """Processor time of the whole store for an operation, ours over theirs."""
    return ours.store_us / theirs.store_us


def latency(ours: Measured, theirs: Measured) -> float:
    """The median latency, ours over theirs."""
    return ours.seen.p50_ms / theirs.seen.p50_ms


class Contender(NamedTuple):
    """A store, and what it is asked for."""

    says: str
    """What that is, and what an answer promises."""
    system: Deployment
    load: StoreLoad


def beside(
    name: str,
    ours: Contender,
    theirs: Contender,
    bound: Bound = NO_BOUND,
    *,
    figure: Figure = throughput,
) -> BenchRow:
    """The row of the ratio of a figure."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        sides = _measure_in_turn((ours, theirs), place, pace)
        pairs = zip(*(side.measured for side in sides), strict=True)
        return RowFound([figure(*pair) for pair in pairs], sides, figure is throughput)

    return BenchRow(name, ours.says, theirs.says, measure, bound)


def alone(system: Deployment, load: StoreLoad) -> Measure:
    """Measures operations per second."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        sides = _measure_in_turn([Contender("", system, load)], place, pace)
        return RowFound([each.seen.per_second for each in sides[0].measured], sides)

    return measure


def _measure_in_turn(asked: Sequence[Contender], place: Workbench, pace: Pacing) -> list[Side]:
    results: list[list[Measured]] = [[] for _ in asked]
    with started([each.system for each in asked], place) as running:
        for store, each in zip(running, asked, strict=True):
            warm_up = replace(each.load, rate=0.0)
            warm_up.measure(store, place, seconds=min(WARM_UP_SECONDS, pace.seconds))
        for turn in range(pace.rounds):
            # Who goes first changes, so that going first helps neither.
            for number in range(len(asked))[:: 1 if turn % 2 == 0 else -1]:
                _, system, load = asked[number]
                result = load.measure(running[number], place, seconds=pace.seconds)
                results[number].append(result)
                pace.tell(f"  round {turn + 1}: {system.name} {result.seen.per_second:,.0f}/s")
    named = (f"{system.name}, {load.name}" for _, system, load in asked)
    return [Side(name, result) for name, result in zip(named, results, strict=True)]
