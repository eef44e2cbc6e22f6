# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a link waits before it dials again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

FIRST_MS: Final = 50.0
LONGEST_MS: Final = 2_000.0
"""Ceilings of the first wait for the next try and of the last."""


class Backoff:
    """The waits of one series of tries: exponential, from nothing to the ceiling. Such full jitter
    spreads the retries of many nodes best and costs the least work in all (M. Brooker, "Exponential
    Backoff And Jitter", AWS 2015). The same generator state gives the same waits."""

    __slots__ = ("_ceiling_ms", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ceiling_ms = FIRST_MS

    def next_ms(self) -> float:
        """The wait before the next try; the ceiling doubles from `FIRST_MS` to `LONGEST_MS`."""
        wait = self._random.uniform(0.0, self._ceiling_ms)
        self._ceiling_ms = min(LONGEST_MS, self._ceiling_ms * 2)
        return wait

    def reset(self) -> None:
        """Begin again at `FIRST_MS`: the last try was a success."""
        self._ceiling_ms = FIRST_MS
