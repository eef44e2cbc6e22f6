# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run adds up to: plain data, the same in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, zip_longest
from typing import Any, Final

import msgspec

from quorate.bench.interpreter import interpreter
from quorate.bench.latency import Counted, LatencySummary, parts_of, summary
from quorate.bench.plan import LoadPlan
from quorate.bench.protocols import KEY_PREFIX

KINDS: Final = ("all", "reads", "writes")
FIGURES: Final = ("requests", "per_second", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
"""Of a summary, in the order of every table."""


class Slice(msgspec.Struct, frozen=True):
    """What came in within one slice, late answers in that of their arrival."""

    succeeded: int = 0
    errors: int = 0
    worst_ms: float = 0.0


class Availability(msgspec.Struct, frozen=True):
    """How a run looks to whoever only asks whether it worked."""

    longest_gap_ms: int
    """The longest time without a success, in whole slices."""
    failed_share: float
    """Of all that were answered or lost, 0 to 1."""


class WorkerResult(msgspec.Struct, frozen=True):
    """What one worker has to say in the end."""

    seconds: float
    reads: Counted
    writes: Counted
    misses: int
    errors: dict[str, int]
    backlog: int
    """Requests that were due before the end and not sent by then."""
    busy: float
    """The worker's processor time as a share of the time that went by."""


class NodeFault(msgspec.Struct, frozen=True):
    """What was done to a node during a run; seconds count from its beginning."""

    kind: str
    node: str
    begun_s: float
    ended_s: float


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run. Requests answered with an error are in `requests` of their kind, and
    in `errors`; requests that were lost are in `errors` alone."""

    plan: LoadPlan
    key_prefix: str = KEY_PREFIX
    interpreter: str = ""
    """What the generator ran on, and the nodes that it started."""
    seconds: float
    all: LatencySummary
    reads: LatencySummary
    writes: LatencySummary
    misses: int
    """Reads of keys that are not there."""
    errors: dict[str, int]
    generator_busy: float
    """The busiest worker's processor time as a share of the time that went by. Near 1 the generator
    was the bottleneck."""
    workers_busy: list[float]
    backlog: int
    """In an open loop, requests that were due before the end and not sent by then."""
    is_complete: bool = True
    """False if it was interrupted."""
    timeline: list[Slice] = []
    availability: Availability | None = None
    faults: list[NodeFault] = []
    rounds: list[BenchResult] = []
    """What this is the sum of, if it was measured several times."""

    def of(self, kind: str) -> LatencySummary:
        """The summary of `all`, `reads` or `writes`."""
        one: LatencySummary = getattr(self, kind)
        return one


def result_of(
    plan: LoadPlan,
    outcomes: Sequence[WorkerResult],
    *,
    timelines: Sequence[Sequence[Slice]],
    is_complete: bool,
) -> BenchResult:
    """What all workers together saw."""
    timeline = added(timelines) if plan.timeline_ms else []
    return _whole(
        plan,
        outcomes,
        seconds=max((each.seconds for each in outcomes), default=0.0),
        reads=[each.reads for each in outcomes],
        writes=[each.writes for each in outcomes],
        generator_busy=max((each.busy for each in outcomes), default=0.0),
        workers_busy=[each.busy for each in outcomes],
        backlog=sum(each.backlog for each in outcomes),
        is_complete=is_complete,
        timeline=timeline,
        availability=availability(timeline, slice_ms=plan.timeline_ms) if timeline else None,
    )


def together(rounds: Sequence[BenchResult]) -> BenchResult:
    """Several rounds of one plan as one; a single one is itself."""
    if len(rounds) == 1:
        return rounds[0]
    return _whole(
        rounds[0].plan,
        rounds,
        seconds=sum(each.seconds for each in rounds),
        reads=[parts_of(each.reads, seconds=each.seconds) for each in rounds],
        writes=[parts_of(each.writes, seconds=each.seconds) for each in rounds],
        generator_busy=max(each.generator_busy for each in rounds),
        workers_busy=[max(same) for same in zip(*(e.workers_busy for e in rounds), strict=True)],
        backlog=max(each.backlog for each in rounds),
        is_complete=all(each.is_complete for each in rounds),
        availability=_availability(rounds),
        rounds=list(rounds),
    )


def _whole(
    plan: LoadPlan,
    parts: Sequence[WorkerResult | BenchResult],
    *,
    seconds: float,
    reads: list[Counted],
    writes: list[Counted],
    **more: Any,
) -> BenchResult:
    """The result of which these are parts; `more`: its fields that are not simply added up."""
    errors: Counter[str] = Counter()
    for each in parts:
        errors.update(each.errors)
    return BenchResult(
        plan=plan,
        interpreter=interpreter(),
        seconds=round(seconds, 3),
        all=summary(reads + writes, seconds=seconds),
        reads=summary(reads, seconds=seconds),
        writes=summary(writes, seconds=seconds),
        misses=sum(each.misses for each in parts),
        errors=dict(errors.most_common()),
        **more,
    )


def _availability(rounds: Sequence[BenchResult]) -> Availability | None:
    """The longest gap within a round, and the share of all that failed."""
    gaps = [each.availability.longest_gap_ms for each in rounds if each.availability]
    if not gaps:
        return None
    slices = [one for each in rounds for one in each.timeline]
    whole = availability(slices, slice_ms=rounds[0].plan.timeline_ms)
    return Availability(max(gaps), whole.failed_share)


def added(timelines: Sequence[Sequence[Slice]]) -> list[Slice]:
    """What several workers saw at the same time, as one."""
    return [
        Slice(
            sum(each.succeeded for each in same),
            sum(each.errors for each in same),
            max(each.worst_ms for each in same),
        )
        for same in zip_longest(*timelines, fillvalue=Slice())
    ]


def availability(timeline: Sequence[Slice], *, slice_ms: int) -> Availability:
    """The summary of a timeline."""
    by_gap = groupby(timeline, lambda each: each.succeeded == 0)
    gaps = [len(list(group)) for is_gap, group in by_gap if is_gap]
    errors = sum(each.errors for each in timeline)
    ended = errors + sum(each.succeeded for each in timeline)
    return Availability(max(gaps, default=0) * slice_ms, errors / ended if ended else 0.0)
