# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual time: one heap of calls, one seed.

Everything that happens is a call in the heap; ties fall in seeded order. Each part that draws has a
generator of its own, derived from the seed and its name, so that a draw in one shifts no other:
a run with a fault less is else the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

Span = tuple[float, float]
"""Milliseconds, least and most; draws are uniform."""
UpTo = tuple[float, ...]
"""Milliseconds: one limit is drawn, then a time up to it. Several give a heavy tail."""

GAP_MS = 1e-6
"""Between two things that must stay in order."""


class World:
    """One heap of calls, one seed, one time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        """For whoever drives the world; the parts of it have their own."""
        self.now = 0.0
        """Milliseconds since the world began."""
        self._ties = self.generator("ties").random
        self._heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self._serial = count()

    def generator(self, name: str) -> Random:
        """A generator of its own for `name`: a seed that is text is not salted by the process."""
        return Random(f"{self.seed} {name}")

    def at(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made at a time."""
        heappush(self._heap, (ms, self._ties(), next(self._serial), call))

    def after(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made some time from now."""
        heappush(self._heap, (self.now + ms, self._ties(), next(self._serial), call))

    def run_to(self, ms: float) -> None:
        """Make all calls that are due by a time, which it then is."""
        heap = self._heap
        while heap and heap[0][0] <= ms:
            self.now, _, _, call = heappop(heap)
            call()
        self.now = max(self.now, ms)

    def run_until(self, condition: Callable[[], object], deadline_ms: float) -> bool:
        """Go on until the condition holds or the time is over; whether it holds."""
        heap = self._heap
        while not condition():
            if not heap or heap[0][0] > deadline_ms:
                self.now = max(self.now, deadline_ms)
                return False
            self.now, _, _, call = heappop(heap)
            call()
        return True


def draw_up_to(random: Random, limits: UpTo) -> float:
    """A duration."""
    limit = limits[0] if len(limits) == 1 else limits[int(random.random() * len(limits))]
    return random.random() * limit
