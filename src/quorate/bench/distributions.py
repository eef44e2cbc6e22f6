# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key is next: uniform, zipfian, latest, or each once.

Keys are whole numbers from 0. Everything is drawn from one seeded generator, so that runs can be
compared. A draw is on the path of every request: none takes more than a microsecond.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

from quorate.bench.plan import LoadPlan

THETA: Final = 0.99
"""YCSB's."""
_HEAD: Final = 1 << 16
_PRIME: Final = 2_654_435_761
"""Above any number of keys, so that multiplying by it, modulo that number, reorders them."""

Draw = Callable[[], int]


class KeyDraws(NamedTuple):
    """What one worker reads and writes."""

    read: Draw
    write: Draw


class Zipf:
    """Ranks from 0, of which rank i has a share in proportion to 1 / (i + 1) ** THETA.

    The first ranks are looked up in a table of sums. Of the others the sum is taken as the integral
    over k - 0.5 to k + 0.5, which has a closed inverse, and is off by less than one part in 10**9:
    no table of ten million entries, and none of the bias of the usual formula (Gray et al.,
    "Quickly Generating Billion-Record Synthetic Databases", 1994), which is right for two ranks.
    """

    def __init__(self, count: int) -> None:
        head = min(count, _HEAD)
        self._sums = list(accumulate(rank**-THETA for rank in range(1, head + 1)))
        self._head_sum = self._sums[-1]
        self._power = 1 - THETA
        self._start = (head + 0.5) ** self._power
        tail_sum = ((count + 0.5) ** self._power - self._start) / self._power
        self._sum = self._head_sum + tail_sum
        self._last = count - 1

    def rank(self, chance: float) -> int:
        """The rank that `chance`, from 0 up to but not including 1, stands for."""
        part = chance * self._sum
        if part < self._head_sum:
            return bisect_right(self._sums, part)
        end = self._start + (part - self._head_sum) * self._power
        return min(int(end ** (1 / self._power) - 0.5), self._last)


def keys_of(plan: LoadPlan, *, worker: int) -> KeyDraws:
    """What worker number `worker` reads and writes."""
    # The same keys in every run, so that runs can be compared; others in every worker.
    random = Random(worker + 1).random
    inserted = _Inserted(plan, worker)
    draw = _draw(plan, inserted, worker, random)
    return KeyDraws(draw, inserted.new if plan.writes == "insert" else draw)


def _draw(plan: LoadPlan, inserted: _Inserted, worker: int, random: Callable[[], float]) -> Draw:
    count = plan.keys
    if plan.distribution == "uniform":
        return lambda: int(random() * count)
    if plan.distribution == "once":
        return _once(count, worker=worker, workers=plan.workers)
    rank = Zipf(count).rank
    if plan.distribution == "latest":
        return lambda: inserted.before_last(rank(random()))
    # Scrambled, so that what is read most does not lie side by side.
    return lambda: rank(random()) * _PRIME % count


def _once(count: int, *, worker: int, workers: int) -> Draw:
    """All keys, scattered, each once before any comes again."""
    place = worker - workers

    def draw() -> int:
        nonlocal place
        place += workers
        return place * _PRIME % count

    return draw


class _Inserted:
    """The keys that one worker added: of the numbers above the first keys it has every n-th."""

    def __init__(self, plan: LoadPlan, worker: int) -> None:
        self._keys = plan.keys
        self._first = plan.keys + worker
        self._step = plan.workers
        self._count = 0
        self._under_way = plan.connections * plan.pipeline // plan.workers + 1
        """So many of the newest keys may still be on their way, and are not read."""

    def new(self) -> int:
        """A key that nobody wrote before."""
        number = self._first + self._count * self._step
        self._count += 1
        return number

    def before_last(self, rank: int) -> int:
        """The newest key that should be there for rank 0, then older ones."""
        place = max(self._count - self._under_way, 0) - 1 - rank
        if place < 0:
            return self._keys + place
        return self._first + place * self._step
