# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles against the obvious way: sort everything and look."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench.latency import LatencySummary, counted, curve, parts_of, summary

LATENCIES = st.lists(st.integers(1, 10_000_000), min_size=1, max_size=200)


@given(st.lists(LATENCIES, min_size=1, max_size=3))
def test_percentiles_of_all_workers_are_those_of_one_sorted_list(
    workers: list[list[int]],
) -> None:
    parts = [counted(Counter(each), in_time=len(each)) for each in workers]
    found = summary(parts, seconds=2.0)
    ordered = sorted(latency for each in workers for latency in each)

    def exact(percent: float) -> float:
        rank = max(1, int(percent / 100 * len(ordered) + 0.5))
        return ordered[rank - 1] / 1000

    assert found.requests == len(ordered)
    assert found.per_second == len(ordered) / 2
    assert found.max_ms == ordered[-1] / 1000
    # Three significant digits.
    assert found.p50_ms == pytest.approx(exact(50), rel=0.002)
    assert found.p90_ms == pytest.approx(exact(90), rel=0.002)
    assert found.p99_ms == pytest.approx(exact(99), rel=0.002)
    assert found.p999_ms == pytest.approx(exact(99.9), rel=0.002)
    assert found.p999_ms <= found.max_ms


def test_nothing_measured_is_all_zero() -> None:
    assert summary([counted({}, in_time=0)], seconds=0.0) == LatencySummary(
        0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    )


def test_latencies_beyond_the_scale_are_kept_at_its_ends() -> None:
    assert summary([counted({0: 1, 10**12: 1}, in_time=2)], seconds=1.0).requests == 2


def test_late_answers_count_in_percentiles_and_not_in_throughput() -> None:
    found = summary([counted({1000: 8, 9000: 2}, in_time=8)], seconds=2.0)
    assert (found.requests, found.per_second, found.max_ms) == (10, 4.0, 9.0)


def test_a_summary_can_be_added_to_others_again() -> None:
    part = counted({1000: 8, 9000: 2}, in_time=8)
    one = summary([part], seconds=2.0)
    assert parts_of(one, seconds=2.0) == part


def test_the_curve_rises_to_the_worst() -> None:
    one = summary([counted({1000: 900, 2000: 99, 50_000: 1}, in_time=1000)], seconds=1.0)
    points = curve(one)
    assert points == sorted(points)
    assert [percentile for percentile, _ in points[::10]] == pytest.approx([0, 90, 99, 99.9])
    assert [ms for _, ms in points[::10]] == pytest.approx([1.0, 1.0, 2.0, 2.0], rel=0.002)
    assert points[-1][1] == pytest.approx(50.0, rel=0.002)
    alone = curve(summary([counted({9000: 1}, in_time=1)], seconds=1.0))
    assert {ms for _, ms in alone} == {9.0}
    assert curve(summary([], seconds=1.0)) == []
