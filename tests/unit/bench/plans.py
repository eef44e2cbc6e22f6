# SPDX-License-Identifier: GPL-3.0-or-later
"""A quick plan, and results as if something had been measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from quorate.bench.latency import Counted, counted
from quorate.bench.plan import LoadPlan
from quorate.bench.result import BenchResult, Slice, WorkerResult, result_of

PLAN = LoadPlan(targets=(("127.0.0.1", 1),), connections=4, keys=200, value_bytes=8, seconds=0.3)


def plan(**changes: Any) -> LoadPlan:
    """The quick plan with some fields otherwise."""
    return msgspec.structs.replace(PLAN, **changes)


def counts(*latencies_us: int) -> Counted:
    """Requests of these latencies, all in time."""
    by_latency: dict[int, int] = {}
    for latency in latencies_us:
        by_latency[latency] = by_latency.get(latency, 0) + 1
    return counted(by_latency, in_time=len(latencies_us))


def outcome(**changes: Any) -> WorkerResult:
    """What a worker says that ran for 2 seconds and answered nothing, but for the changes."""
    nothing = Counted(0, 0, "")
    same = WorkerResult(
        seconds=2.0, reads=nothing, writes=nothing, misses=0, errors={}, backlog=0, busy=0.5
    )
    return msgspec.structs.replace(same, **changes)


def result(
    *write_us: int,
    timeline: list[Slice] | None = None,
    errors: Mapping[str, int] | None = None,
    **changes: Any,
) -> BenchResult:
    """Writes of these latencies in 2 seconds; `changes` are of the plan."""
    ended = outcome(writes=counts(*write_us), errors=dict(errors or {}))
    timeline_ms = 100 if timeline else 0
    of = plan(timeline_ms=timeline_ms, **changes)
    return result_of(of, [ended], timelines=[timeline or []], is_complete=True)
