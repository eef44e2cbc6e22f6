# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that expect each other, with the store's own state machine (`core.topology.founding`).

They see each other at different times, some only their own group for long; messages are lost, or
come seconds late; a crash loses what was not durable. Whatever happens, two lists that both found a
cluster have no node in common. What keeps that is a method each here, so that a test can do it
wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import combinations
from random import Random

from quorate.core.topology.founding import Addressed, Founder, Founding
from quorate.core.values.messages import Foundation, FoundStage

END_MS = 60_000.0
QUIET_MS = 30_000.0
"""From then on nothing is lost, late or down, and all see each other."""
LOOK_MS = 200.0
LAGS_MS = (1, 5, 50, 400, 6_000)
LOST = 0.1
CRASHES = 0.15
"""Of what was kept or said, after each of which the node crashes."""
TOLD = 0.1
"""How often a node that looks hears of the layouts of those that it sees."""
SHAPES = ((3, 3, 1), (5, 3, 1), (6, 3, 2), (4, 3, 1), (4, 4, 1), (2, 2, 1), (6, 3, 1))
"""How many nodes, how many are expected, and in how many groups they see each other at first."""


class FoundingNode:
    """One disk, and the process on it."""

    def __init__(self, own: Founder, count: int, random: Random, kind: type[Founding]) -> None:
        self.own = own
        self.count = count
        self.random = random
        self.kind = kind
        self.kept: bytes | None = None
        """What the disk has of its promise."""
        self.layout: tuple[Founder, ...] = ()
        """The list of the cluster that it is of."""
        self.sync_ms = random.choice((0.1, 5, 300))
        self.life = 0
        self.start()

    def start(self) -> None:
        """Begin with what the disk has."""
        self.life += 1
        self.founding = self.kind(
            self.own, count=self.count, replication=3, stored=self.kept, random=self.random
        )


class FoundingWorld:
    """All that happens, drawn from a seed."""

    kind: type[Founding] = Founding

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.now = 0.0
        self.seen: Counter[str] = Counter()
        self.founded: dict[tuple[Founder, ...], set[int]] = {}
        """Each list that founded a cluster, and who found so."""
        count, self.expected, groups = SHAPES[seed % len(SHAPES)]
        self.nodes = {
            number: FoundingNode((number, f"http://n{number}:1"), self.expected, random, self.kind)
            for number in random.sample(range(1, 100), count)
        }
        self._entered = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        names = list(self.nodes)
        apart_ms = random.choice((0, 0, QUIET_MS))
        self._sees_from = {
            frozenset(pair): random.random() * random.choice((1, 1_000, 20_000))
            + (apart_ms if names.index(pair[0]) % groups != names.index(pair[1]) % groups else 0)
            for pair in combinations(names, 2)
        }
        for name in names:
            self._after(random.random() * LOOK_MS, partial(self._look, name))

    def run(self) -> FoundingWorld:
        """Let all happen."""
        while self._queue and self._queue[0][0] <= END_MS:
            self.now, _, call = heappop(self._queue)
            call()
        return self

    def violations(self) -> list[str]:
        """What must not be."""
        found = [
            f"{one} and {other} share a node"
            for one, other in combinations(self.founded, 2)
            if set(one) & set(other)
        ]
        return found + [f"{each} is too short" for each in self.founded if not self._is_whole(each)]

    def _is_whole(self, founders: tuple[Founder, ...]) -> bool:
        return len(set(founders)) == self.expected

    # --- what has to be done right ---------------------------------------------------------------

    def keep(self, node: FoundingNode, promise: bytes) -> None:
        """The promise is on disk."""
        node.kept = promise

    # --- what happens ----------------------------------------------------------------------------

    def _look(self, name: int) -> None:
        self._after(LOOK_MS, partial(self._look, name))
        node = self.nodes[name]
        if node.layout:
            return
        seen = [other for other in self.nodes.values() if self._sees(node, other)]
        promised = node.founding.promised
        is_told = self.now > QUIET_MS or self.random.random() < TOLD
        for other in seen if is_told else ():
            if other.layout and (not promised or other.own in promised):
                node.layout = other.layout
                return
        found = [other.own for other in seen if not other.layout]
        self._carry_out(node, node.founding.look(int(self.now), found))

    def _sees(self, node: FoundingNode, other: FoundingNode) -> bool:
        pair = frozenset((node.own[0], other.own[0]))
        return len(pair) == 2 and (self.now > QUIET_MS or self.now >= self._sees_from[pair])

    def _carry_out(self, node: FoundingNode, said: list[Addressed]) -> None:
        founding, life = node.founding, node.life
        for target, message in said:
            self.seen[FoundStage(message.stage).name] += 1
            self._send(partial(self._hear, target, node.own[0], message))
        promise, founding.keep = founding.keep, None
        if promise is not None:
            self._after(node.sync_ms, partial(self._durable, node, life, promise))
        if founding.founded and not node.layout:
            node.layout = founding.founded
            self.founded.setdefault(node.layout, set()).add(node.own[0])
        if said and self.now < QUIET_MS and self.random.random() < CRASHES:
            self.seen["crashes"] += 1
            node.start()

    def _durable(self, node: FoundingNode, life: int, promise: bytes) -> None:
        if node.life == life:
            self.keep(node, promise)
            self._carry_out(node, node.founding.kept())

    def _hear(self, target: int, sender: int, message: Foundation) -> None:
        node = self.nodes[target]
        if not node.layout or node.founding.promised:
            self._carry_out(node, node.founding.hear(sender, message, int(self.now)))

    def _after(self, ms: float, call: Callable[[], None]) -> None:
        self._entered += 1
        heappush(self._queue, (self.now + ms, self._entered, call))

    def _send(self, deliver: Callable[[], None]) -> None:
        if self.now > QUIET_MS:
            self._after(self.random.random(), deliver)
        elif self.random.random() > LOST:
            self._after(self.random.choice(LAGS_MS) * self.random.random(), deliver)
        else:
            self.seen["losses"] += 1
