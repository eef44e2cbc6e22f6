# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps strictly increase, over restarts and clock steps, and stay within the guard (I8)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.values.clock import HybridClock, ms_of, stamp_at

WALL_MS = 1_700_000_000_000
SKEW_MS = 1_000


def _ready(wall_ms: int = WALL_MS) -> HybridClock:
    """A clock whose ceiling was raised once."""
    clock = HybridClock(ceiling=0, skew_ms_max=SKEW_MS)
    clock.begin(wall_ms)
    clock.raised(clock.wants_ceiling())
    return clock


def test_no_stamp_is_given_out_before_a_ceiling_is_durable() -> None:
    clock = HybridClock(ceiling=0, skew_ms_max=SKEW_MS)
    clock.begin(WALL_MS)
    assert clock.next() == 0
    assert not clock.is_untrusted()
    clock.raised(clock.wants_ceiling())
    assert ms_of(clock.next()) == WALL_MS


def test_a_ceiling_is_asked_for_once() -> None:
    clock = HybridClock(ceiling=0, skew_ms_max=SKEW_MS)
    clock.begin(WALL_MS)
    assert clock.wants_ceiling()
    assert clock.wants_ceiling() == 0


def test_the_ceiling_is_raised_before_it_is_reached() -> None:
    clock = _ready()
    for wall_ms in range(WALL_MS, WALL_MS + 5 * SKEW_MS):
        clock.begin(wall_ms)
        assert clock.next(), f"no stamp after {wall_ms - WALL_MS} ms"
        ceiling = clock.wants_ceiling()
        if ceiling:
            clock.raised(ceiling)


def test_stamps_rise_within_one_millisecond_and_over_a_step_back() -> None:
    clock = _ready()
    first = clock.next()
    assert clock.next() == first + 1
    clock.begin(WALL_MS - SKEW_MS // 2)
    assert clock.next() == first + 2


def test_a_clock_far_behind_what_it_gave_out_is_not_trusted_until_it_catches_up() -> None:
    clock = _ready()
    last = clock.next()
    clock.begin(WALL_MS - 3 * SKEW_MS)
    assert clock.next() == 0
    assert clock.is_untrusted()
    clock.begin(WALL_MS - SKEW_MS + 1)
    assert clock.next() == last + 1


def test_a_peer_past_the_guard_does_not_move_the_clock() -> None:
    clock = _ready()
    before = clock.last
    assert not clock.observe(stamp_at(WALL_MS + SKEW_MS + 1))
    assert clock.last == before
    assert clock.observe(stamp_at(WALL_MS + SKEW_MS))
    assert clock.last == stamp_at(WALL_MS + SKEW_MS)


def test_a_stamp_above_the_ceiling_is_possible_once_it_is_raised_for_it() -> None:
    """A write that must beat a version near the guard waits for one sync, it does not fail."""
    clock = _ready()
    above = stamp_at(WALL_MS + SKEW_MS - 10)
    assert clock.next(above) == 0
    assert not clock.is_untrusted(above)
    clock.raised(clock.wants_ceiling())
    assert clock.next(above) == above + 1


def test_a_restart_at_once_finds_a_clock_that_peers_accept() -> None:
    """Even where peers had pulled the clock to the guard."""
    clock = _ready()
    assert clock.observe(stamp_at(WALL_MS + SKEW_MS))
    clock.raised(clock.wants_ceiling())
    again = HybridClock(ceiling=clock.ceiling, skew_ms_max=SKEW_MS)
    guard = again.begin(WALL_MS)
    assert again.ceiling <= guard
    again.begin(WALL_MS + 2)
    again.raised(again.wants_ceiling())
    assert again.next()


@given(st.integers(1, 1 << 47), st.integers(0, 1 << 20))
def test_milliseconds_survive_in_a_stamp(wall_ms: int, skew_ms: int) -> None:
    assert ms_of(stamp_at(wall_ms)) == wall_ms
    assert stamp_at(wall_ms + skew_ms) - stamp_at(wall_ms) == stamp_at(skew_ms)


class ClockMachine(RuleBasedStateMachine):
    """Any mix of stamps, peers' clocks, clock steps, late ceilings and crashes."""

    @initialize()
    def start(self) -> None:
        self.wall_ms = WALL_MS
        self.durable = 0
        self.asked: list[int] = []
        self.given: list[int] = []
        self.clock = HybridClock(ceiling=0, skew_ms_max=SKEW_MS)
        self.clock.begin(self.wall_ms)

    @rule(step_ms=st.integers(-3_000, 3_000))
    def time_passes_or_steps(self, step_ms: int) -> None:
        self.wall_ms += step_ms
        self.clock.begin(self.wall_ms)

    @rule(ahead_ms=st.integers(-2_000, 2_000))
    def a_peer_shows_its_clock(self, ahead_ms: int) -> None:
        self.clock.observe(stamp_at(self.wall_ms + ahead_ms))

    @rule(ahead_ms=st.integers(-2_000, 2_000))
    def a_stamp_is_wanted(self, ahead_ms: int) -> None:
        above = stamp_at(self.wall_ms + ahead_ms)
        stamp = self.clock.next(above)
        if not stamp:
            return
        assert stamp > above
        assert not self.given or stamp > self.given[-1], "a stamp was given out twice"
        assert ms_of(stamp) <= self.wall_ms + SKEW_MS, "past the guard"
        assert stamp <= self.durable, "not covered by a durable ceiling"
        self.given.append(stamp)

    @rule()
    def a_ceiling_is_asked_for(self) -> None:
        ceiling = self.clock.wants_ceiling()
        if ceiling:
            self.asked.append(ceiling)

    @rule()
    def a_ceiling_becomes_durable(self) -> None:
        if self.asked:
            self.durable = self.asked.pop(0)
            self.clock.raised(self.durable)

    @rule(reached=st.integers(0, 3))
    def the_node_crashes(self, reached: int) -> None:
        for ceiling in self.asked[:reached]:
            self.durable = ceiling
        self.asked.clear()
        self.clock = HybridClock(ceiling=self.durable, skew_ms_max=SKEW_MS)
        self.clock.begin(self.wall_ms)

    @invariant()
    def the_ceiling_is_never_asked_lower(self) -> None:
        assert self.asked == sorted(self.asked)
        assert not self.asked or self.asked[0] > self.durable


TestClock = ClockMachine.TestCase
TestClock.settings = settings(max_examples=50)
