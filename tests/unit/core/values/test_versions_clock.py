# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps strictly increase, over restarts and clock steps, and stay within the guard (I8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.values.versions import CEILING_STEP_MS, HybridClock, ms_of, stamp_at

WALL_MS = 1_700_000_000_000
SKEW_MS = 1_000


def _ready(wall_ms: int = WALL_MS) -> HybridClock:
    """A clock that has nothing behind it."""
    clock = HybridClock(ceiling=0, skew_ms_max=SKEW_MS)
    clock.begin(wall_ms)
    return clock


def test_a_reading_is_the_latest_clock_heard_of_within_the_guard() -> None:
    clock = _ready()
    assert clock.reading == stamp_at(WALL_MS)
    ahead = stamp_at(WALL_MS + SKEW_MS)
    assert clock.observe(ahead)
    assert clock.reading == ahead
    clock.begin(WALL_MS + 2 * SKEW_MS)
    assert clock.reading == stamp_at(WALL_MS + 2 * SKEW_MS)
    clock.begin(WALL_MS - SKEW_MS)
    assert clock.reading == stamp_at(WALL_MS - SKEW_MS), "the wall clock was set back"


def test_a_ceiling_is_stored_with_the_first_stamp_and_then_twice_a_guard() -> None:
    clock = _ready()
    raised = []
    for wall_ms in range(WALL_MS, WALL_MS + 5 * SKEW_MS):
        clock.begin(wall_ms)
        stamp = clock.next()
        ceiling = clock.raise_ceiling()
        if ceiling:
            raised.append(ms_of(ceiling) - WALL_MS)
        assert raised, "with the first"
        assert stamp <= stamp_at(WALL_MS + raised[-1] + 1)
    assert len(raised) == 10


def test_what_is_kept_without_a_stamp_raises_the_ceiling_past_the_present() -> None:
    """It tells how far a disk is: by half a second however wide the guard."""
    clock = HybridClock(ceiling=0, skew_ms_max=3_600_000)
    clock.begin(WALL_MS)
    assert clock.raise_ceiling() == stamp_at(WALL_MS + CEILING_STEP_MS)
    clock.begin(WALL_MS + CEILING_STEP_MS)
    assert clock.raise_ceiling() == 0
    clock.begin(WALL_MS + CEILING_STEP_MS + 1)
    assert clock.raise_ceiling() == stamp_at(WALL_MS + 2 * CEILING_STEP_MS + 1)


def test_without_a_stamp_above_it_a_ceiling_stays() -> None:
    clock = _ready()
    clock.next()
    assert clock.raise_ceiling()
    assert clock.raise_ceiling() == 0
    clock.next()
    assert clock.raise_ceiling() == 0


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
    assert clock.untrusted_ms() == 2 * SKEW_MS
    clock.begin(WALL_MS - SKEW_MS + 1)
    assert clock.next() == last + 1


def test_a_peer_past_the_guard_does_not_move_the_clock() -> None:
    clock = _ready()
    before = clock.last
    assert not clock.observe(stamp_at(WALL_MS + SKEW_MS + 1))
    assert clock.last == before
    assert clock.observe(stamp_at(WALL_MS + SKEW_MS))
    assert clock.last == stamp_at(WALL_MS + SKEW_MS)


def test_a_clock_that_stepped_back_lowers_no_ceiling() -> None:
    """Though what peers had shown is above it, and the step may ask for a stamp and get none."""
    clock = _ready()
    clock.next()
    ceiling = clock.raise_ceiling()
    assert clock.observe(stamp_at(WALL_MS + SKEW_MS))
    clock.begin(WALL_MS - 3 * SKEW_MS)
    assert clock.next() == 0
    assert clock.raise_ceiling() == 0
    clock.begin(WALL_MS + SKEW_MS)
    clock.next()
    assert clock.raise_ceiling() > ceiling


def test_a_restart_at_once_finds_a_clock_that_peers_accept() -> None:
    """Even where peers had pulled the clock to the guard."""
    clock = _ready()
    assert clock.observe(stamp_at(WALL_MS + SKEW_MS) - 1)
    stamp = clock.next()
    ceiling = clock.raise_ceiling()
    again = HybridClock(ceiling=ceiling, skew_ms_max=SKEW_MS)
    guard = again.begin(WALL_MS)
    assert stamp <= ceiling <= guard
    again.begin(WALL_MS + 2)
    assert again.next() > stamp


@given(st.integers(1, 1 << 47), st.integers(0, 1 << 20))
def test_milliseconds_survive_in_a_stamp(wall_ms: int, skew_ms: int) -> None:
    assert ms_of(stamp_at(wall_ms)) == wall_ms
    assert stamp_at(wall_ms + skew_ms) - stamp_at(wall_ms) == stamp_at(skew_ms)


class ClockMachine(RuleBasedStateMachine):
    """Any mix of stamps, peers' clocks, clock steps, syncs and crashes. A step stamps, and stores
    what it stamped with the ceiling; a sync makes all steps until then durable."""

    @initialize()
    def start(self) -> None:
        self.wall_ms = WALL_MS
        self.steps: list[tuple[int, int]] = []
        """Not durable: the stamp and the ceiling of each, 0 where it stored none."""
        self.durable = self.ceiling = self.last = 0
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
    def a_step_stamps(self, ahead_ms: int) -> None:
        above = stamp_at(self.wall_ms + ahead_ms)
        stamp = self.clock.next(above)
        if stamp:
            assert stamp > max(above, self.last), "a stamp was given out twice"
            assert ms_of(stamp) <= self.wall_ms + SKEW_MS, "past the guard"
            self.last = stamp
        else:
            assert max(self.clock.last, above) >= stamp_at(self.wall_ms + SKEW_MS + 1) - 1
        # A step that was refused a stamp asks too.
        self.steps.append((stamp, self.clock.raise_ceiling()))

    @rule(count=st.integers(1, 4))
    def a_sync_ends(self, count: int) -> None:
        for stamp, ceiling in self.steps[:count]:
            self.durable = stamp or self.durable
            self.ceiling = ceiling or self.ceiling
        del self.steps[:count]

    @rule(reached=st.integers(0, 3))
    def the_node_crashes(self, reached: int) -> None:
        self.a_sync_ends(reached)
        self.steps.clear()
        self.last = self.ceiling
        self.clock = HybridClock(ceiling=self.ceiling, skew_ms_max=SKEW_MS)
        self.clock.begin(self.wall_ms)

    @invariant()
    def what_is_durable_has_a_durable_ceiling(self) -> None:
        assert self.durable <= self.ceiling


TestClock = ClockMachine.TestCase
