# SPDX-License-Identifier: GPL-3.0-or-later
"""The hybrid logical clock that stamps versions (Kulkarni et al. 2014), with a persisted ceiling.

A stamp is 64 bits: 48 of wall-clock milliseconds, 16 of counter. Invariants: stamps of one node
strictly increase, over restarts too, because no stamp above `ceiling` is given out and the ceiling
is durable before it counts; no stamp is further than `skew_ms_max` ahead of this node's wall clock,
because peers would refuse it.

The ceiling is raised half a guard at a time, and never past the guard: after a crash the clock
starts at it, and must not then be so far ahead that peers refuse this node.
"""

from __future__ import annotations

from typing import Final

COUNTER_BITS: Final = 16


def stamp_at(wall_ms: int) -> int:
    """The first stamp of a millisecond."""
    return wall_ms << COUNTER_BITS


def ms_of(stamp: int) -> int:
    """The millisecond of a stamp."""
    return stamp >> COUNTER_BITS


class HybridClock:
    """One node's clock. Call `begin` at the start of each step."""

    __slots__ = (
        "_asked",
        "_floor",
        "_guard",
        "_last",
        "_limit",
        "_skew_ms_max",
        "_wanted",
        "ceiling",
    )

    def __init__(self, *, ceiling: int, skew_ms_max: int) -> None:
        self.ceiling = ceiling
        """The highest stamp that may be given out; what is persisted."""
        self._asked = ceiling
        # Everything up to the ceiling may have been given out before a restart.
        self._last = ceiling
        self._wanted = 0
        """The highest stamp that only the ceiling forbade."""
        self._skew_ms_max = skew_ms_max
        self._floor = 0
        self._guard = 0
        self._limit = 0

    @property
    def last(self) -> int:
        """The highest stamp given out or observed."""
        return self._last

    def begin(self, wall_ms: int) -> int:
        """Note the wall clock. Returns the highest stamp to accept from anyone in this step."""
        self._floor = stamp_at(wall_ms)
        self._guard = stamp_at(wall_ms + self._skew_ms_max + 1) - 1
        self._limit = min(self._guard, self.ceiling)
        return self._guard

    def observe(self, stamp: int) -> bool:
        """Advance to a peer's clock. False, and nothing changes, if it is past the guard."""
        if stamp > self._guard:
            return False
        if stamp > self._last:
            self._last = stamp
        return True

    def next(self, above: int = 0) -> int:
        """A new stamp higher than `above` and than all before; 0 if it may not be given out now.

        Then either `wants_ceiling` is positive and it will be possible once that is durable, or
        `is_untrusted(above)`: the wall clock is too far behind what was seen.
        """
        stamp = self._last + 1
        if stamp < self._floor:
            stamp = self._floor
        if stamp <= above:
            stamp = above + 1
        if stamp > self._limit:
            if stamp <= self._guard:
                self._wanted = max(self._wanted, stamp)
            return 0
        self._last = stamp
        return stamp

    def is_untrusted(self, above: int = 0) -> bool:
        """Whether a stamp above `above` would be past the guard, ceiling or not."""
        return max(self._last, above) >= self._guard

    def untrusted_ms(self, above: int = 0) -> int:
        """Milliseconds until it will not be so, if the wall clock goes on evenly."""
        return max(ms_of(max(self._last, above) - self._guard), 0) + 1

    def wants_ceiling(self) -> int:
        """The ceiling to persist now, or 0. Asked once: tell `raised` when it is durable."""
        half = stamp_at(self._skew_ms_max) // 2
        now = max(self._last, self._floor, self._wanted)
        ceiling = min(now + half, self._guard)
        if self._asked - now > half // 2 or ceiling <= self._asked:
            return 0
        self._asked = ceiling
        return ceiling

    def raised(self, ceiling: int) -> None:
        """`ceiling` is durable."""
        if ceiling > self.ceiling:
            self.ceiling = ceiling
            self._limit = min(self._guard, ceiling)
