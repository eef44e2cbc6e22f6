# SPDX-License-Identifier: GPL-3.0-or-later
"""One plan at several rates, or with several numbers of connections, and where the knee is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Literal

import msgspec

from quorate.bench.plan import LoadPlan
from quorate.bench.result import BenchResult

_P99_TIMES: Final = 10
_ACHIEVED_LEAST: Final = 0.95
_GAIN_LEAST: Final = 1.1
_FIRST_RATE: Final = 1000.0
_LAST_RATE: Final = 1_024_000.0
_NARROWINGS: Final = 2

KNEE: Final = {
    "rate": f"the first rate at which less than {_ACHIEVED_LEAST} of it was answered, or p99 was"
    f" over {_P99_TIMES} times that at the lowest rate",
    "connections": "the first number of connections that brought less than"
    f" {_GAIN_LEAST} times the throughput of the number before",
}

Measuring = Callable[[LoadPlan], BenchResult]


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Points in ascending order."""

    of: Literal["connections", "rate"]
    knee: float | None
    """None: it was not reached."""
    knee_means: str
    points: list[BenchResult]


def sweep_connections(plan: LoadPlan, numbers: Sequence[int], measure: Measuring) -> Sweep:
    """A point for each number of connections."""
    points: list[BenchResult] = []
    for number in sorted(numbers):
        workers = min(plan.workers, number)
        points.append(measure(msgspec.structs.replace(plan, connections=number, workers=workers)))
        if not points[-1].is_complete:
            break
    knees = (
        float(after.plan.connections)
        for before, after in pairwise(points)
        if after.all.per_second < _GAIN_LEAST * before.all.per_second
    )
    return Sweep(
        of="connections", knee=next(knees, None), knee_means=KNEE["connections"], points=points
    )


def sweep_rates(plan: LoadPlan, rates: Sequence[float], measure: Measuring) -> Sweep:
    """A point for each rate."""
    points: list[BenchResult] = []
    for rate in sorted(rates):
        points.append(measure(msgspec.structs.replace(plan, rate=rate)))
        if not points[-1].is_complete:
            break
    return _of_rates(points)


def find_rates(plan: LoadPlan, measure: Measuring) -> Sweep:
    """Double the rate until the knee, then look more closely just before it."""
    points: list[BenchResult] = []

    def add(rate: float) -> bool:
        """Whether to go on: there is no end yet."""
        points.append(measure(msgspec.structs.replace(plan, rate=rate)))
        points.sort(key=lambda point: point.plan.rate)
        return all(point.is_complete for point in points)

    rate = _FIRST_RATE
    while add(rate) and _of_rates(points).knee is None and rate < _LAST_RATE:
        rate *= 2
    for _ in range(_NARROWINGS):
        knee = _of_rates(points).knee
        below = [point.plan.rate for point in points if knee and point.plan.rate < knee]
        if not below or not add((below[-1] + (knee or 0.0)) / 2):
            break
    return _of_rates(points)


def _of_rates(points: list[BenchResult]) -> Sweep:
    p99_most = _P99_TIMES * points[0].all.p99_ms
    knees = (
        point.plan.rate
        for point in points
        if point.all.per_second < _ACHIEVED_LEAST * point.plan.rate or point.all.p99_ms > p99_most
    )
    return Sweep(of="rate", knee=next(knees, None), knee_means=KNEE["rate"], points=points)
