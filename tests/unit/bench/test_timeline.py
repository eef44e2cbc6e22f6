# SPDX-License-Identifier: GPL-3.0-or-later
"""Slices of several workers as one, and what they say of availability."""

from __future__ import annotations

from quorate.bench.timeline import Availability, Slice, added, availability


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
