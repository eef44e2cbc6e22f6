# SPDX-License-Identifier: GPL-3.0-or-later
"""A result adds reads and writes, workers and rounds, and hides no error."""

from __future__ import annotations

import pytest

from quorate.bench.result import Availability, Slice, added, availability, result_of, together
from tests.unit.bench.plans import counts, outcome, plan, result


def test_reads_and_writes_of_all_workers_are_added() -> None:
    one = outcome(reads=counts(1000, 1000), writes=counts(3000), errors={"TIMEOUT": 1}, misses=4)
    other = outcome(reads=counts(2000), errors={"TIMEOUT": 2, "BUSY": 1}, busy=0.9, backlog=7)
    found = result_of(plan(workers=2), [one, other], timelines=[[], []], is_complete=True)
    assert (found.all.requests, found.all.per_second) == (4, 2.0)
    assert (found.reads.requests, found.writes.requests) == (3, 1)
    assert found.all.max_ms == 3.0
    assert found.errors == {"TIMEOUT": 3, "BUSY": 1}
    assert (found.misses, found.backlog) == (4, 7)
    assert (found.generator_busy, found.workers_busy) == (0.9, [0.5, 0.9])
    assert found.key_prefix == "quorate-bench:"
    assert (found.timeline, found.availability) == ([], None)


def test_a_timeline_is_told_if_it_was_asked_for() -> None:
    timeline = [Slice(1, 0, 2.0), Slice(0, 1), Slice(2)]
    found = result(1000, timeline=timeline)
    assert found.timeline == timeline
    assert found.availability == Availability(100, 0.25)


def test_rounds_together_are_one_result_that_keeps_them() -> None:
    one = result(1000, 1000, timeline=[Slice(2), Slice()], errors={"BUSY": 1})
    other = result(1000, 3000, 3000, 3000, timeline=[Slice(), Slice(0, 1)], errors={"BUSY": 1})
    both = together([one, other])
    assert both.rounds == [one, other]
    assert both.seconds == 4.0
    assert (both.all.requests, both.all.per_second) == (6, 1.5)
    assert both.writes.p50_ms == pytest.approx(1.0, rel=0.01)
    assert both.writes.max_ms == 3.0
    assert both.errors == {"BUSY": 2}
    assert both.availability == Availability(200, 1 / 3)
    assert both.workers_busy == [0.5]


def test_one_round_is_itself() -> None:
    one = result(1000)
    assert together([one]) is one


def test_what_workers_saw_at_the_same_time_is_added_and_the_worst_kept() -> None:
    one = [Slice(3, 1, 5.0), Slice(2, 0, 1.0)]
    other = [Slice(4, 0, 7.0)]
    assert added([one, other]) == [Slice(7, 1, 7.0), Slice(2, 0, 1.0)]
    assert added([]) == []


def test_the_longest_gap_is_of_slices_without_a_success() -> None:
    timeline = [Slice(1), Slice(), Slice(1), Slice(0, 4), Slice(), Slice(0, 1), Slice(9)]
    assert availability(timeline, slice_ms=100) == Availability(300, 5 / 16)


def test_a_run_that_always_answers_has_no_gap() -> None:
    assert availability([Slice(1), Slice(2)], slice_ms=100) == Availability(0, 0.0)
    assert availability([], slice_ms=100) == Availability(0, 0.0)
