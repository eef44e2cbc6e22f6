# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters on real nodes that are killed while they count: no increment is lost, none is done twice
(I19).

`scripts/exact KILLS` does it whole; here are some kills of it.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from functools import partial

from quorate.client import Client
from quorate.errors import Outcome, QuorateError
from tests.cluster.processes import Cluster, wait_until
from tests.cluster.threads import Threads

KILLS = int(os.environ.get("QUORATE_EXACT_ROUNDS", "4"))
COUNTED = 1_000
"""Increments between two kills, at least."""
KEYS = ("hot", *[f"counter-{number}" for number in range(20)])


class Counting(Threads):
    """Threads that increment, each through one node, mostly the same counter."""

    def __init__(self, urls: Sequence[str], *, writers: int) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        super().__init__(partial(self._count, urls[i % len(urls)], i) for i in range(writers))

    @property
    def count(self) -> int:
        """Increments acknowledged so far."""
        return self.acknowledged.total()

    def _count(self, url: str, number: int) -> None:
        drawn = random.Random(number)
        with Client(url, timeout=10) as client:
            while not self.stop.is_set():
                key = KEYS[0] if drawn.random() < 0.5 else drawn.choice(KEYS)
                self._increment(client, key, drawn.choice((1, 1, 3)))

    def _increment(self, client: Client, key: str, by: int) -> None:
        try:
            client.increment(key, by)
        except QuorateError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                with self.lock:
                    self.unknown[key] += by
            self.stop.wait(0.01)
        else:
            with self.lock:
                self.acknowledged[key] += by


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
    with Client(cluster.urls[0], timeout=10) as client:
        for key in KEYS:
            found = client.get(key)
            value = 0 if found is None else int(found.value)
            least = counting.acknowledged[key]
            most = least + counting.unknown[key]
            assert least <= value <= most, f"{key}: {least} acknowledged, at most {most}"
    # Most are exact, so that the bounds above say something.
    assert counting.unknown.total() < counting.acknowledged.total() / 10
