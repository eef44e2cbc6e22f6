# SPDX-License-Identifier: GPL-3.0-or-later
"""The clocks of one machine: monotonic time never goes back, wall-clock time is what it is told.

Both run at one rate, as they share an oscillator; steps move the wall clock alone. Monotonic time
begins at a drawn number, so that nobody can take one machine's for another's.
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Instant
from quorate.sim.world import World

EPOCH_MS: Final = 1_700_000_000_000
"""Wall-clock time at the beginning of every world."""
_BOOTED_MS_MAX: Final = 1_000_000_000


class Clock:
    """What a process is told when it asks for the time."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._offset_ms = 0
        self._rate = 1.0
        self._since_ms = 0.0
        """When the rate last changed; until then `_gained_ms` had been gained on the world."""
        self._gained_ms = 0.0
        self._boot_ms = world.generator(f"{name} boot").randrange(_BOOTED_MS_MAX)
        self._worst_ms = 0.0
        self._told = Instant(0, 0)
        self._told_ms = -1.0
        """The world's time at which `_told` was read; negative if rate or offset changed since."""

    @property
    def instant(self) -> Instant:
        """Now."""
        now = self._world.now
        # A turn asks several times, and so do those who judge it.
        if now != self._told_ms:
            local_ms = int(now + self._gained_ms + (now - self._since_ms) * (self._rate - 1.0))
            self._told = Instant(self._boot_ms + local_ms, EPOCH_MS + local_ms + self._offset_ms)
            self._told_ms = now
        return self._told

    @property
    def offset_ms(self) -> int:
        """How far the wall clock was stepped, drift not counted."""
        return self._offset_ms

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        self._note_error()
        self._offset_ms = offset_ms
        self._told_ms = -1.0
        self._note_error()

    @property
    def rate(self) -> float:
        """Milliseconds of this machine in one of the world."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        assert rate > 0, "time does not stand still, nor go back"
        self._note_error()
        now = self._world.now
        self._gained_ms += (now - self._since_ms) * (self._rate - 1.0)
        self._since_ms = now
        self._rate = rate
        self._told_ms = -1.0

    @property
    def error_ms(self) -> float:
        """How far the wall clock is ahead of the world's."""
        return self.instant.wall_ms - EPOCH_MS - self._world.now

    @property
    def worst_ms(self) -> float:
        """The largest error, either way, that there was."""
        self._note_error()
        return self._worst_ms

    def _note_error(self) -> None:
        # Between two changes the error only grows one way: it is largest at one of them.
        self._worst_ms = max(self._worst_ms, abs(self.error_ms))
