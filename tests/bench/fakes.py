# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores that measure as they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.generator import Measured, StoreLoad
from bench.rounds import Pacing
from bench.systems import Running, Workbench
from quorate.bench.latency import LatencySummary

PACE = Pacing(print, rounds=3, seconds=9.0)


def measured(
    per_second: float,
    *,
    p50_ms: float = 1.0,
    p99_ms: float = 2.0,
    generator_us: float = 0.5,
    store_us: float = 10.0,
    errors: int = 0,
) -> Measured:
    """On two processors."""
    seen = LatencySummary(
        requests=1000,
        per_second=per_second,
        p50_ms=p50_ms,
        p90_ms=1.5,
        p99_ms=p99_ms,
        p999_ms=3.0,
        max_ms=4.0,
    )
    return Measured(seen, errors, generator_us, store_us, processors=2)


@dataclass(frozen=True)
class FakeSystem:
    """Notes in `events` when it starts, is loaded and stops."""

    name: str
    events: list[str]

    def __hash__(self) -> int:
        return len(self.name)

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        self.events.append(f"start {self.name} in {place.directory.name}")
        with Running([]) as running:
            yield running
        self.events.append(f"stop {self.name}")


@dataclass(frozen=True, kw_only=True)
class FakeLoad(StoreLoad):
    """Notes what it was asked, and finds these throughputs, the first while warming up; if there
    are none, as many as it has keys."""

    label: str = ""
    events: list[str] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)

    def measure(self, running: Running, place: Workbench, *, seconds: float) -> Measured:
        del running, place
        at = f" at {self.rate:g}" if self.rate else ""
        self.events.append(f"{self.label}{' GET' if self.reads else ''} {seconds:g}s{at}")
        p99_ms = self.p99s.pop(0) if self.p99s else 2.0
        per_second = self.found.pop(0) if self.found else self.keys + self.reads
        return measured(per_second, p99_ms=p99_ms)
