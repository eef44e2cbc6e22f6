# SPDX-License-Identifier: GPL-3.0-or-later
"""Time, the network, the nodes, and the log of layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple, Protocol, TypeVar

from tests.models.read_modify_write.replica import Contents, Kind, Replica
from tests.models.read_modify_write.switches import Broken

T = TypeVar("T")

KEYS = 2
END = 300.0
"""When clients, faults and moves are over at the latest."""
STEPS_MAX = 60_000


class Layout(NamedTuple):
    """The row of the partition, and the one that it is to have, if copies move."""

    old: tuple[int, ...]
    new: tuple[int, ...] | None = None
    lost: frozenset[int] = frozenset()
    """Members of `old` whose disk is lost."""

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return [self.old] if self.new is None else [self.old, self.new]

    @property
    def members(self) -> list[int]:
        return sorted({name for row in self.rows for name in row})

    @property
    def gaining(self) -> list[int]:
        """Who has to pull: all that are left of a row that becomes shorter, as what the longer one
        has was acknowledged by fewer of them."""
        new = self.new or ()
        is_shorter = len(new) < len(self.old)
        return [name for name in new if is_shorter or name not in self.old]


class Waits(Protocol):
    """What a task waits for."""

    def begin(self, then: Callable[[], None]) -> None:
        """Call `then` when it is over."""


Task = Generator[Waits, None, T]
"""Steps of a coordinator, with rests in between; returns a T."""


class World:
    """One seeded run, as far as it is no rule of the protocol."""

    def __init__(self, seed: int, broken: Broken, *, moves: bool) -> None:
        self.random = random = Random(seed)
        self.broken = broken
        self.now = 0.0
        self.end = END
        """When clients, faults and moves are over."""
        self.stats: Counter[str] = Counter()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self.contents: Contents = {}
        self._kind = Kind(KEYS, random.choice((5, 8, 32)), random.random() < 0.5)
        copies = random.choice((3, 3, 3, 3, 4, 5))
        self.moves = moves
        count = copies + random.choice((1, 2, 3)) if moves else max(copies, 4)
        self.nodes = [self._replica(name) for name in range(count)]
        self.log = [Layout(tuple(random.sample(range(count), copies)))]
        self._skews = random.choice(((0,), (0, 5, -5), (0, 0, 5, -5, 40, -40)))
        self.skews = [self._skew() for _ in self.nodes]
        self.clocks = [0 for _ in self.nodes]
        self.rounds = [0 for _ in self.nodes]
        """The highest round of a ballot."""
        self.bad = {
            (one, other)
            for one in range(count)
            for other in range(count)
            if one != other and random.random() < random.choice((0.0, 0.15, 0.25))
        }
        """Links that lose and delay."""
        begin = random.random() * 200
        is_away = random.random() < 0.3
        self._away = (
            random.randrange(count) if is_away else -1,
            begin,
            begin + random.choice((30, 80, 200)),
        )
        """A node that nobody can reach, and from when until when."""
        self.lags = random.choice(((1, 1, 2), (1, 2, 3, 30), (1, 2, 3, 30, 60)))
        self.slice = random.choice((5, 10, 20))
        self.cut = random.choice((5, 10, 30))
        """How far in the past the boundaries are that are told."""
        self.pause = random.choice((8, 12, 24))
        """Between two reports of a replica."""
        self.on_new: Callable[[int], None] = lambda _: None
        """Told of a node that is new."""
        self.report_lag = random.choice((1, 1, 10, 40))
        """How long reports take at most, besides."""
        self.stalls = random.choice((0.0, 0.0, 0.05, 0.15, 0.4))
        """Rounds before which a coordinator sleeps."""

    def _replica(self, name: int) -> Replica:
        return Replica(name, self._kind, self.contents, self.broken)

    def _skew(self) -> int:
        return self.random.choice(self._skews)

    @property
    def is_over(self) -> bool:
        """Whether nothing bad happens any more."""
        return self.now >= self.end

    # --- time --------------------------------------------------------------------------------

    def at(self, delay: float, call: Callable[[], None]) -> None:
        """Call it later."""
        self._serial += 1
        heappush(self._queue, (self.now + delay, self._serial, call))

    def run(self) -> None:
        """Play it to the end."""
        steps = 0
        while self._queue and steps < STEPS_MAX:
            steps += 1
            time, _, call = heappop(self._queue)
            self.now = max(self.now, time)
            call()
        self.stats["cut off"] = int(steps == STEPS_MAX)

    def start(self, task: Task[None]) -> None:
        """Have a task go on until it waits, and again whenever that is over."""
        waits = next(task, None)
        if waits is not None:
            waits.begin(lambda: self.start(task))

    # --- clocks and ballots ------------------------------------------------------------------

    def wall(self, name: int) -> int:
        """What a node takes for the time."""
        return int(self.now) + self.skews[name] + 50

    def stamp(self, name: int, above: int = 0) -> int:
        """Higher than all that this node gave out or observed."""
        self.clocks[name] = max(self.clocks[name] + 1, self.wall(name), above + 1)
        return self.clocks[name]

    def ballot(self, name: int, above: int = 0) -> tuple[int, int]:
        """Higher than all of this node, and than that round."""
        self.rounds[name] = max(self.rounds[name], above) + 1
        return self.rounds[name], name + 1

    # --- layouts -----------------------------------------------------------------------------

    def is_quorum(self, epoch: int, names: Iterable[int]) -> bool:
        """Whether these are majorities of all rows of a layout."""
        have = set(names)
        rows = self.log[epoch].rows
        if self.broken("old_only"):
            rows = rows[:1]
        return all([sum([name in have for name in row]) > len(row) // 2 for row in rows])

    def adopt(self, name: int, epoch: int) -> None:
        """A node hears of a layout."""
        node = self.nodes[name]
        if epoch <= node.epoch:
            return
        node.epoch = epoch
        node.reports = {}
        if name not in self.log[epoch].old:
            node.clear()
        if name in self.log[epoch].gaining:
            self.on_gain(name, epoch)

    def on_gain(self, name: int, epoch: int) -> None:
        """A node is to gain a copy."""

    def alive(self) -> list[int]:
        """The nodes whose disk is there."""
        return [node.name for node in self.nodes if not node.is_lost]

    def replace(self, name: int) -> None:
        """A disk is lost: its process comes back as another node, with an empty one."""
        if self.broken("empty_disk_counts"):
            self.nodes[name].clear()
            return
        self.nodes[name].is_lost = True
        self.nodes.append(self._replica(len(self.nodes)))
        self.skews.append(self.skews[name])
        self.clocks.append(0)
        self.rounds.append(0)
        self.on_new(len(self.nodes) - 1)

    # --- the network -------------------------------------------------------------------------

    def is_away(self, name: int) -> bool:
        """Whether nobody reaches a node now."""
        away, begin, end = self._away
        return name == away and begin <= self.now < end and not self.is_over

    def lag(self) -> float:
        """Of one message."""
        lags = (1, 2) if self.is_over else self.lags
        return self.random.choice(lags) * self.random.random()

    def send(
        self,
        source: int,
        target: int,
        epoch: int,
        step: Callable[[Replica], T],
        back: Callable[[T | None], None] | None,
    ) -> None:
        """Have another node take a step under a layout, and hear what it says: None if it has a
        later one."""
        is_bad = (source, target) in self.bad and not self.is_over
        if is_bad and self.random.random() < 0.6:
            return
        is_answer_lost = is_bad and self.random.random() < 0.5
        delay = self.lag() + (120 * self.random.random() if is_bad else 0)

        def deliver() -> None:
            node = self.nodes[target]
            if node.is_lost or self.is_away(target):
                return
            answer: T | None = None
            if epoch >= node.epoch or self.broken("no_fence"):
                self.adopt(target, epoch)
                answer = step(node)
            later = node.epoch

            def hear() -> None:
                if not self.nodes[source].is_lost:
                    if answer is None:
                        self.adopt(source, later)
                    assert back is not None
                    back(answer)

            if back is not None and not is_answer_lost:
                self.at(self.lag(), hear)

        self.at(delay, deliver)
