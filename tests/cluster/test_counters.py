# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters on real nodes that are killed while they count: no increment is lost, none is done twice
(I19).

`scripts/exact KILLS` does it whole; here are some kills of it.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
from collections import Counter
from collections.abc import Sequence
from functools import partial

from quorate.client import Client
from quorate.errors import Outcome, QuorateError
from tests.cluster.processes import Cluster, wait_until
from tests.cluster.threads import Threads

ROUNDS = int(os.environ.get("QUORATE_EXACT_ROUNDS", "0"))
KILLS, COUNTED = (ROUNDS, 1_000) if ROUNDS else (4, 300)
"""COUNTED: increments between two kills, at least."""
KEYS = ("hot", *[f"counter-{number}" for number in range(20)])


class Counting(Threads):
    """Threads that increment, each through one node, mostly the same counter."""

    def __init__(self, urls: Sequence[str], *, writers: int, keys: Sequence[str] = KEYS) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        """What these added up to, by key."""
        self.counts = [0] * writers
        """Increments acknowledged so far, by thread."""
        self.count_unknown = 0
        self._keys = keys
        super().__init__(partial(self._count, urls[i % len(urls)], i) for i in range(writers))

    @property
    def count(self) -> int:
        """Increments acknowledged so far."""
        return sum(self.counts)

    def wrong(self, url: str) -> list[str]:
        """The counters that lost an increment, or have one twice, as a node tells them."""
        found = []
        with Client(url, timeout=10) as client:
            for key in self._keys:
                told = client.get(key)
                value, least = 0 if told is None else int(told.value), self.acknowledged[key]
                most = least + self.unknown[key]
                if not least <= value <= most:
                    found.append(f"{key} is {value}: {least} acknowledged, at most {most}")
        return found

    def _count(self, url: str, number: int) -> None:
        drawn = random.Random(number)
        with Client(url, timeout=10) as client:
            while not self.stop.is_set():
                key = self._keys[0] if drawn.random() < 0.5 else drawn.choice(self._keys)
                self._increment(client, number, key, drawn.choice((1, 1, 3)))

    def _increment(self, client: Client, number: int, key: str, by: int) -> None:
        try:
            client.increment(key, by)
        except QuorateError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                with self.lock:
                    self.unknown[key] += by
                    self.count_unknown += 1
            self.stop.wait(0.01)
        else:
            with self.lock:
                self.acknowledged[key] += by
                self.counts[number] += 1


def test_counters_are_exact_whoever_is_killed_under_load(cluster: Cluster) -> None:
    """`kill -9` of one node, now and then of two, over and over."""
    drawn = random.Random(17)
    with Counting(cluster.urls, writers=9) as counting:
        for _ in range(KILLS):
            until = counting.count + COUNTED
            wait_until(
                lambda until=until: counting.count >= until,  # type: ignore[misc]
                within_s=120,
                what=f"{until} increments",
            )
            victims = drawn.sample(cluster.nodes, drawn.choice((1, 1, 2)))
            for node in victims:
                node.signal(signal.SIGKILL)
            for node in victims:
                node.wait()
            cluster.start()
            cluster.wait_ready()
    assert counting.wrong(cluster.urls[0]) == []
    print(f"{counting.count:,} increments, {counting.count_unknown:,} of unknown outcome")
    assert counting.count >= KILLS * COUNTED
    # Most are exact, so that the bounds above say something.
    assert counting.count_unknown < counting.count / 10


def test_nobody_who_counts_on_a_hot_counter_is_left_behind(cluster: Cluster) -> None:
    """64 clients of three nodes count on one key, 40 times each on the average: each within five
    times of the median."""
    with Counting(cluster.urls, writers=64, keys=KEYS[:1]) as counting:
        wait_until(lambda: counting.count >= 40 * 64, within_s=120, what="they counted")
    median = statistics.median(counting.counts)
    print(f"{min(counting.counts)} to {max(counting.counts)} times, the median {median}")
    assert median / 5 <= min(counting.counts) <= max(counting.counts) <= median * 5
