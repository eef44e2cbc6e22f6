# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load adds up to: throughput, latency percentiles, errors by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from quorate.bench.load import Load
from quorate.bench.measure import Plan
from quorate.bench.protocols import KEY_PREFIX

_MICROSECONDS_MAX: Final = 600_000_000


class Summary(NamedTuple):
    """Requests of one kind. Latencies in milliseconds, 0 if there were none."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def summarise(counts: Mapping[int, int], *, seconds: float) -> Summary:
    """Add up requests by latency in microseconds."""
    from hdrh.histogram import HdrHistogram  # Late: it costs more than all the rest of a command.

    histogram = HdrHistogram(1, _MICROSECONDS_MAX, 3)
    for microseconds, count in counts.items():
        histogram.record_value(min(max(microseconds, 1), _MICROSECONDS_MAX), count)
    requests = sum(counts.values())
    highest = max(counts, default=0)
    # The histogram answers with the end of a bucket, which may lie above all that was recorded.
    p50, p99, p999 = (
        min(histogram.get_value_at_percentile(percentile), highest) / 1000
        for percentile in (50, 99, 99.9)
    )
    return Summary(requests, requests / seconds if seconds else 0.0, p50, p99, p999, highest / 1000)


def report(plan: Plan, load: Load) -> dict[str, object]:
    """Everything about a run, as JSON has it. Requests answered with an error are in `requests`
    of their kind, and in `errors`."""
    both = dict(load.read_counts)
    for microseconds, count in load.write_counts.items():
        both[microseconds] = both.get(microseconds, 0) + count
    return {
        "plan": plan._asdict(),
        "key_prefix": KEY_PREFIX,
        "seconds": round(load.seconds, 3),
        "all": summarise(both, seconds=load.seconds)._asdict(),
        "reads": summarise(load.read_counts, seconds=load.seconds)._asdict(),
        "writes": summarise(load.write_counts, seconds=load.seconds)._asdict(),
        "misses": load.tally.misses,
        "errors": dict(load.tally.errors),
    }
