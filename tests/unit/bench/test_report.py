# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles against the obvious way: sort everything and look."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench.load import Load
from quorate.bench.measure import Plan
from quorate.bench.report import Summary, report, summarise


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_sorted_list(latencies: list[int]) -> None:
    summary = summarise(Counter(latencies), seconds=2.0)
    ordered = sorted(latencies)

    def exact(percent: float) -> float:
        rank = max(1, int(percent / 100 * len(ordered) + 0.5))
        return ordered[rank - 1] / 1000

    assert summary.requests == len(latencies)
    assert summary.per_second == len(latencies) / 2
    assert summary.max_ms == ordered[-1] / 1000
    assert summary.p50_ms <= summary.p99_ms <= summary.p999_ms <= summary.max_ms
    # Three significant digits.
    assert summary.p50_ms == pytest.approx(exact(50), rel=0.002)
    assert summary.p99_ms == pytest.approx(exact(99), rel=0.002)
    assert summary.p999_ms == pytest.approx(exact(99.9), rel=0.002)


def test_nothing_measured_is_all_zero() -> None:
    assert summarise({}, seconds=0.0) == Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_latencies_beyond_the_scale_are_kept_at_its_ends() -> None:
    assert summarise({0: 1, 10**12: 1}, seconds=1.0).requests == 2


def test_a_report_adds_reads_and_writes_and_hides_no_error() -> None:
    load = Load([], lambda _: None)
    load.close()
    load.seconds = 2.0
    load.read_counts.update({1000: 3, 2000: 1})
    load.write_counts.update({1000: 2})
    load.tally.errors["TIMEOUT"] = 1
    load.tally.misses = 4
    plan = Plan([("a", 1)], "resp", 1, 1, 1, 1, 0.5, 0, 2.0)
    result = report(plan, load)
    everything, reads = result["all"], result["reads"]
    assert isinstance(everything, dict)
    assert isinstance(reads, dict)
    assert (everything["requests"], everything["per_second"]) == (6, 3.0)
    assert reads["requests"] == 4
    assert result["key_prefix"] == "quorate-bench:"
    assert (result["misses"], result["errors"]) == (4, {"TIMEOUT": 1})
