# SPDX-License-Identifier: GPL-3.0-or-later
"""The waits between tries."""

from __future__ import annotations

import random

from quorate.host.backoff import FIRST_MS, LONGEST_MS, Backoff


class Highest(random.Random):
    """Always the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def test_the_same_generator_gives_the_same_waits() -> None:
    one, two, other = (Backoff(random.Random(seed)) for seed in (1, 1, 2))
    waits = [one.next_ms() for _ in range(20)]
    assert waits == [two.next_ms() for _ in range(20)]
    assert waits != [other.next_ms() for _ in range(20)]


def test_the_ceiling_doubles_up_to_the_longest_and_falls_back_at_a_success() -> None:
    backoff = Backoff(Highest())
    assert [backoff.next_ms() for _ in range(8)] == [50, 100, 200, 400, 800, 1600, 2000, 2000]
    backoff.reset()
    assert backoff.next_ms() == FIRST_MS


def test_waits_are_spread_over_the_whole_range_below_the_ceiling() -> None:
    backoff = Backoff(random.Random(7))
    for _ in range(10):
        backoff.next_ms()
    waits = [backoff.next_ms() for _ in range(2000)]
    assert 0 <= min(waits) < 0.1 * LONGEST_MS
    assert 0.9 * LONGEST_MS < max(waits) <= LONGEST_MS
