# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts follow one another, by one node of the row at a time; who gains pulls; a disk is lost. In
some worlds rows become longer and shorter."""

from __future__ import annotations

from functools import partial

from tests.models.read_modify_write.collecting import QUIET
from tests.models.read_modify_write.replica import Replica
from tests.models.read_modify_write.switches import Broken
from tests.models.read_modify_write.values import Told
from tests.models.read_modify_write.world import Layout, World

SHORTEST = 2
"""Rows."""


class ChangingWorld(World):
    """A world whose row changes."""

    def __init__(self, seed: int, broken: Broken, *, moves: bool) -> None:
        super().__init__(seed, broken, moves=moves)
        random = self.random
        self._moves_left = random.choice((1, 2, 3, 4)) if moves else 0
        self._does_resize = seed % 10 == 9
        self._pull_delay = random.choice((1, 1, 60))
        self._again: int | None = None
        if moves:
            self.at(random.random() * 80, self._drive)
            if random.random() < 0.35:
                self.at(random.random() * 300, self._lose)
            self._gossip()

    # --- deciding ----------------------------------------------------------------------------

    def _append(self, name: int, epoch: int, layout: Layout) -> None:
        """The layout after one is decided once; who comes late hears of it."""
        if len(self.log) - 1 == epoch:
            self.log.append(layout)
            self.stats["layouts"] += 1
        self.adopt(name, len(self.log) - 1)

    def _drive(self) -> None:
        """Some node takes the next step, if it knows the last one."""
        random = self.random
        name = random.choice(self.alive())
        if self.is_over or random.random() < 0.7:
            self.adopt(name, len(self.log) - 1)
        epoch = self.nodes[name].epoch
        layout = self.log[epoch]
        if epoch == len(self.log) - 1:
            if layout.new is None:
                self._begin(name, epoch, layout)
            else:
                self._go_on(name, epoch, layout)
        if self.now < self.end + QUIET:
            self.at(random.random() * random.choice((10, 40)), self._drive)

    def _begin(self, name: int, epoch: int, layout: Layout) -> None:
        random = self.random
        lost = [each for each in layout.old if self.nodes[each].is_lost]
        if not lost and (not self._moves_left or self.is_over):
            return
        spare = [each for each in self.alive() if each not in layout.old]
        if self._does_resize and not lost and random.random() < 0.6:
            self._resize(name, epoch, layout.old, spare)
            return
        if not spare:
            return
        leaving = lost[0] if lost else random.choice(layout.old)
        coming = random.choice(spare)
        if self._again in spare and random.random() < 0.7:
            coming = self._again
        if not lost:
            self._moves_left -= 1
        self._again = leaving
        new = tuple(coming if each == leaving else each for each in layout.old)
        self._append(name, epoch, Layout(layout.old, new, frozenset(lost)))

    def _resize(self, name: int, epoch: int, row: tuple[int, ...], spare: list[int]) -> None:
        random = self.random
        self._moves_left -= 1
        if len(row) > SHORTEST and (not spare or random.random() < 0.6):
            self.stats["rows shortened"] += 1
            leaving = random.choice(row)
            new = tuple(each for each in row if each != leaving)
        elif spare:
            new = (*row, random.choice(spare))
        else:
            return
        self._append(name, epoch, Layout(row, new))

    def _go_on(self, name: int, epoch: int, layout: Layout) -> None:
        assert layout.new is not None
        is_hurt = any(
            [
                self.nodes[each].is_lost and (each in layout.new or each not in layout.lost)
                for each in layout.members
            ]
        )
        if is_hurt or (not self.is_over and self.random.random() < 0.08):
            self.stats["cancels"] += 1
            self._append(name, epoch, Layout(layout.old))
            return
        have: set[int] = set()

        def back(gaining: int, pulled: int | None) -> None:
            if pulled == epoch:
                have.add(gaining)
            if len(have) == len(layout.gaining) and layout.new and len(self.log) - 1 == epoch:
                self.stats["moves"] += 1
                self._append(name, epoch, Layout(layout.new))

        if self.broken("switch_early"):
            self._append(name, epoch, Layout(layout.new))
            return
        for each in layout.gaining:
            self.send(name, each, epoch, lambda node: node.pulled, partial(back, each))

    def _gossip(self) -> None:
        random = self.random
        name, other = random.choice(self.alive()), random.choice(self.alive())
        self.adopt(name, self.nodes[other].epoch)
        if self.now < self.end + QUIET:
            self.at(random.random() * (5 if self.is_over else 30), self._gossip)

    def _lose(self) -> None:
        layout = self.log[-1]
        if self.is_over:
            return
        if layout.new is None and not any([self.nodes[each].is_lost for each in layout.old]):
            self.stats["disks lost"] += 1
            self.replace(self.random.choice(layout.old))

    # --- pulling -----------------------------------------------------------------------------

    def on_gain(self, name: int, epoch: int) -> None:
        """Pull, again and again, until there is enough."""
        self.at(self.random.random() * self._pull_delay, lambda: self._pull(name, epoch, {}))

    def _pull(self, name: int, epoch: int, got: dict[int, Told]) -> None:
        node, layout = self.nodes[name], self.log[epoch]
        if node.is_lost or node.epoch != epoch or node.pulled == epoch:
            return

        def back(source: int, told: Told | None) -> None:
            if told is None or node.epoch != epoch or node.pulled == epoch or node.is_lost:
                return
            got[source] = told
            if self._has_enough(layout, got, name):
                node.take(list(got.values()), is_replica=name in layout.old)
                node.pulled = epoch

        for each in layout.old:
            if each not in got and each != name:
                self.send(name, each, epoch, Replica.tell_all, partial(back, each))
        self.at(80, lambda: self._pull(name, epoch, got))

    def _has_enough(self, layout: Layout, got: dict[int, Told], name: int) -> bool:
        """Whether no majority of the old row avoids the sources, and all that leave are among
        them."""
        if self.broken("pull_from_one"):
            return True
        assert layout.new is not None
        leaving = [
            each for each in layout.old if each not in layout.new and each not in layout.lost
        ]
        majority = len(layout.old) // 2 + 1
        needed = len(layout.old) - majority + 1
        return len(got) + (name in layout.old) >= needed and all([each in got for each in leaving])
