# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores that measure as they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.loads import Measured
from bench.rounds import Bound, Pace, Row, Side
from bench.systems import Place, Running

PACE = Pace(rounds=3, seconds=9.0, long_seconds=0.0, records=0, is_quick=False, tell=print)


def measured(
    per_second: float, *, generator_cores: float = 0.1, generators: int = 1, errors: int = 0
) -> Measured:
    """With 10 us of the store for an operation, on two processors."""
    return Measured(
        per_second=per_second,
        p50_ms=1.0,
        p99_ms=2.0,
        p999_ms=3.0,
        errors=errors,
        generator_cores=generator_cores,
        generators=generators,
        store_us=10.0,
        processors=2,
    )


@dataclass(frozen=True)
class FakeSystem:
    """Notes in `events` when it starts, is loaded and stops."""

    name: str
    events: list[str]

    def __hash__(self) -> int:
        return len(self.name)

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        self.events.append(f"start {self.name} in {place.directory.name}")
        with Running([]) as running:
            yield running
        self.events.append(f"stop {self.name}")


class FakeLoad:
    """Finds these throughputs, the first while warming up."""

    def __init__(self, name: str, events: list[str], found: list[float]) -> None:
        self.name = name
        self._events = events
        self._found = found

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        del running, place
        self._events.append(f"{self.name} {seconds:g}s")
        return measured(self._found.pop(0))


def row(ours: Side, theirs: Side, bound: Bound) -> Row:
    return Row("row", "a thing", "another", ours, theirs, bound)
