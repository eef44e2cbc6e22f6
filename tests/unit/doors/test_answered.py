# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts of answers, and histograms of their times."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.answered import BOUNDS_NS, FAILED, OK, Answered, Durations, outcome_word
from quorate.errors import Outcome


@given(times=st.lists(st.integers(0, 20_000_000_000) | st.sampled_from(BOUNDS_NS)))
def test_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed(times: list[int]) -> None:
    durations = Durations()
    counts = [0] * (len(BOUNDS_NS) + 1)
    for ns in times:
        durations.add(ns)
        counts[bisect_left(BOUNDS_NS, ns)] += 1
    assert durations.counts == counts
    assert durations.total_ns == sum(times)


def test_answers_are_counted_by_operation_and_outcome() -> None:
    answered = Answered("redis")
    read, ping = answered.operation("get", answered.reads), answered.operation("ping")
    read.done(OK, 5)
    read.done(OK, 5)
    read.done("failed", 5)
    ping.done(OK, 5)
    assert answered.operation("get") is read
    assert (read.ok, read.errors, ping.ok, ping.errors) == (2, {FAILED: 1}, 1, {})
    assert (sum(answered.reads.counts), sum(answered.writes.counts)) == (3, 0)


def test_an_error_that_tells_no_outcome_is_a_failure() -> None:
    assert outcome_word(None) == FAILED
    assert outcome_word(Outcome.UNKNOWN) == "unknown"
