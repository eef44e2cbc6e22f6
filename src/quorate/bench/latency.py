# SPDX-License-Identifier: GPL-3.0-or-later
"""Latencies added up in HDR histograms: three significant digits from 1 us to 10 minutes.

A histogram travels as text, in HdrHistogram's own compressed form (V2), which other tools read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

_MICROSECONDS_MAX: Final = 600_000_000
_CURVE_POINTS_PER_DECADE: Final = 10


class Counted(msgspec.Struct, frozen=True):
    """Answered requests of one kind, as a worker counted them."""

    in_time: int
    """Those answered before the end."""
    max_us: int
    histogram: str
    """Of all that were answered, those after the end too; empty if there are none."""


class LatencySummary(msgspec.Struct, frozen=True):
    """Requests of one kind. Latencies in milliseconds, 0 if there were none."""

    requests: int
    per_second: float
    """Of those that were answered before the end."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram: str = ""
    """In microseconds; empty if there is none."""


def counted(counts: Mapping[int, int], *, in_time: int) -> Counted:
    """Requests by latency in microseconds."""
    if not counts:
        return Counted(0, 0, "")
    histogram = _empty()
    for microseconds, count in counts.items():
        histogram.record_value(min(max(microseconds, 1), _MICROSECONDS_MAX), count)
    return Counted(in_time, max(counts), histogram.encode().decode())


def summary(parts: Iterable[Counted], *, seconds: float) -> LatencySummary:
    """All parts together."""
    parts = list(parts)
    histogram = _merged(part.histogram for part in parts)
    in_time = sum(part.in_time for part in parts)
    highest = max((part.max_us for part in parts), default=0)
    # The histogram answers with the end of a bucket, which may lie above all that was recorded.
    p50, p90, p99, p999 = (
        min(histogram.get_value_at_percentile(each), highest) / 1000 for each in (50, 90, 99, 99.9)
    )
    return LatencySummary(
        histogram.total_count,
        in_time / seconds if seconds else 0.0,
        p50,
        p90,
        p99,
        p999,
        highest / 1000,
        histogram.encode().decode() if histogram.total_count else "",
    )


def parts_of(one: LatencySummary, *, seconds: float) -> Counted:
    """What a summary was made of, to be added to others."""
    return Counted(round(one.per_second * seconds), round(one.max_ms * 1000), one.histogram)


def curve(one: LatencySummary) -> list[tuple[float, float]]:
    """Latency by percentile: pairs of a percentile below 100, and milliseconds, ascending. Each is
    that much rarer than the one before, down to the worst request alone."""
    if not one.histogram:
        return []
    # Past half a request a percentile is rounded to the last one.
    count = math.floor(math.log10(2 * one.requests) * _CURVE_POINTS_PER_DECADE) + 1
    percentiles = [100 - 10 ** (2 - place / _CURVE_POINTS_PER_DECADE) for place in range(count + 1)]
    found = _merged([one.histogram]).get_percentile_to_value_dict(percentiles)
    return [(each, min(found[each] / 1000, one.max_ms)) for each in percentiles]


def _merged(encoded: Iterable[str]) -> HdrHistogram:
    whole = _empty()
    for text in encoded:
        if text:
            whole.decode_and_add(text)
    return whole


def _empty() -> HdrHistogram:
    from hdrh.histogram import HdrHistogram  # Late: it costs more than all the rest of a command.

    return HdrHistogram(1, _MICROSECONDS_MAX, 3)
