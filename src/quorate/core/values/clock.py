# SPDX-License-Identifier: GPL-3.0-or-later
"""The hybrid logical clock that stamps versions (Kulkarni et al. 2014), with a persisted ceiling.

A stamp is 64 bits: 48 of wall-clock milliseconds, 16 of counter. Invariants: stamps of one process
strictly increase; no stamp is further than `skew_ms_max` ahead of this node's wall clock, because
peers would refuse it; what is stored with a stamp is stored with, or behind, a ceiling at or above
it, and a process begins at the ceiling that it finds. Nothing waits for that to be durable
(docs/design.md, "Versions and re-stamping", says why nothing needs to).

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

    __slots__ = ("_ceiling", "_floor", "_guard", "_last", "_skew_ms_max")

    def __init__(self, *, ceiling: int, skew_ms_max: int) -> None:
        self._ceiling = ceiling
        # Everything up to the ceiling may have been given out before a restart.
        self._last = ceiling
        self._skew_ms_max = skew_ms_max
        self._floor = 0
        self._guard = 0

    @property
    def last(self) -> int:
        """The highest stamp given out or observed."""
        return self._last

    def begin(self, wall_ms: int) -> int:
        """Note the wall clock. Returns the highest stamp to accept from anyone in this step."""
        self._floor = stamp_at(wall_ms)
        self._guard = stamp_at(wall_ms + self._skew_ms_max + 1) - 1
        return self._guard

    def observe(self, stamp: int) -> bool:
        """Advance to a peer's clock. False, and nothing changes, if it is past the guard."""
        if stamp > self._guard:
            return False
        if stamp > self._last:
            self._last = stamp
        return True

    def next(self, above: int = 0) -> int:
        """A new stamp higher than `above` and than all before; 0 if the wall clock is too far
        behind what was seen to give it out now."""
        stamp = self._last + 1
        if stamp < self._floor:
            stamp = self._floor
        if stamp <= above:
            stamp = above + 1
        if stamp > self._guard:
            return 0
        self._last = stamp
        return stamp

    def untrusted_ms(self, above: int = 0) -> int:
        """Milliseconds until a stamp above `above`, which was refused, may be given out, if the
        wall clock goes on evenly."""
        return max(ms_of(max(self._last, above) - self._guard), 0) + 1

    def raise_ceiling(self) -> int:
        """The ceiling to store with what was stamped in this step; 0 if the one before will do."""
        if self._last <= self._ceiling:
            return 0
        ceiling = min(self._last + stamp_at(self._skew_ms_max) // 2, self._guard)
        if ceiling <= self._ceiling:
            # The wall clock stepped back, and the guard with it: nothing above it was given out.
            return 0
        self._ceiling = ceiling
        return ceiling
