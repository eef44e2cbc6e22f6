# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run adds up to: plain data, the same in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from quorate.bench.interpreter import interpreter
from quorate.bench.latency import Counted, Summary, parts_of, summary
from quorate.bench.plan import Plan
from quorate.bench.protocols import KEY_PREFIX
from quorate.bench.timeline import Availability, Slice, added, availability

KINDS: Final = ("all", "reads", "writes")
FIGURES: Final = ("requests", "per_second", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
"""Of a summary, in the order of every table."""


class Outcome(msgspec.Struct, frozen=True):
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


class Fault(msgspec.Struct, frozen=True):
    """What was done to a node during a run; seconds count from its beginning."""

    kind: str
    node: str
    begun_s: float
    ended_s: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run. Requests answered with an error are in `requests` of their kind, and
    in `errors`; requests that were lost are in `errors` alone."""

    plan: Plan
    key_prefix: str = KEY_PREFIX
    interpreter: str = ""
    """What the generator ran on, and the nodes that it started."""
    seconds: float
    all: Summary
    reads: Summary
    writes: Summary
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
    faults: list[Fault] = []
    rounds: list[Result] = []
    """What this is the sum of, if it was measured several times."""

    def of(self, kind: str) -> Summary:
        """The summary of `all`, `reads` or `writes`."""
        one: Summary = getattr(self, kind)
        return one


def result_of(
    plan: Plan,
    outcomes: Sequence[Outcome],
    *,
    timelines: Sequence[Sequence[Slice]],
    is_complete: bool,
) -> Result:
    """What all workers together saw."""
    seconds = max((each.seconds for each in outcomes), default=0.0)
    reads = [each.reads for each in outcomes]
    writes = [each.writes for each in outcomes]
    timeline = added(timelines) if plan.timeline_ms else []
    return Result(
        plan=plan,
        interpreter=interpreter(),
        seconds=round(seconds, 3),
        all=summary(reads + writes, seconds=seconds),
        reads=summary(reads, seconds=seconds),
        writes=summary(writes, seconds=seconds),
        misses=sum(each.misses for each in outcomes),
        errors=_errors(each.errors for each in outcomes),
        generator_busy=max((each.busy for each in outcomes), default=0.0),
        workers_busy=[each.busy for each in outcomes],
        backlog=sum(each.backlog for each in outcomes),
        is_complete=is_complete,
        timeline=timeline,
        availability=availability(timeline, slice_ms=plan.timeline_ms) if timeline else None,
    )


def together(rounds: Sequence[Result]) -> Result:
    """Several rounds of one plan as one; a single one is itself."""
    if len(rounds) == 1:
        return rounds[0]
    seconds = sum(each.seconds for each in rounds)
    return Result(
        plan=rounds[0].plan,
        interpreter=rounds[0].interpreter,
        seconds=round(seconds, 3),
        all=_summed(rounds, "all", seconds),
        reads=_summed(rounds, "reads", seconds),
        writes=_summed(rounds, "writes", seconds),
        misses=sum(each.misses for each in rounds),
        errors=_errors(each.errors for each in rounds),
        generator_busy=max(each.generator_busy for each in rounds),
        workers_busy=[max(same) for same in zip(*(e.workers_busy for e in rounds), strict=True)],
        backlog=max(each.backlog for each in rounds),
        is_complete=all(each.is_complete for each in rounds),
        availability=_availability(rounds),
        rounds=list(rounds),
    )


def _summed(rounds: Sequence[Result], kind: str, seconds: float) -> Summary:
    parts = [parts_of(each.of(kind), seconds=each.seconds) for each in rounds]
    return summary(parts, seconds=seconds)


def _errors(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def _availability(rounds: Sequence[Result]) -> Availability | None:
    """The longest gap within a round, and the share of all that failed."""
    gaps = [each.availability.longest_gap_ms for each in rounds if each.availability]
    if not gaps:
        return None
    slices = [one for each in rounds for one in each.timeline]
    whole = availability(slices, slice_ms=rounds[0].plan.timeline_ms)
    return Availability(max(gaps), whole.failed_share)
